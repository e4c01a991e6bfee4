// The states of jobs, with a clock and results that are the test's.
#include "sim/hub/jobs/job_book.hpp"

#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace twinstorm::hub::jobs {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class JobBookTest : public ::testing::Test {
 protected:
  Instant now() const { return {clock.mono(), clock.wall()}; }
  JobSpec spec(std::string id, Nanos start_in = 0s, int64_t seconds = 3600) const {
    JobSpec made;
    made.id = std::move(id);
    made.created = clock.wall();
    made.start = clock.wall() + start_in;
    made.execution_seconds = seconds;
    made.action_json = "{}";
    return made;
  }
  /// The job's number, or 0 and the status of the refusal in `refused`.
  uint64_t create(std::string id, Nanos start_in = 0s, int64_t seconds = 3600) {
    const auto job = book.create(spec(std::move(id), start_in, seconds), now());
    if (job) return (*job)->spec->number;
    refused = job.error();
    return 0;
  }
  std::vector<std::string> due() {
    std::vector<std::string> ids;
    for (const JobSpecPtr& each : book.take_due(now())) ids.push_back(each->id);
    return ids;
  }
  std::vector<std::string> expired() {
    std::vector<std::string> ids;
    for (const JobSpecPtr& each : book.take_expired(now())) ids.push_back(each->id);
    return ids;
  }
  JobStatus status(const char* id) const { return book.find(id)->status; }
  /// A job of one device that has been done.
  uint64_t completed(std::string id, uint64_t devices = 1) {
    const uint64_t number = create(std::move(id));
    due();
    book.resolve(number, devices, now());
    if (devices > 0) book.report(number, devices, 0, 0, now());
    return number;
  }

  ManualClock clock;
  JobBook book;
  ServiceError refused;
};

TEST_F(JobBookTest, AJobIsQueuedRunsAndCompletes) {
  const uint64_t number = create("a");
  EXPECT_EQ(status("a"), JobStatus::queued);
  EXPECT_THAT(due(), ElementsAre("a"));
  EXPECT_THAT(due(), IsEmpty());
  EXPECT_EQ(status("a"), JobStatus::running);
  EXPECT_TRUE(book.resolve(number, 3, now()));
  EXPECT_FALSE(book.report(number, 0, 0, 2, now()));
  EXPECT_EQ(book.find("a")->progress.running, 2u);
  EXPECT_FALSE(book.report(number, 1, 0, -1, now()));
  clock.advance(5s);
  EXPECT_TRUE(book.report(number, 1, 1, -1, now()));
  EXPECT_EQ(status("a"), JobStatus::completed);  // although a device failed
  EXPECT_EQ(book.find("a")->ended, clock.wall());
  EXPECT_EQ(book.find("a")->progress.succeeded, 2u);
  EXPECT_EQ(book.find("a")->progress.failed, 1u);
  EXPECT_EQ(book.active(), 0u);
  EXPECT_EQ(book.completed(), 1u);
}

TEST_F(JobBookTest, AJobWithoutDevicesIsCompletedAtOnce) {
  const uint64_t number = create("a");
  due();
  EXPECT_TRUE(book.resolve(number, 0, now()));
  EXPECT_EQ(status("a"), JobStatus::completed);
}

TEST_F(JobBookTest, AScheduledJobWaitsForItsTime) {
  create("a", 10s);
  EXPECT_EQ(status("a"), JobStatus::scheduled);
  EXPECT_EQ(book.next_deadline(), clock.mono() + 10s);
  clock.advance(9s);
  EXPECT_THAT(due(), IsEmpty());
  clock.advance(1s);
  EXPECT_THAT(due(), ElementsAre("a"));
}

TEST_F(JobBookTest, ASecondJobOfAnIdIsRefusedAlsoOnceTheFirstHasEnded) {
  create("a");
  EXPECT_EQ(create("a"), 0u);
  EXPECT_EQ(fmt::format("{} {}", refused.status, refused.name), "409 JobAlreadyExists");
  completed("b");
  EXPECT_EQ(create("b"), 0u);
}

TEST_F(JobBookTest, OnlyAJobThatHasNotStartedCanBeCancelled) {
  create("later", 1h);
  ASSERT_TRUE(book.cancel("later", now()));
  EXPECT_EQ(status("later"), JobStatus::cancelled);
  EXPECT_EQ(book.find("later")->ended, clock.wall());
  clock.advance(2h);
  EXPECT_THAT(due(), IsEmpty());
  for (const char* id : {"later", "running", "done"}) {
    if (id == std::string_view{"running"}) create(id);
    if (id == std::string_view{"done"}) completed(id);
    due();
    const auto cancelled = book.cancel(id, now());
    ASSERT_FALSE(cancelled) << id;
    EXPECT_EQ(cancelled.error().status, 405);
    EXPECT_EQ(cancelled.error().name, "OperationNotAllowedInCurrentState");
  }
  const auto unknown = book.cancel("ghost", now());
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().status, 404);
  EXPECT_EQ(unknown.error().name, "JobNotFound");
  EXPECT_EQ(unknown.error().error_code, 404'002);
}

TEST_F(JobBookTest, ScheduledJobsTakeThePlacesThereAre) {
  book = JobBook{{.active_max = 1}};
  create("a", 1h);
  EXPECT_EQ(create("b"), 0u);
  EXPECT_EQ(fmt::format("{} {} {}", refused.status, refused.error_code, refused.name),
            "429 429004 ThrottlingMaxActiveJobCountExceeded");
  book.cancel("a", now()).value();
  EXPECT_NE(create("b"), 0u);
}

TEST_F(JobBookTest, AnInvalidConditionFailsTheJob) {
  const uint64_t number = create("a");
  due();
  book.refuse(number, "no such thing", now());
  EXPECT_EQ(status("a"), JobStatus::failed);
  EXPECT_EQ(book.find("a")->failure_reason, "no such thing");
  EXPECT_EQ(book.failed(), 1u);
  EXPECT_EQ(book.next_deadline(), MonoTime::max());
}

TEST_F(JobBookTest, AJobThatTakesTooLongFailsOnceItsDevicesHaveTheirOutcomes) {
  const uint64_t number = create("a", 0s, 60);
  due();
  book.resolve(number, 4, now());
  book.report(number, 1, 0, 2, now());
  clock.advance(59s);
  EXPECT_THAT(expired(), IsEmpty());
  clock.advance(1s);
  EXPECT_THAT(expired(), ElementsAre("a"));
  EXPECT_THAT(expired(), IsEmpty());
  EXPECT_EQ(status("a"), JobStatus::running);
  EXPECT_TRUE(book.report(number, 0, 3, -2, now()));
  EXPECT_EQ(status("a"), JobStatus::failed);
  EXPECT_EQ(book.find("a")->failure_reason, "The maximum execution time of 60 s has passed.");
}

TEST_F(JobBookTest, TimeThatRunsOutBeforeTheDevicesAreKnownCountsAfterwards) {
  const uint64_t number = create("a", 0s, 1);
  due();
  clock.advance(2s);
  EXPECT_THAT(expired(), IsEmpty());
  book.resolve(number, 1, now());
  EXPECT_THAT(expired(), ElementsAre("a"));
}

TEST_F(JobBookTest, EndedJobsAreForgottenAfterThirtyDays) {
  const uint64_t number = completed("a");
  create("b", 1h);
  clock.advance(30 * 24h - 1s);
  EXPECT_THAT(book.take_forgotten(now()), IsEmpty());
  clock.advance(1s);
  EXPECT_THAT(book.take_forgotten(now()), ElementsAre(number));
  EXPECT_EQ(book.find("a"), nullptr);
  EXPECT_NE(book.find("b"), nullptr);
  EXPECT_NE(create("a"), 0u);  // the id is free again
}

TEST_F(JobBookTest, TheOldestEndedJobsMakeRoom) {
  book = JobBook{{.kept_max = 2}};
  const uint64_t first = completed("a");
  completed("b");
  EXPECT_THAT(book.take_forgotten(now()), IsEmpty());
  completed("c");
  EXPECT_THAT(book.take_forgotten(now()), ElementsAre(first));

  book = JobBook{{.kept_devices_max = 100}};
  const uint64_t many = completed("a", 60);
  completed("b", 40);
  EXPECT_THAT(book.take_forgotten(now()), IsEmpty());
  completed("c", 1);
  EXPECT_THAT(book.take_forgotten(now()), ElementsAre(many));

  book = JobBook{{.kept_bytes_max = 1000}};
  const uint64_t old = completed("a");
  completed("b");
  EXPECT_THAT(book.take_forgotten(now()), ElementsAre(old));
}

TEST_F(JobBookTest, TooManyDevicesAtOnceFailTheJob) {
  book = JobBook{{.running_devices_max = 100}};
  const uint64_t first = create("a");
  const uint64_t second = create("b");
  due();
  EXPECT_TRUE(book.resolve(first, 60, now()));
  EXPECT_FALSE(book.resolve(second, 41, now()));
  EXPECT_EQ(status("b"), JobStatus::failed);
  EXPECT_THAT(book.find("b")->failure_reason, ::testing::StartsWith("The condition selects 41 devices"));
  book.report(first, 60, 0, 0, now());
  const uint64_t third = create("c");
  due();
  EXPECT_TRUE(book.resolve(third, 100, now()));
}

TEST_F(JobBookTest, ListsNewestFirstInPagesThatFilter) {
  for (int i = 0; i < 5; ++i) create(fmt::format("j{}", i), i % 2 == 0 ? 1h : 0s);
  const auto ids = [](const std::pair<std::vector<const Job*>, bool>& page) {
    std::vector<std::string> out;
    for (const Job* job : page.first) out.push_back(job->spec->id);
    out.push_back(page.second ? "more" : "end");
    return out;
  };
  EXPECT_THAT(ids(book.list({}, 0, 10)), ElementsAre("j4", "j3", "j2", "j1", "j0", "end"));
  EXPECT_THAT(ids(book.list({}, 0, 5)), ElementsAre("j4", "j3", "j2", "j1", "j0", "end"));
  const auto first = book.list({}, 0, 2);
  EXPECT_THAT(ids(first), ElementsAre("j4", "j3", "more"));
  create("new");
  EXPECT_THAT(ids(book.list({}, first.first.back()->spec->number, 2)), ElementsAre("j2", "j1", "more"));
  EXPECT_THAT(ids(book.list({.status = JobStatus::scheduled}, 0, 2)), ElementsAre("j4", "j2", "more"));
  EXPECT_THAT(ids(book.list({.type = JobType::device_method}, 0, 2)), ElementsAre("end"));
  EXPECT_THAT(ids(book.list({.none = true}, 0, 2)), ElementsAre("end"));
}

TEST_F(JobBookTest, WhateverHappensEveryJobEndsAndEveryPlaceIsGivenBack) {
  book = JobBook{{.active_max = 5, .kept_max = 20}};
  std::mt19937 random{7};
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  struct Devices {
    uint64_t left = 0;
  };
  std::map<uint64_t, Devices> running;
  for (int step = 0; step < 20'000; ++step) {
    switch (pick(5)) {
      case 0:
        create(fmt::format("j{}", step), std::chrono::seconds{pick(20)}, 1 + pick(30));
        break;
      case 1:
        for (const JobSpecPtr& each : book.take_due(now())) {
          if (pick(4) == 0) {
            book.refuse(each->number, "no", now());
            continue;
          }
          const auto devices = static_cast<uint64_t>(pick(10));
          if (book.resolve(each->number, devices, now()) && devices > 0) running[each->number].left = devices;
        }
        break;
      case 2:
        for (const JobSpecPtr& each : book.take_expired(now())) {
          const auto found = running.find(each->number);
          ASSERT_NE(found, running.end());
          ASSERT_TRUE(book.report(each->number, 0, found->second.left, 0, now()));
          running.erase(found);
        }
        break;
      case 3:
        if (running.empty()) break;
        if (const auto one = running.begin(); book.report(one->first, 1, 0, 0, now())) {
          ASSERT_EQ(one->second.left, 1u);
          running.erase(one);
        } else {
          --one->second.left;
        }
        break;
      default:
        clock.advance(std::chrono::seconds{pick(3)});
        book.take_forgotten(now());
        break;
    }
    ASSERT_LE(book.active(), 5u);
    ASSERT_LE(running.size(), book.active());
  }
  clock.advance(1h);
  for (const JobSpecPtr& each : book.take_due(now())) book.resolve(each->number, 0, now());
  for (const JobSpecPtr& each : book.take_expired(now())) {
    book.report(each->number, 0, running[each->number].left, 0, now());
  }
  EXPECT_EQ(book.active(), 0u);
  book.take_forgotten(now());
  EXPECT_LE(book.size(), 20u);
}

}  // namespace
}  // namespace twinstorm::hub::jobs
