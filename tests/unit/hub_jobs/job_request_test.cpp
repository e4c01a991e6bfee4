// What PUT /jobs/v2/{id} takes and what it refuses; how a job looks as JSON.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/hub/jobs/job.hpp"

namespace twinstorm::hub::jobs {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

const WallTime kNow = *parse_iso8601("2026-03-01T10:00:00Z");

Json update_body() {
  return Json::parse(R"({"jobId":"job01","type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"ring":2}},
                         "queryCondition":"deviceId IN ['d1']"})");
}

Json method_body() {
  return Json::parse(R"({"jobId":"job01","type":"scheduleDeviceMethod","cloudToDeviceMethod":
                         {"methodName":"m","payload":null,"responseTimeoutInSeconds":30},"queryCondition":"*"})");
}

ServiceResult<JobSpec> parse(const Json& body, std::string_view id = "job01") {
  return parse_job_request(id, body.dump(), kNow);
}

/// "" when it is taken, else status, name and text.
std::string refusal(const Json& body, std::string_view id = "job01") {
  const auto spec = parse(body, id);
  return spec ? "" : fmt::format("{} {} {}", spec.error().status, spec.error().name, spec.error().message);
}

TEST(JobRequest, AnUpdateHasItsPatchAndDefaults) {
  const auto spec = parse(update_body());
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->id, "job01");
  EXPECT_EQ(spec->type, JobType::update_twin);
  EXPECT_EQ(spec->condition, "deviceId IN ['d1']");
  EXPECT_EQ(spec->update_twin.find_path("tags.ring")->text(), "2");
  EXPECT_EQ(spec->created, kNow);
  EXPECT_EQ(spec->start, kNow);
  EXPECT_EQ(spec->execution_seconds, 3600);
}

TEST(JobRequest, AMethodHasItsRequest) {
  Json body = method_body();
  body["cloudToDeviceMethod"]["payload"] = {{"delay", 5}};
  const auto spec = parse(body);
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->type, JobType::device_method);
  EXPECT_EQ(spec->method.name, "m");
  EXPECT_EQ(spec->method.payload, R"({"delay":5})");
  EXPECT_EQ(spec->method.response_timeout, 30s);
}

TEST(JobRequest, IdsAreLowerCaseAndAtMostSixtyFourCharacters) {
  for (const std::string& id : {std::string{"a"}, std::string{"job-1"}, std::string{"it's"}, std::string(64, 'x')}) {
    Json body = update_body();
    body["jobId"] = id;
    EXPECT_EQ(refusal(body, id), "") << id;
  }
  for (const std::string& id :
       {std::string{}, std::string{"Job"}, std::string{"a_b"}, std::string{"a.b"}, std::string(65, 'x')}) {
    Json body = update_body();
    body["jobId"] = id;
    EXPECT_THAT(refusal(body, id), HasSubstr("400 ArgumentInvalid the job id")) << id;
  }
  EXPECT_THAT(refusal(update_body(), "other"), HasSubstr("not that in the path, 'other'"));
  Json body = update_body();
  body.erase("jobId");
  EXPECT_EQ(refusal(body), "");
}

TEST(JobRequest, OnlyTheStarIsAnEtagOfAnUpdate) {
  for (const Json& etag : {Json{"AAAAAAAAAAE="}, Json{""}, Json{nullptr}, Json{1}, Json{"\"*\""}}) {
    Json body = update_body();
    body["updateTwin"]["etag"] = etag;
    EXPECT_EQ(refusal(body), "400 ArgumentInvalid 'updateTwin.etag' must be '*'") << etag;
  }
  Json body = update_body();
  body["updateTwin"].erase("etag");
  EXPECT_EQ(refusal(body), "400 ArgumentInvalid 'updateTwin.etag' must be '*'");
}

TEST(JobRequest, WhatNoTwinCanTakeIsRefusedAtOnce) {
  Json body = update_body();
  body["updateTwin"]["tags"]["a.b"] = 1;
  EXPECT_THAT(refusal(body), HasSubstr("400 ArgumentInvalid"));
  body = update_body();
  body["updateTwin"]["properties"] = {{"desired", {{"gone", nullptr}}}};
  EXPECT_EQ(refusal(body), "");
  body["updateTwin"]["properties"] = {{"desired", {{"a", std::string(4097, 'x')}}}};
  EXPECT_THAT(refusal(body), HasSubstr("400 ArgumentInvalid"));
}

TEST(JobRequest, TheStartIsWithinAWeek) {
  const auto at = [](Json start) {
    Json body = update_body();
    body["startTime"] = std::move(start);
    return body;
  };
  EXPECT_EQ(parse(at("2026-03-08T10:00:00.000Z"))->start, kNow + 168h);
  EXPECT_THAT(refusal(at("2026-03-08T10:00:01Z")), HasSubstr("more than 168 hours from now"));
  EXPECT_EQ(parse(at("2026-02-01T10:00:00Z"))->start, kNow - 28 * 24h);
  EXPECT_EQ(parse(at(nullptr))->start, kNow);
  EXPECT_EQ(parse(at(""))->start, kNow);
  EXPECT_EQ(parse(at("0001-01-01T00:00:00Z"))->start, kNow);
  EXPECT_THAT(refusal(at("tomorrow")), HasSubstr("400 ArgumentInvalid 'startTime'"));
  EXPECT_THAT(refusal(at(5)), HasSubstr("'startTime' must be a string"));
}

TEST(JobRequest, TheExecutionTimeIsAPositiveNumber) {
  const auto with = [](Json seconds) {
    Json body = update_body();
    body["maxExecutionTimeInSeconds"] = std::move(seconds);
    return body;
  };
  EXPECT_EQ(parse(with(1))->execution_seconds, 1);
  EXPECT_EQ(parse(with(nullptr))->execution_seconds, 3600);
  for (const Json& wrong : {Json{0}, Json{-1}, Json{1.5}, Json{"60"}, Json{2'147'483'648LL}}) {
    EXPECT_THAT(refusal(with(wrong)), HasSubstr("'maxExecutionTimeInSeconds' must be a whole number from 1")) << wrong;
  }
}

TEST(JobRequest, EveryMemberIsNamedWhenItIsWrong) {
  const auto without = [](Json body, const char* member) {
    body.erase(member);
    return body;
  };
  EXPECT_THAT(refusal(without(update_body(), "type")), HasSubstr("'type' is ''"));
  Json body = update_body();
  body["type"] = "export";
  EXPECT_THAT(refusal(body), HasSubstr("'type' is 'export', 'scheduleUpdateTwin' or"));
  body["type"] = "SCHEDULEUPDATETWIN";
  EXPECT_EQ(refusal(body), "");
  EXPECT_THAT(refusal(without(update_body(), "updateTwin")), HasSubstr("'updateTwin' must be an object"));
  EXPECT_THAT(refusal(without(update_body(), "queryCondition")), HasSubstr("'queryCondition' is missing"));
  EXPECT_THAT(refusal(without(method_body(), "cloudToDeviceMethod")),
              HasSubstr("'cloudToDeviceMethod' must be an object"));
  body = method_body();
  body["cloudToDeviceMethod"]["responseTimeoutInSeconds"] = 4;
  EXPECT_THAT(refusal(body), HasSubstr("400 ArgumentInvalid 'responseTimeoutInSeconds'"));
  body = method_body();
  body["cloudToDeviceMethod"]["payload"] = std::string(128 * 1024, 'x');
  EXPECT_THAT(refusal(body), HasSubstr("413 MessageTooLarge"));
  EXPECT_THAT(refusal(Json::array()), HasSubstr("400 ArgumentInvalid"));
  EXPECT_FALSE(parse_job_request("job01", "{", kNow));
}

TEST(JobRequest, AnInvalidConditionIsNotLookedAt) {
  Json body = update_body();
  body["queryCondition"] = "nonsense ((";
  EXPECT_EQ(refusal(body), "");
}

TEST(JobJson, HasTheMembersOfAJobResponse) {
  Json body = method_body();
  body["startTime"] = "2026-03-01T11:00:00.5Z";
  Job job;
  job.spec = std::make_shared<const JobSpec>(*parse(body));
  job.status = JobStatus::running;
  job.progress = {10, 2, 4, 1};
  std::string text;
  write_job(job, text);
  Json json = Json::parse(text);
  EXPECT_EQ(json, Json::parse(R"({"jobId":"job01","type":"scheduleDeviceMethod","status":"running",
      "queryCondition":"*","createdTime":"2026-03-01T10:00:00Z","startTime":"2026-03-01T11:00:00.5Z",
      "maxExecutionTimeInSeconds":3600,
      "cloudToDeviceMethod":{"methodName":"m","payload":null,"responseTimeoutInSeconds":30},
      "deviceJobStatistics":{"deviceCount":10,"failedCount":1,"succeededCount":4,"runningCount":2,"pendingCount":3}})"));
  job.status = JobStatus::failed;
  job.failure_reason = "because \"so\"";
  job.ended = kNow;
  text.clear();
  write_job(job, text);
  json = Json::parse(text);
  EXPECT_EQ(json["failureReason"], "because \"so\"");
  EXPECT_EQ(json["endTime"], "2026-03-01T10:00:00Z");
  text.clear();
  write_created_job(job, text);
  EXPECT_EQ(text, R"({"jobId":"job01","type":"scheduleDeviceMethod","status":"queued"})");
  text.clear();
  write_unknown_job("x\"y", text);
  EXPECT_EQ(text, R"({"jobId":"x\"y","type":"unknown","status":"unknown"})");
}

}  // namespace
}  // namespace twinstorm::hub::jobs
