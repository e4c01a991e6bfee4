#include "sim/protocol/service_routes.hpp"

#include <gtest/gtest.h>

namespace twinstorm::protocol {
namespace {

using Op = ServiceOperation;

struct Case {
  const char* method;
  const char* target;
  Op operation;
  const char* ids;  // all captured ids joined by |
};

std::string ids_of(const ServiceRoute& route) {
  std::string out;
  for (const auto* id : {&route.device_id, &route.module_id, &route.job_id, &route.configuration_id, &route.lock_token,
                         &route.component_path, &route.command_name}) {
    if (id->empty()) continue;
    if (!out.empty()) out += '|';
    out += *id;
  }
  return out;
}

TEST(ServiceRoutes, KnowEveryResourceOfTheService) {
  const Case cases[] = {
      {"PUT", "/devices/d1", Op::create_or_update_device, "d1"},
      {"GET", "/devices/d1", Op::get_device, "d1"},
      {"DELETE", "/devices/d1", Op::delete_device, "d1"},
      {"GET", "/devices/", Op::list_devices, ""},
      {"GET", "/devices", Op::list_devices, ""},
      {"POST", "/devices", Op::bulk_devices, ""},
      {"POST", "/devices/query", Op::query_devices, ""},
      {"GET", "/statistics/devices", Op::device_statistics, ""},
      {"GET", "/statistics/service", Op::service_statistics, ""},
      {"PUT", "/devices/d/modules/m", Op::create_or_update_module, "d|m"},
      {"GET", "/devices/d/modules/m", Op::get_module, "d|m"},
      {"DELETE", "/devices/d/modules/m", Op::delete_module, "d|m"},
      {"GET", "/devices/d/modules", Op::list_modules, "d"},
      {"POST", "/devices/d/applyConfigurationContent", Op::apply_configuration, "d"},
      {"DELETE", "/devices/d/commands", Op::purge_commands, "d"},
      {"GET", "/twins/d", Op::get_twin, "d"},
      {"PATCH", "/twins/d", Op::patch_twin, "d"},
      {"PUT", "/twins/d", Op::replace_twin, "d"},
      {"GET", "/twins/d/modules/m", Op::get_twin, "d|m"},
      {"PATCH", "/twins/d/modules/m", Op::patch_twin, "d|m"},
      {"PUT", "/twins/d/modules/m", Op::replace_twin, "d|m"},
      {"POST", "/twins/d/methods", Op::invoke_method, "d"},
      {"POST", "/twins/d/modules/m/methods", Op::invoke_method, "d|m"},
      {"PUT", "/jobs/v2/j", Op::create_job, "j"},
      {"GET", "/jobs/v2/j", Op::get_job, "j"},
      {"POST", "/jobs/v2/j/cancel", Op::cancel_job, "j"},
      {"GET", "/jobs/v2/query?jobType=scheduleUpdateTwin", Op::query_jobs, ""},
      {"PUT", "/jobs/v2/query", Op::create_job, "query"},
      {"POST", "/jobs/create", Op::create_import_export_job, ""},
      {"GET", "/jobs", Op::list_import_export_jobs, ""},
      {"GET", "/jobs/j", Op::get_import_export_job, "j"},
      {"DELETE", "/jobs/j", Op::cancel_import_export_job, "j"},
      {"PUT", "/configurations/c", Op::create_or_update_configuration, "c"},
      {"GET", "/configurations/c", Op::get_configuration, "c"},
      {"DELETE", "/configurations/c", Op::delete_configuration, "c"},
      {"GET", "/configurations", Op::list_configurations, ""},
      {"POST", "/configurations/testQueries", Op::test_configuration_queries, ""},
      {"GET", "/messages/serviceBound/feedback", Op::receive_feedback, ""},
      {"DELETE", "/messages/servicebound/feedback/l", Op::complete_feedback, "l"},
      {"POST", "/messages/serviceBound/feedback/l/abandon", Op::abandon_feedback, "l"},
      {"GET", "/digitaltwins/d", Op::get_digital_twin, "d"},
      {"PATCH", "/digitaltwins/d", Op::patch_digital_twin, "d"},
      {"POST", "/digitaltwins/d/commands/c", Op::invoke_digital_twin_command, "d|c"},
      {"POST", "/digitaltwins/d/components/p/commands/c", Op::invoke_digital_twin_command, "d|p|c"},
      {"GET", "/devices/query", Op::get_device, "query"},
      {"GET", "https://hub.example:443/twins/d?api-version=1", Op::get_twin, "d"},
  };
  for (const auto& one : cases) {
    const auto route = parse_service_route(one.method, one.target);
    ASSERT_TRUE(route) << one.method << " " << one.target << ": " << route.error().message;
    EXPECT_EQ(to_string(route->operation), std::string{to_string(one.operation)}) << one.method << " " << one.target;
    EXPECT_EQ(ids_of(*route), one.ids) << one.target;
  }
}

TEST(ServiceRoutes, DecodeEachSegmentAfterSplitting) {
  EXPECT_EQ(parse_service_route("GET", "/twins/a%2Fb%20c%3A%23%3F'!(x)*").value().device_id, "a/b c:#?'!(x)*");
  EXPECT_EQ(parse_service_route("GET", "/devices/a+b/modules/%24edgeHub").value().module_id, "$edgeHub");
}

TEST(ServiceRoutes, ReadParametersWithoutCase) {
  const auto route = parse_service_route("GET", "/devices/?API-Version=2021-04-12&Top=25&jobType=a%20b&empty").value();
  EXPECT_EQ(route.api_version(), "2021-04-12");
  EXPECT_EQ(route.top(), 25);
  EXPECT_EQ(route.parameter("JOBTYPE"), "a b");
  EXPECT_EQ(route.parameter("empty"), "");
  EXPECT_EQ(route.parameter("absent"), std::nullopt);
  EXPECT_EQ(parse_service_route("GET", "/devices?top=many").value().top(), std::nullopt);
}

TEST(ServiceRoutes, TellUnknownPathsFromUnknownMethods) {
  for (const auto* target :
       {"", "/", "/nothing", "/devices/a/b", "/devices//modules/m", "/twins/a/b/c/d/e/f/g", "devices/a"}) {
    const auto route = parse_service_route("GET", target);
    ASSERT_FALSE(route) << target;
    EXPECT_EQ(route.error().code, ErrorCode::not_found) << target;
  }
  const auto wrong_method = parse_service_route("DELETE", "/twins/d?api-version=1");
  EXPECT_EQ(wrong_method.error().code, ErrorCode::precondition_failed);
  EXPECT_EQ(wrong_method.error().message, "DELETE /twins/d: the resource exists, but not with this method");
  const auto broken = parse_service_route("GET", "/twins/%zz");
  EXPECT_EQ(broken.error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(broken.error().message, "GET /twins/%zz: broken percent-encoding at character 0: % wants two hex digits");
  EXPECT_EQ(parse_service_route("GET", "/twins/d?x=%").error().code, ErrorCode::invalid_argument);
}

TEST(ServiceTargets, AreReadBackAsWhatTheyName) {
  const std::string odd = "a/b c?d#e%f+ü";
  const auto check = [&](const char* method, const std::string& target, Op operation, const std::string& ids) {
    const auto route = parse_service_route(method, target);
    ASSERT_TRUE(route) << target;
    EXPECT_EQ(route->operation, operation) << target;
    EXPECT_EQ(ids_of(*route), ids);
    EXPECT_EQ(route->api_version(), "2021-04-12");
  };
  check("GET", service_target::device(odd), Op::get_device, odd);
  check("POST", service_target::devices(), Op::bulk_devices, "");
  check("GET", service_target::device_list(100), Op::list_devices, "");
  EXPECT_EQ(parse_service_route("GET", service_target::device_list(100)).value().top(), 100);
  check("POST", service_target::query(), Op::query_devices, "");
  check("GET", service_target::device_statistics(), Op::device_statistics, "");
  check("GET", service_target::service_statistics(), Op::service_statistics, "");
  check("PUT", service_target::module(odd, "m/1"), Op::create_or_update_module, odd + "|m/1");
  check("GET", service_target::modules(odd), Op::list_modules, odd);
  check("PATCH", service_target::twin(odd), Op::patch_twin, odd);
  check("PATCH", service_target::twin(odd, "m"), Op::patch_twin, odd + "|m");
  check("POST", service_target::method(odd), Op::invoke_method, odd);
  check("POST", service_target::method(odd, "m"), Op::invoke_method, odd + "|m");
  check("PUT", service_target::job(odd), Op::create_job, odd);
  check("PUT", service_target::configuration(odd), Op::create_or_update_configuration, odd);
  std::string appended;
  service_target::append_twin(appended, odd);
  EXPECT_EQ(appended, service_target::twin(odd));
}

}  // namespace
}  // namespace twinstorm::protocol
