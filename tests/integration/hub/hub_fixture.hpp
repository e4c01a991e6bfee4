// A hub in this process, and clients of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "raw_clients.hpp"
#include "sim/hub/hub.hpp"

namespace twinstorm::hub::testing {

class HubFixture : public ::testing::Test {
 protected:
  virtual unsigned threads() const { return 1; }

  /// A hub with these settings and `threads()` shards, in the place of the one that runs.
  void start(HubConfig config = {}) {
    hub.reset();
    config.threads = threads();
    auto started = Hub::start(std::move(config));
    ASSERT_TRUE(started) << started.error().message;
    hub = std::move(*started);
  }

  RawHttp service(std::string_view policy = "iothubowner") const {
    return RawHttp{hub->ports().http, hub->policy_connection_string(policy)};
  }
  DeviceLogin create(const std::string& id) const {
    const HttpReply reply = service().request("PUT", "/devices/" + id + "?api-version=2021-04-12",
                                              fmt::format(R"({{"deviceId":"{}"}})", id));
    EXPECT_EQ(reply.status, 200) << reply.body;
    DeviceLogin login;
    login.device_id = id;
    login.key = reply.json()["authentication"]["symmetricKey"]["primaryKey"];
    return login;
  }
  static bool accepted(RawMqtt& client, const DeviceLogin& login) {
    const auto connack = client.login(login);
    return connack && connack->code == mqtt::ConnackCode::accepted;
  }
  /// A connected device on the plain port.
  std::unique_ptr<RawMqtt> device(const DeviceLogin& login) const {
    auto client = std::make_unique<RawMqtt>(hub->ports().mqtt);
    EXPECT_TRUE(accepted(*client, login)) << login.device_id;
    return client;
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
  bool counts_reach(uint64_t HubCounts::*member, uint64_t value) const {
    return eventually([&](const HubCounts& counts) { return counts.*member >= value; });
  }

  std::unique_ptr<Hub> hub;
};

/// For what must not depend on the number of shards: INSTANTIATE_TEST_SUITE_P over it.
class ShardedHub : public HubFixture, public ::testing::WithParamInterface<unsigned> {
 protected:
  unsigned threads() const override { return GetParam(); }
};

}  // namespace twinstorm::hub::testing
