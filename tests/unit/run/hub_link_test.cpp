// Where the hub is and how fleets get there; certificates of simulated devices.
#include "sim/run/hub_link.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/run/certificates.hpp"
#include "sim/run/machine.hpp"
#include "sim/run/source_addresses.hpp"
#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::run {
namespace {

using twinstorm::testing::TemporaryFolder;
using twinstorm::testing::write_file;
using namespace std::chrono_literals;

constexpr std::string_view kOwner = "HostName=hub.lab;SharedAccessKeyName=iothubowner;SharedAccessKey=a2V5";

scenario::Scenario scenario_of(const std::string& fleets, const std::string& target = "{readyFile: hub.json}") {
  const auto loaded = scenario::load_scenario("schema: twinstorm/scenario/1\ntarget: " + target + "\nfleets:\n" +
                                                  fleets + "phases: [{name: connect, connect: 1/s}]\n",
                                              "x.yaml");
  EXPECT_EQ(scenario::to_string(loaded.diagnostics), "");
  return loaded.ok() ? scenario::resolve(*loaded.scenario) : scenario::Scenario{};
}

HubAddress address(uint16_t mqtt, uint16_t mqtts, uint16_t http, uint16_t https) {
  HubAddress out;
  out.host = "127.0.0.1";
  out.host_name = "hub.lab";
  out.mqtt_port = mqtt;
  out.mqtts_port = mqtts;
  out.http_port = http;
  out.https_port = https;
  out.service_connection_string = kOwner;
  return out;
}

TEST(ReadyFile, TellsPortsWithAndWithoutTlsAndTheCa) {
  TemporaryFolder folder;
  const auto file = folder.path() / "hub.json";
  write_file(file,
             R"({"listen":"127.0.0.1","hostName":"hub.lab","mqttsPort":8883,"httpsPort":8443,"caFile":"/x/ca.pem",)"
             R"("ownerConnectionString":")" +
                 std::string{kOwner} + "\"}");
  const auto read = read_ready_file(file.string());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->mqtt_port, 0);
  EXPECT_EQ(read->mqtts_port, 8883);
  EXPECT_EQ(read->https_port, 8443);
  EXPECT_EQ(read->ca_file, "/x/ca.pem");
}

TEST(ReadyFile, WithoutAnyHttpPortSaysSo) {
  TemporaryFolder folder;
  const auto file = folder.path() / "hub.json";
  write_file(file, R"({"listen":"127.0.0.1","mqttPort":1883,"ownerConnectionString":"x"})");
  const auto read = read_ready_file(file.string());
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message.find("neither httpPort nor httpsPort"), std::string::npos) << read.error().message;
}

TEST(HubLink, TheControlPlaneUsesTlsWhenTheTargetDoesOrNothingElseIsThere) {
  const auto over_tls = [](HubAddress at) {
    const auto hub = make_hub_link(at, {});
    EXPECT_TRUE(hub) << hub.error().message;
    return hub && hub->control_over_tls;
  };
  EXPECT_FALSE(over_tls(address(1, 0, 2, 0)));
  EXPECT_FALSE(over_tls(address(1, 3, 2, 4)));
  EXPECT_TRUE(over_tls(address(0, 3, 0, 4)));
  auto preferring = address(1, 3, 2, 4);
  preferring.prefers_https = true;
  EXPECT_TRUE(over_tls(preferring));
}

TEST(HubLink, ACaFileThatCannotBeReadIsNamed) {
  auto at = address(0, 3, 0, 4);
  at.ca_file = "no/such/ca.pem";
  const auto hub = make_hub_link(at, {});
  ASSERT_FALSE(hub);
  EXPECT_NE(hub.error().message.find("no/such/ca.pem"), std::string::npos) << hub.error().message;
}

TEST(FleetLinks, EachFleetGetsItsPortNamesAndContext) {
  const auto scenario = scenario_of(
      "  - {name: a, count: 1}\n  - {name: b, count: 1, tls: true}\n  - {name: c, count: 1, transport: mqttws}\n"
      "  - {name: d, count: 1, transport: mqttws, tls: {version: 1.2}}\n");
  const auto hub = make_hub_link(address(1, 2, 3, 4), {});
  ASSERT_TRUE(hub);
  const auto links = make_fleet_links(*hub, scenario);
  ASSERT_TRUE(links) << links.error().message;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(links->targets[i].endpoint.port(), i + 1);
    EXPECT_EQ(links->targets[i].tls != nullptr, i % 2 == 1);
    EXPECT_EQ(links->targets[i].host_name, "hub.lab");
    EXPECT_EQ(links->targets[i].verified_name(), "127.0.0.1") << "the name that is dialled";
  }
}

TEST(FleetLinks, APortThatTheHubHasNotIsNamedWithTheFix) {
  const auto hub = make_hub_link(address(0, 2, 3, 0), {});
  ASSERT_TRUE(hub);
  const auto plain = make_fleet_links(*hub, scenario_of("  - {name: a, count: 1}\n"));
  ASSERT_FALSE(plain);
  EXPECT_EQ(plain.error().message,
            "fleet \"a\" connects by mqtt without TLS, and the hub at 127.0.0.1 has no MQTT port: start the hub with "
            "--mqtt-port, or set tls: true for the fleet");
  const auto web = make_fleet_links(*hub, scenario_of("  - {name: a, count: 1, transport: mqttws, tls: true}\n"));
  ASSERT_FALSE(web);
  EXPECT_NE(web.error().message.find("has no HTTPS port"), std::string::npos) << web.error().message;
}

TEST(FleetLinks, ABackEndWithoutItsPortIsNamedBeforeAnythingFails) {
  const auto hub = make_hub_link(address(1, 2, 0, 4), {});
  ASSERT_TRUE(hub);
  const std::string fleet = "  - {name: a, count: 1}\n";
  EXPECT_TRUE(make_fleet_links(*hub, scenario_of(fleet + "backends: [{name: r, do: getTwin, tls: true}]\n")));
  const auto plain = make_fleet_links(*hub, scenario_of(fleet + "backends: [{name: r, do: getTwin}]\n"));
  ASSERT_FALSE(plain);
  EXPECT_EQ(plain.error().message,
            "back end \"r\" asks without TLS, and the hub at 127.0.0.1 has no HTTP port: start the hub with "
            "--http-port, or set tls: true for the back end");
}

TEST(FleetLinks, SpreadDevicesOverAddressesOfLoopbackWhenOneHasTooFewPorts) {
  const auto hub = make_hub_link(address(1, 2, 3, 4), {});
  ASSERT_TRUE(hub);
  auto links = make_fleet_links(*hub, scenario_of("  - {name: a, count: 100}\n"));
  ASSERT_TRUE(links);
  EXPECT_TRUE(links->targets[0].sources.empty());
  const uint64_t half = read_machine().ports() / 2;
  links = make_fleet_links(*hub, scenario_of(fmt::format("  - {{name: a, count: {}}}\n", 2 * half + 1)));
  ASSERT_TRUE(links);
  ASSERT_EQ(links->targets[0].sources.size(), 3u);
  EXPECT_EQ(links->targets[0].sources[0].to_string(), "127.0.0.1");
  EXPECT_EQ(links->targets[0].sources[2].to_string(), "127.0.0.3");
}

TEST(FleetLinks, TakeTheAddressesThatTheScenarioGivesIfTheyAreOfThisMachine) {
  const auto hub = make_hub_link(address(1, 2, 3, 4), {});
  ASSERT_TRUE(hub);
  const auto with = [](const std::string& sources) {
    return scenario_of("  - {name: a, count: 10}\n", "{readyFile: hub.json, sourceAddresses: [" + sources + "]}");
  };
  const auto links = make_fleet_links(*hub, with("127.0.0.9-127.0.0.10"));
  ASSERT_TRUE(links);
  EXPECT_EQ(links->targets[0].sources.size(), 2u);
  EXPECT_EQ(
      make_fleet_links(*hub, with("127.0.0.9, 192.0.2.1")).error().message,
      "target.sourceAddresses: 192.0.2.1 is not an address of this machine (Cannot assign requested address): leave "
      "it out, or add it (ip addr add 192.0.2.1/32 dev lo)");
  EXPECT_EQ(make_fleet_links(*hub, with("'::1'")).error().message,
            "target.sourceAddresses: ::1 is an IPv6 address, and the hub is at 127.0.0.1");
  EXPECT_EQ(make_fleet_links(*hub, with("'1:::1'")).error().message,
            "target.sourceAddresses: 1:::1 is no IP address (Invalid argument)");
}

TEST(Loopback, IsKnownByNameAndByAddress) {
  for (const char* host : {"localhost", "hub.localhost", "127.0.0.1", "127.8.8.8", "::1"}) {
    EXPECT_TRUE(is_loopback_host(host)) << host;
  }
  for (const char* host : {"hub.lab", "10.0.0.1", "localhost.lab", "", "::2"})
    EXPECT_FALSE(is_loopback_host(host)) << host;
}

TEST(NeededPorts, FollowFleetsAndBackEnds) {
  EXPECT_FALSE(needed_ports(scenario_of("  - {name: a, count: 1}\n")).mqtts);
  EXPECT_TRUE(needed_ports(scenario_of("  - {name: a, count: 1, tls: true}\n")).mqtts);
  EXPECT_FALSE(needed_ports(scenario_of("  - {name: a, count: 1, tls: true}\n")).https);
  EXPECT_TRUE(needed_ports(scenario_of("  - {name: a, count: 1, transport: mqttws, tls: true}\n")).https);
  EXPECT_TRUE(
      needed_ports(scenario_of("  - {name: a, count: 1}\nbackends: [{name: r, do: getTwin, tls: true}]\n")).https);
}

TEST(Certificates, AFleetSharesOneKeyAndEachDeviceHasItsOwnCertificate) {
  const WallTime now{1'795'435'200s};
  const auto scenario = scenario_of(
      "  - {name: a, count: 3, tls: true, auth: x509-selfsigned}\n  - {name: b, count: 2}\n"
      "  - {name: c, count: 2, tls: true, auth: x509-ca}\n",
      "embedded");
  EXPECT_TRUE(needs_device_authority(scenario));
  const auto authority = device_authority(scenario.target, now);
  ASSERT_TRUE(authority);
  const auto made = make_certificates(scenario, &*authority, now, {});
  ASSERT_TRUE(made) << made.error().message;
  const auto& self_signed = (*made)[0];
  ASSERT_EQ(self_signed.certificate_pem.size(), 3u);
  EXPECT_FALSE(self_signed.key_pem.empty());
  EXPECT_NE(net::sha256_thumbprint(self_signed.certificate_pem[0]).value(),
            net::sha256_thumbprint(self_signed.certificate_pem[1]).value());
  EXPECT_TRUE((*made)[1].empty());
  EXPECT_EQ((*made)[2].certificate_pem.size(), 2u);
  EXPECT_NE((*made)[2].key_pem, self_signed.key_pem);
  for (const auto& fleet : *made) {
    for (const auto& pem : fleet.certificate_pem) EXPECT_LT(pem.capacity(), 1024u) << "what the plan counts";
  }
}

TEST(Certificates, FilesOfACaThatAreMissingAreNamed) {
  scenario::Target target;
  target.kind = scenario::Target::Kind::ready_file;
  target.device_ca_certificate = "no/such/ca.pem";
  const auto read = device_authority(target, WallTime{});
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message.find("target.deviceCa.certificate: cannot read no/such/ca.pem"), std::string::npos)
      << read.error().message;
}

}  // namespace
}  // namespace twinstorm::run
