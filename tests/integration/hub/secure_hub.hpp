// A hub with all four ports, and clients that reach it over TLS and WebSocket.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "hub_fixture.hpp"
#include "secure_layers.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::hub::testing {

class SecureHub : public HubFixture {
 protected:
  void SetUp() override { start(); }

  unsigned threads() const override { return 2; }

  void start(HubConfig config = {}) {
    config.mqtts_port = 0;
    config.https_port = 0;
    if (config.data_folder.empty()) config.data_folder = (folder.path() / "data").string();
    HubFixture::start(std::move(config));
  }

  TlsOptions tls(int version = 0) const { return {.authority_file = hub->authority_file(), .version = version}; }
  std::unique_ptr<RawMqtt> mqtts(const TlsOptions& options) const {
    auto client = std::make_unique<RawMqtt>(hub->ports().mqtts);
    EXPECT_TRUE(secure(*client, options));
    return client;
  }
  /// A device on the plain port that must not notice what happens to others.
  std::unique_ptr<RawMqtt> bystander(const std::string& id = "bystander") const {
    auto client = device(create(id));
    EXPECT_TRUE(client->subscribe("$iothub/twin/res/#"));
    return client;
  }

  twinstorm::testing::TemporaryFolder folder;
};

}  // namespace twinstorm::hub::testing
