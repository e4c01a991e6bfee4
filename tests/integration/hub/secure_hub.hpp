// A hub with all four ports, and clients that reach it over TLS and WebSocket.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "secure_layers.hpp"
#include "sim/hub/hub.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::hub::testing {

class SecureHub : public ::testing::Test {
 protected:
  void SetUp() override { start(); }

  virtual unsigned threads() const { return 2; }

  void start(HubConfig config = {}) {
    hub.reset();
    config.threads = threads();
    config.mqtts_port = 0;
    config.https_port = 0;
    if (config.data_folder.empty()) config.data_folder = (folder.path() / "data").string();
    auto started = Hub::start(std::move(config));
    ASSERT_TRUE(started) << started.error().message;
    hub = std::move(*started);
  }

  TlsOptions tls(int version = 0) const { return {.authority_file = hub->authority_file(), .version = version}; }
  RawHttp service() const { return RawHttp{hub->ports().http, hub->owner_connection_string()}; }
  DeviceLogin create(const std::string& id) const {
    const HttpReply reply = service().request("PUT", "/devices/" + id + "?api-version=2021-04-12",
                                              fmt::format(R"({{"deviceId":"{}"}})", id));
    EXPECT_EQ(reply.status, 200) << reply.body;
    DeviceLogin login;
    login.device_id = id;
    login.key = reply.json()["authentication"]["symmetricKey"]["primaryKey"];
    return login;
  }
  std::unique_ptr<RawMqtt> mqtts(const TlsOptions& options) const {
    auto client = std::make_unique<RawMqtt>(hub->ports().mqtts);
    EXPECT_TRUE(secure(*client, options));
    return client;
  }
  /// A device on the plain port that must not notice what happens to others.
  std::unique_ptr<RawMqtt> bystander(const std::string& id = "bystander") const {
    auto client = std::make_unique<RawMqtt>(hub->ports().mqtt);
    const auto connack = client->login(create(id));
    EXPECT_TRUE(connack && connack->code == mqtt::ConnackCode::accepted);
    EXPECT_TRUE(client->subscribe("$iothub/twin/res/#"));
    return client;
  }
  static bool accepted(RawMqtt& client, const DeviceLogin& login) {
    const auto connack = client.login(login);
    return connack && connack->code == mqtt::ConnackCode::accepted;
  }
  /// Waits until `condition` holds for the hub's counts; the hub counts on its own threads.
  template <class Condition>
  bool eventually(Condition condition, int patience_ms = kPatienceMs) const {
    for (int waited = 0; waited < patience_ms; waited += 10) {
      if (condition(hub->counts())) return true;
      usleep(10'000);
    }
    return condition(hub->counts());
  }

  twinstorm::testing::TemporaryFolder folder;
  std::unique_ptr<Hub> hub;
};

}  // namespace twinstorm::hub::testing
