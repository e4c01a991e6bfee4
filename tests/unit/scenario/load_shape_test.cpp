// Due times against slow, independent references: exact formulas in 128-bit floating point and plain bisection.
#include "sim/scenario/load_shape.hpp"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sim/base/rng.hpp"

namespace twinstorm::scenario {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

__extension__ using Quad = __float128;

Quad seconds_of(Nanos t) { return static_cast<Quad>(t.count()) / 1'000'000'000; }

/// The rate as a function, integrated over pieces on which it is linear: the definition, not the closed form.
struct Reference {
  struct Piece {
    Quad length, from, to;
  };
  std::vector<Piece> pieces;

  Quad count(Quad t) const {
    Quad sum = 0;
    for (const auto& piece : pieces) {
      const Quad part = t < piece.length ? t : piece.length;
      if (part <= 0) break;
      const Quad rate_at_end = piece.from + (piece.to - piece.from) * part / piece.length;
      sum += (piece.from + rate_at_end) / 2 * part;
      t -= part;
    }
    return sum;
  }
  /// The last nanosecond-exact time with not more than n expected, by bisection; negative if there is none before
  /// `end`.
  Quad due(Quad n, Quad end) const {
    if (count(end) <= n) return -1;
    Quad low = 0, high = end;
    for (int i = 0; i < 140; ++i) {
      const Quad middle = (low + high) / 2;
      (count(middle) <= n ? low : high) = middle;
    }
    return low;
  }
};

struct Case {
  std::string name;
  LoadShape shape;
  Reference reference;
};

std::vector<Case> cases() {
  const auto r = [](double v) { return Rate{v}; };
  std::vector<Case> out;
  out.push_back({"constant 1000/s", LoadShape::constant(r(1000), seconds{10}), {{{10, 1000, 1000}}}});
  out.push_back({"constant 20/min", LoadShape::constant(r(20.0 / 60), hours{1}), {{{3600, 20.0 / 60, 20.0 / 60}}}});
  out.push_back({"constant 0.1/s", LoadShape::constant(r(0.1), seconds{1000}), {{{1000, 0.1, 0.1}}}});
  out.push_back({"ramp up from 0", LoadShape::ramp(r(0), r(500), seconds{30}, seconds{30}), {{{30, 0, 500}}}});
  out.push_back({"ramp up and hold",
                 LoadShape::ramp(r(100), r(1100), seconds{8}, seconds{20}),
                 {{{8, 100, 1100}, {12, 1100, 1100}}}});
  out.push_back({"ramp down to 0", LoadShape::ramp(r(5000), r(0), seconds{20}, seconds{20}), {{{20, 5000, 0}}}});
  out.push_back(
      {"ramp down to 0 and stop", LoadShape::ramp(r(50), r(0), seconds{20}, seconds{40}), {{{20, 50, 0}, {20, 0, 0}}}});
  out.push_back(
      {"steps with a pause",
       LoadShape::steps({{r(10), seconds{1}}, {r(0), seconds{1}}, {r(7), seconds{2}}, {r(100), Nanos{0}}}, seconds{6}),
       {{{1, 10, 10}, {1, 0, 0}, {2, 7, 7}, {2, 100, 100}}}});
  out.push_back({"spike",
                 LoadShape::spike(r(20), r(400), seconds{3}, milliseconds{1500}, seconds{9}),
                 {{{3, 20, 20}, {static_cast<Quad>(3) / 2, 400, 400}, {static_cast<Quad>(9) / 2, 20, 20}}}});
  return out;
}

TEST(LoadShape, DueTimesAgreeWithBisectionInQuadPrecisionToOneNanosecond) {
  for (const auto& c : cases()) {
    const auto end = seconds_of(c.shape.length());
    const auto arrivals = c.shape.arrivals();
    const uint64_t stride = std::max<uint64_t>(1, arrivals / 400);
    for (uint64_t n = 0; n < arrivals; n += stride) {
      const Quad expected = c.reference.due(static_cast<Quad>(n), end);
      ASSERT_GE(expected, 0) << c.name << " n=" << n;
      const Quad difference = seconds_of(c.shape.due_at(n)) - expected;
      ASSERT_LE(std::abs(static_cast<double>(difference)), 1.01e-9) << c.name << " n=" << n;
    }
  }
}

TEST(LoadShape, EndsAfterExactlyTheArrivalsItAnnounces) {
  for (const auto& c : cases()) {
    const auto arrivals = c.shape.arrivals();
    ASSERT_GT(arrivals, 0u) << c.name;
    EXPECT_LT(c.shape.due_at(arrivals - 1), c.shape.length()) << c.name;
    EXPECT_EQ(c.shape.due_at(arrivals), Nanos::max()) << c.name;
    EXPECT_NEAR(static_cast<double>(arrivals), c.shape.count_by(c.shape.length()), 1.0) << c.name;
  }
}

TEST(LoadShape, DueTimesNeverDecreaseAndInvertTheCount) {
  auto all = cases();
  all.push_back({"sine", LoadShape::sine(Rate{100}, Rate{80}, seconds{7}, seconds{30}), {}});
  all.push_back({"sine to zero", LoadShape::sine(Rate{100}, Rate{100}, seconds{5}, seconds{30}), {}});
  for (const auto& c : all) {
    Nanos last{0};
    for (uint64_t n = 0; n < c.shape.arrivals(); ++n) {
      const auto due = c.shape.due_at(n);
      ASSERT_GE(due, last) << c.name << " n=" << n;
      ASSERT_NEAR(c.shape.count_by(due), static_cast<double>(n), 1e-4) << c.name << " n=" << n;
      last = due;
    }
  }
}

TEST(LoadShape, CountNeverDecreasesAndStandsStillOutsideThePhase) {
  for (const auto& c : cases()) {
    double last = 0;
    for (int i = 0; i <= 1000; ++i) {
      const double count = c.shape.count_by(c.shape.length() * i / 1000);
      ASSERT_GE(count, last) << c.name << " at " << i;
      last = count;
    }
    EXPECT_EQ(c.shape.count_by(c.shape.length() + seconds{5}), last) << c.name;
    EXPECT_EQ(c.shape.count_by(-seconds{1}), 0) << c.name;
    EXPECT_EQ(c.shape.rate_at(-seconds{1}).per_second, 0) << c.name;
    EXPECT_EQ(c.shape.rate_at(c.shape.length()).per_second, 0) << c.name;
  }
}

TEST(LoadShape, SineCountIsTheIntegralOfItsRate) {
  const auto shape = LoadShape::sine(Rate{50}, Rate{30}, seconds{10}, seconds{60});
  // Simpson's rule with steps of a millisecond.
  double sum = 0;
  for (int ms = 0; ms < 23'400; ++ms) {
    const auto rate = [&](double at) { return 50 + 30 * std::sin(2 * M_PI * at / 10); };
    const double t = ms * 1e-3;
    sum += (rate(t) + 4 * rate(t + 0.5e-3) + rate(t + 1e-3)) / 6 * 1e-3;
  }
  EXPECT_NEAR(shape.count_by(milliseconds{23'400}), sum, 1e-6);
}

TEST(LoadShape, SineDueTimesAgreeWithBisectionToOneNanosecond) {
  const long double two_pi = 2 * 3.14159265358979323846264338327950288L;
  for (const double amplitude : {0.0, 30.0, 80.0}) {
    const auto shape = LoadShape::sine(Rate{80}, Rate{amplitude}, milliseconds{7300}, seconds{60});
    const auto count = [&](long double t) {
      return 80 * t + static_cast<long double>(amplitude) * 7.3L / two_pi * (1 - std::cos(two_pi * t / 7.3L));
    };
    for (uint64_t n = 1; n < shape.arrivals(); n += 37) {
      long double low = 0, high = 60;
      for (int i = 0; i < 100; ++i) {
        const long double middle = (low + high) / 2;
        (count(middle) <= static_cast<long double>(n) ? low : high) = middle;
      }
      // Where the rate touches 0 the count is flat and the time is worth less than the count.
      const long double rate = 80 + amplitude * std::sin(two_pi * low / 7.3L);
      const long double difference = static_cast<long double>(shape.due_at(n).count()) / 1e9L - low;
      ASSERT_LE(std::abs(difference) * std::min(1.0L, rate), 1.01e-9L) << "amplitude " << amplitude << " n=" << n;
    }
  }
}

TEST(LoadShape, ConstantLoadStartsAtOnceAndKeepsItsGap) {
  const auto shape = LoadShape::constant(Rate{4}, seconds{1});
  EXPECT_EQ(shape.arrivals(), 4u);
  EXPECT_EQ(shape.due_at(0), Nanos{0});
  EXPECT_EQ(shape.due_at(1), milliseconds{250});
  EXPECT_EQ(shape.due_at(3), milliseconds{750});
  EXPECT_EQ(shape.due_at(4), Nanos::max());
}

TEST(LoadShape, AnArrivalAtTheBorderOfAPauseComesAfterThePause) {
  // 0.1 is not exact in binary: 100 s of it are a hair more than 10 arrivals.
  const auto shape =
      LoadShape::steps({{Rate{0.1}, seconds{100}}, {Rate{0}, seconds{100}}, {Rate{0.1}, seconds{50}}}, seconds{250});
  EXPECT_EQ(shape.due_at(9), seconds{90});
  EXPECT_EQ(shape.due_at(10), seconds{200});
  EXPECT_EQ(shape.arrivals(), 15u);
}

TEST(LoadShape, NothingArrivesAfterTheRateHasFallenToZero) {
  const auto shape = LoadShape::steps({{Rate{0.1}, seconds{100}}, {Rate{0}, seconds{100}}}, seconds{200});
  EXPECT_EQ(shape.arrivals(), 10u);
  EXPECT_EQ(shape.due_at(10), Nanos::max());
  EXPECT_EQ(LoadShape::constant(Rate{0}, seconds{5}).arrivals(), 0u);
  EXPECT_EQ(LoadShape{}.due_at(0), Nanos::max());
}

TEST(LoadShape, EndlessLoadsGoOn) {
  const auto shape = LoadShape::ramp(Rate{0}, Rate{10}, seconds{10}, LoadShape::kForever);
  EXPECT_EQ(shape.due_at(50), seconds{10});
  EXPECT_EQ(shape.due_at(60), seconds{11});
  EXPECT_EQ(shape.due_at(1'000'050), seconds{100'010});
  EXPECT_EQ(shape.rate_at(hours{1000}).per_second, 10);
  EXPECT_EQ(LoadShape::constant(Rate{1e-9}, LoadShape::kForever).due_at(100), Nanos::max());
}

TEST(LoadShape, PeakRateIsTheHighestRateOfTheShape) {
  EXPECT_DOUBLE_EQ(LoadShape::ramp(Rate{100}, Rate{1100}, seconds{8}, seconds{20}).peak_rate().per_second, 1100);
  EXPECT_DOUBLE_EQ(LoadShape::ramp(Rate{900}, Rate{100}, seconds{8}, seconds{20}).peak_rate().per_second, 900);
  EXPECT_DOUBLE_EQ(LoadShape::ramp(Rate{0}, Rate{100}, seconds{8}, seconds{4}).peak_rate().per_second, 50);
  EXPECT_DOUBLE_EQ(LoadShape::sine(Rate{50}, Rate{30}, seconds{1}, seconds{4}).peak_rate().per_second, 80);
  EXPECT_DOUBLE_EQ(LoadShape::spike(Rate{20}, Rate{400}, seconds{3}, seconds{1}, seconds{9}).peak_rate().per_second,
                   400);
}

}  // namespace
}  // namespace twinstorm::scenario
