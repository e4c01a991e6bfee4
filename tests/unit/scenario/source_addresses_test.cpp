// Addresses that devices connect from: forms, order, mistakes.
#include "sim/scenario/source_addresses.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"

namespace twinstorm::scenario {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string problem(const std::string& text) {
  const auto result = expand_source_addresses(text);
  return result ? "none" : result.error().message;
}

TEST(SourceAddresses, AreSingleOnesRangesAndTheHostsOfNetworks) {
  EXPECT_THAT(*expand_source_addresses(std::string{"10.0.0.5"}), ElementsAre("10.0.0.5"));
  EXPECT_THAT(*expand_source_addresses(std::string{"10.0.0.254-10.0.1.1"}),
              ElementsAre("10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1"));
  EXPECT_THAT(*expand_source_addresses(std::string{"10.0.0.8/30"}), ElementsAre("10.0.0.9", "10.0.0.10"));
  EXPECT_THAT(*expand_source_addresses(std::string{"10.0.0.8/31"}), ElementsAre("10.0.0.8", "10.0.0.9"));
  EXPECT_THAT(*expand_source_addresses(std::string{"10.0.0.8/32"}), ElementsAre("10.0.0.8"));
  EXPECT_THAT(*expand_source_addresses(std::string{"fe80::1"}), ElementsAre("fe80::1"));
  EXPECT_EQ(expand_source_addresses(std::string{"255.255.255.254-255.255.255.255"})->size(), 2u);
}

TEST(SourceAddresses, WhatIsNoneIsNamedWithTheForms) {
  EXPECT_EQ(problem("10.0.0"), "\"10.0.0\" is no IP address (try 10.0.0.5, 10.0.0.5-10.0.0.9 or 10.0.0.0/29)");
  for (const char* text : {"10.0.0.256", "10.0.0.", ".0.0.0", "10.0.0.5.6", "10.0.0.+5", "10.0.0.0005", "::x"}) {
    EXPECT_THAT(problem(text), HasSubstr("is no IP address")) << text;
  }
  EXPECT_THAT(problem(""), HasSubstr("is no IP address"));
  EXPECT_THAT(problem("eth0"), HasSubstr("is no IP address"));
  EXPECT_THAT(problem("10.0.0.9-10.0.0.5"), HasSubstr("ends before it begins"));
  EXPECT_THAT(problem("10.0.0.9-x"), HasSubstr("is no range of IPv4 addresses"));
  EXPECT_THAT(problem("10.0.0.5/29"), HasSubstr("is an address within 10.0.0.0/29"));
  EXPECT_THAT(problem("10.0.0.0/33"), HasSubstr("is no IPv4 network"));
  EXPECT_THAT(problem("10.0.0.0/"), HasSubstr("is no IPv4 network"));
  EXPECT_THAT(problem("10.0.0.0/8"), HasSubstr("has 16777214 addresses, more than 4096"));
  EXPECT_THAT(problem("0.0.0.0/0"), HasSubstr("more than 4096"));
}

TEST(SourceAddresses, OneTwiceOrTooManyTogetherAreMistakes) {
  const auto twice = expand_source_addresses(std::vector<std::string>{"10.0.0.1-10.0.0.3", "10.0.0.2"});
  EXPECT_EQ(twice.error().message, "10.0.0.2 is given twice (leave one out)");
  const auto many = expand_source_addresses(std::vector<std::string>{"10.0.0.0-10.0.15.255", "10.1.0.1"});
  EXPECT_EQ(many.error().message, "more than 4096 addresses (give fewer)");
}

TEST(SourceAddresses, OfATargetAreReadCheckedAndWrittenBack) {
  const auto document = [](const std::string& sources) {
    return "schema: twinstorm/scenario/1\ntarget: {embedded: {}, sourceAddresses: " + sources +
           "}\nfleets: [{name: a, count: 10}]\nphases: [{name: p, connect: 10/s}]\n";
  };
  const auto good = load_scenario(document("[127.0.0.2, 127.0.0.8/30]"), "x.yaml");
  ASSERT_TRUE(good.ok()) << to_string(good.diagnostics);
  const auto plan = make_plan(*good.scenario);
  EXPECT_EQ(plan.cost.source_addresses, 3u);
  const auto again = load_scenario(resolved_yaml(plan.scenario), "again.yaml");
  ASSERT_TRUE(again.ok()) << to_string(again.diagnostics);
  EXPECT_THAT(again.scenario->target.source_addresses, ElementsAre("127.0.0.2", "127.0.0.8/30"));

  const auto bad = load_scenario(document("[127.0.0.2, lo, {a: b}, 127.0.0.2]"), "x.yaml");
  const auto text = to_string(bad.diagnostics);
  EXPECT_THAT(text, HasSubstr("target.sourceAddresses[1]: \"lo\" is no IP address (try 10.0.0.5"));
  EXPECT_THAT(text, HasSubstr("target.sourceAddresses[2]"));
  EXPECT_THAT(text, HasSubstr("target.sourceAddresses[3]: 127.0.0.2 is given twice"));
  EXPECT_THAT(to_string(load_scenario(document("127.0.0.2"), "x.yaml").diagnostics),
              HasSubstr("is not a list of addresses"));
}

}  // namespace
}  // namespace twinstorm::scenario
