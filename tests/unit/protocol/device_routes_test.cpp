// HTTP resources of devices and the hub's own ones.
#include "sim/protocol/device_routes.hpp"

#include <gtest/gtest.h>

namespace twinstorm::protocol {
namespace {

using Op = DeviceOperation;

TEST(DeviceRoutesTest, KnowEveryResourceOfADevice) {
  struct Case {
    const char* method;
    std::string target;
    Op operation;
    const char* token;
  };
  const Case cases[] = {
      {"POST", device_target::events("dev1"), Op::send_events, ""},
      {"GET", device_target::messages("dev1"), Op::receive_message, ""},
      {"DELETE", device_target::complete("dev1", "t/1"), Op::complete_message, "t/1"},
      {"DELETE", device_target::reject("dev1", "t1"), Op::reject_message, "t1"},
      {"POST", device_target::abandon("dev1", "t1"), Op::abandon_message, "t1"},
      {"POST", "/devices/dev1/files?api-version=2021-04-12", Op::initiate_file_upload, ""},
      {"POST", "/devices/dev1/files/notifications/c%2F1?api-version=2021-04-12", Op::complete_file_upload, ""},
      {"POST", "/devices/dev1/files/notifications?api-version=2021-04-12", Op::complete_file_upload, ""},
  };
  for (const Case& c : cases) {
    const auto route = parse_device_route(c.method, c.target);
    ASSERT_TRUE(route) << c.target << ": " << route.error().message;
    EXPECT_EQ(route->operation, c.operation) << c.target;
    EXPECT_EQ(route->device_id, "dev1");
    EXPECT_EQ(route->module_id, "");
    EXPECT_EQ(route->lock_token, c.token);
    EXPECT_EQ(route->api_version, "2021-04-12");
  }
}

TEST(DeviceRoutesTest, IdsMayHoldAnyCharacterAndModulesHaveTheSameResources) {
  const auto route = parse_device_route("POST", device_target::events("a/b c%#", "m?1"));
  ASSERT_TRUE(route);
  EXPECT_EQ(route->device_id, "a/b c%#");
  EXPECT_EQ(route->module_id, "m?1");
  EXPECT_EQ(parse_device_route("GET", device_target::messages("d", "m"))->operation, Op::receive_message);
}

TEST(DeviceRoutesTest, SayWhyNot) {
  EXPECT_EQ(parse_device_route("GET", "/devices/dev1/messages/events").error().code, ErrorCode::precondition_failed);
  EXPECT_EQ(parse_device_route("PUT", "/devices/dev1/messages/devicebound/t").error().code,
            ErrorCode::precondition_failed);
  EXPECT_EQ(parse_device_route("GET", "/devices/dev1").error().code, ErrorCode::not_found);
  EXPECT_EQ(parse_device_route("DELETE", "/devices/dev1/commands").error().code, ErrorCode::not_found);
  EXPECT_EQ(parse_device_route("GET", "/twins/dev1/messages/devicebound").error().code, ErrorCode::not_found);
  EXPECT_EQ(parse_device_route("POST", "/devices//messages/events").error().code, ErrorCode::not_found);
  EXPECT_EQ(parse_device_route("POST", "/devices/d/modules/m/files").error().code, ErrorCode::not_found);
  EXPECT_EQ(parse_device_route("POST", "/devices/%zz/messages/events").error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(parse_device_route("POST", "/a/b/c/d/e/f/g/h/i/j").error().code, ErrorCode::not_found);
}

TEST(ExtensionRoutesTest, AreParsedBack) {
  using Ext = ExtensionOperation;
  EXPECT_EQ(parse_extension_route("POST", extension_target::enqueue("d 1"))->operation, Ext::enqueue_message);
  EXPECT_EQ(parse_extension_route("POST", extension_target::enqueue("d 1"))->device_id, "d 1");
  const auto input = parse_extension_route("POST", extension_target::input("d", "m", "in/1"));
  ASSERT_TRUE(input);
  EXPECT_EQ(input->operation, Ext::send_input);
  EXPECT_EQ(input->module_id, "m");
  EXPECT_EQ(input->input, "in/1");
  EXPECT_EQ(parse_extension_route("GET", extension_target::watch_events("d", "m"))->operation, Ext::watch_events);
  EXPECT_EQ(parse_extension_route("POST", extension_target::disconnect("d"))->operation, Ext::disconnect);
  EXPECT_EQ(parse_extension_route("GET", extension_target::disconnect("d")).error().code,
            ErrorCode::precondition_failed);
  EXPECT_EQ(parse_extension_route("POST", "/twinstorm/devices/d/inputs/x").error().code, ErrorCode::not_found);
  EXPECT_EQ(parse_extension_route("GET", "/twinstorm/counts").error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace twinstorm::protocol
