#include "report/wording.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/report/sample_run.hpp"

namespace twinstorm::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

metrics::OperationRecord stream(uint64_t asked, uint64_t acknowledged) {
  metrics::OperationRecord op;
  op.asked = op.sent = asked;
  op.acknowledged = acknowledged;
  return op;
}

TEST(Printable, LeavesOrdinaryTextAlone) { EXPECT_EQ(printable("Gerät 5 — 温度 😀"), "Gerät 5 — 温度 😀"); }

TEST(Printable, ShowsTerminalEscapesAndDirectionMarksInsteadOfObeyingThem) {
  EXPECT_EQ(printable("\x1b[2Ja\u202Eb"), "\\u{001B}[2Ja\\u{202E}b");
  EXPECT_EQ(printable("one\ntwo\tthree"), "one two three");
}

TEST(Printable, ShowsBytesThatAreNotUtf8) {
  EXPECT_EQ(printable("a\xff\x62"), "a\\x{FF}b");
  EXPECT_EQ(printable("\xc0\xaf"), "\\x{C0}\\x{AF}") << "overlong";
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\x{ED}\\x{A0}\\x{80}") << "surrogate";
  EXPECT_EQ(printable("\xe2\x82"), "\\x{E2}\\x{82}") << "cut off";
}

TEST(Printable, CutsLongTextBetweenCharacters) { EXPECT_EQ(printable("ääää", 2), "ää…"); }

TEST(PercentText, NeverRoundsToEverythingOrNothing) {
  EXPECT_EQ(percent_text(0), "0 %");
  EXPECT_EQ(percent_text(1e-7), "< 0.001 %");
  EXPECT_EQ(percent_text(0.00832), "0.832 %");
  EXPECT_EQ(percent_text(0.9999), "99.990 %");
  EXPECT_EQ(percent_text(0.9999999), "> 99.999 %");
  EXPECT_EQ(percent_text(1), "100 %");
}

TEST(DeliveryNote, SaysNothingAboutNothing) { EXPECT_EQ(delivery_note(stream(0, 0)), ""); }

TEST(DeliveryNote, ConfirmsFullDelivery) {
  EXPECT_EQ(delivery_note(stream(5'000, 5'000)), "Delivered as asked: 5,000 of 5,000 acknowledged.");
}

TEST(DeliveryNote, BlamesTheHubForMissingAnswers) {
  auto op = stream(1'000, 990);
  op.timed_out = 10;
  op.errors["timeout"] = 10;
  EXPECT_EQ(delivery_note(op), "99 % of 1,000 operations delivered. The hub was slow: 10 got no answer in time.");
}

TEST(DeliveryNote, BlamesTheGeneratorForWhatItNeverStarted) {
  auto op = stream(1'000, 900);
  op.sent = 900;
  op.dropped = 100;
  op.errors["deadlinePassed"] = 100;
  EXPECT_THAT(delivery_note(op), HasSubstr("The generator was late: 100 were not started before their deadline."));
}

TEST(DeliveryNote, NamesTheLargestCauseFirstAndListsAll) {
  auto op = stream(1'000, 700);
  op.failed = 250;
  op.in_flight = 50;
  op.errors["throttled"] = 200;
  op.errors["badRequest"] = 50;
  EXPECT_EQ(delivery_note(op),
            "70 % of 1,000 operations delivered. The hub throttled: 200 were refused as too many (throttled), 50 were "
            "answered with an error and 50 were unanswered when counting ended.");
}

TEST(DeliveryNote, TellsARefusedConnectionFromAnAnswer) {
  auto op = stream(1'000, 900);
  op.failed = 100;
  op.errors["refused"] = 90;
  op.errors["badRequest"] = 10;
  EXPECT_EQ(delivery_note(op),
            "90 % of 1,000 operations delivered. The hub let nobody in: 90 were refused a connection and 10 were "
            "answered with an error.");
}

TEST(TargetText, HasComparisonAndUnit) {
  metrics::SloRecord slo;
  slo.slo = "convergence p99 <= 250ms";
  slo.unit = "seconds";
  slo.target = 0.25;
  EXPECT_EQ(target_text(slo), "<= 250 ms");
  EXPECT_EQ(actual_text(slo), "-");
  slo.slo = "written by a later version";
  EXPECT_EQ(target_text(slo), "250 ms");
}

TEST(Reading, OfAPassedRunSaysWhatHeldAndWhyItCanBeTrusted) {
  const auto text = reading(testing::passed_run().record);
  EXPECT_THAT(text, StartsWith("All 2 objectives held; all 2 invariants held. "));
  EXPECT_THAT(text, HasSubstr("None was lost."));
  EXPECT_THAT(text, HasSubstr("so the figures can be trusted."));
}

TEST(Reading, OfAFailedRunCountsWhatDidNotHold) {
  EXPECT_THAT(reading(testing::failed_run().record),
              StartsWith("1 of 3 objectives failed and 1 is undecided; 1 of 2 invariants is violated. "));
}

TEST(Reading, OfAnInvalidRunNeverSaysThatFiguresCanBeTrusted) {
  auto record = testing::passed_run().record;
  record.verdict.status = metrics::VerdictStatus::invalid;
  record.validity = {{"scheduleLag", "schedule lag p99 was 340 ms, the limit is 100 ms"}};
  const auto text = reading(record);
  EXPECT_THAT(text, StartsWith("The figures of this run can't be trusted"));
  EXPECT_THAT(text, HasSubstr("schedule lag p99 was 340 ms, the limit is 100 ms."));
  EXPECT_THAT(text, Not(HasSubstr("so the figures can be trusted")));
}

TEST(Reading, OfAForcedRunSaysBeyondWhat) {
  auto record = testing::passed_run().record;
  EXPECT_THAT(reading(record), Not(HasSubstr("forced")));
  record.run.forced = {"open files of the generator: 300 needed, 200 there",
                       "available memory: 2 GiB needed, 1 GiB there"};
  EXPECT_THAT(reading(record),
              HasSubstr("It was forced beyond the limits of its machine (--force): open files of the generator: 300 "
                        "needed, 200 there; available memory: 2 GiB needed, 1 GiB there."));
}

TEST(Reading, OfAnInterruptedRunWithDoubtsNamesTheFirst) {
  auto record = testing::passed_run().record;
  record.verdict.status = metrics::VerdictStatus::aborted;
  record.run.duration_seconds = 12;
  record.validity = {{"scheduleLag", "schedule lag p99 was 340 ms, the limit is 100 ms"}};
  const auto text = reading(record);
  EXPECT_THAT(text, StartsWith("The run ended early, after 12 s; the figures cover what ran until then. They can't be "
                               "trusted: schedule lag p99 was 340 ms, the limit is 100 ms. "));
  EXPECT_THAT(text, Not(HasSubstr("so the figures can be trusted")));
}

TEST(Reading, OfAnEmptyRunDoesNotInventAnything) {
  metrics::RunRecord record;
  record.verdict.status = metrics::VerdictStatus::aborted;
  record.run.duration_seconds = 0.4;
  EXPECT_EQ(reading(record),
            "The run ended early, after 400 ms; the figures cover what ran until then. The scenario states no "
            "objectives and no invariants, so nothing was judged. No operation was asked for in the recorded phases.");
}

}  // namespace
}  // namespace twinstorm::report
