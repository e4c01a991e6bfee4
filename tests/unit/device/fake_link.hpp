// A hub that says what the test tells it to, on the other side of the pool's links. No sockets, no time of its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "sim/device/device_pool.hpp"
#include "sim/transport/device_transport.hpp"

namespace twinstorm::device::testing {

/// What one device has asked for and not been answered, in the order of asking.
struct FakeHubSide {
  transport::TransportEvents* events = nullptr;
  LocalDevice device = 0;
  transport::Sent next_result = transport::Sent::ok;  ///< of every request from now on

  int dials = 0, subscribes = 0, disconnects = 0, aborts = 0;
  bool open = false;
  Nanos dial_timeout{0};
  std::vector<uint32_t> gets;
  struct Report {
    uint32_t request;
    std::string patch;
  };
  std::vector<Report> reports;
  struct Message {
    uint16_t number;
    std::string device_id;
    size_t size;
  };
  std::vector<Message> telemetry;
  uint16_t next_message = 100;
  std::vector<std::string> calls;  ///< `dial subscribe get report telemetry disconnect abort`
  MonoTime deadline = MonoTime::max();
  int on_time_calls = 0;
  bool session_present = false;  ///< what `accept` says
  transport::Subscriptions subscriptions = transport::Subscriptions::none;
  std::vector<std::string> method_responses;  ///< `<rid> <status> <payload>`
  transport::Identity identity;

  void accept() {
    identity.clear();
    events->identify(device, identity);
    events->on_connected(device, session_present);
  }
  void grant() { events->on_subscribed(device, true); }
  void answer_get(std::string_view twin, int status = 200) {
    ASSERT_FALSE(gets.empty());
    const uint32_t request = gets.front();
    gets.erase(gets.begin());
    events->on_twin_response(device, {status, request, std::nullopt, twin});
  }
  /// The answer to GET of a twin whose desired section is `properties` (members only) at `version`.
  void answer_twin(int64_t version, std::string_view properties = {}) {
    answer_get("{\"desired\":{" + std::string{properties} + (properties.empty() ? "" : ",") +
               "\"$version\":" + std::to_string(version) + "},\"reported\":{\"$version\":1}}");
  }
  void answer_report(int64_t version = 2, int status = 204) {
    ASSERT_FALSE(reports.empty());
    const uint32_t request = reports.front().request;
    reports.erase(reports.begin());
    events->on_twin_response(device, {status, request, version, {}});
  }
  void acknowledge_telemetry() {
    ASSERT_FALSE(telemetry.empty());
    const uint16_t number = telemetry.front().number;
    telemetry.erase(telemetry.begin());
    events->on_telemetry_acknowledged(device, number);
  }
  void notify(int64_t version, std::string_view properties) {
    events->on_desired(device, version,
                       "{" + std::string{properties} + ",\"$version\":" + std::to_string(version) + "}");
  }
  void hang_up(transport::DisconnectReason reason = transport::DisconnectReason::hub_closed) {
    forget();
    events->on_disconnected(device, reason);
  }
  void refuse(transport::ConnectRefusal refusal) {
    forget();
    events->on_connect_refused(device, refusal);
  }
  void forget() {
    open = false;
    gets.clear();
    reports.clear();
    telemetry.clear();
  }
};

class FakeLink final : public transport::DeviceTransport {
 public:
  explicit FakeLink(FakeHubSide& hub) : hub_{hub} {}

  void connect(const transport::LinkTarget&, Nanos timeout) override {
    hub_.calls.push_back("dial");
    hub_.dial_timeout = timeout;
    ++hub_.dials;
    hub_.open = true;
  }
  transport::Sent subscribe(transport::Subscriptions set, transport::DeviceName) override {
    hub_.calls.push_back("subscribe");
    hub_.subscriptions = set;
    ++hub_.subscribes;
    return transport::Sent::ok;
  }
  transport::Sent get_twin(uint32_t request) override {
    if (hub_.next_result != transport::Sent::ok) return hub_.next_result;
    hub_.calls.push_back("get");
    hub_.gets.push_back(request);
    return transport::Sent::ok;
  }
  transport::Sent report(uint32_t request, std::string_view patch) override {
    if (hub_.next_result != transport::Sent::ok) return hub_.next_result;
    hub_.calls.push_back("report");
    hub_.reports.push_back({request, std::string{patch}});
    return transport::Sent::ok;
  }
  transport::Sent send_telemetry(const transport::Telemetry& telemetry, uint16_t& message) override {
    if (hub_.next_result != transport::Sent::ok) return hub_.next_result;
    hub_.calls.push_back("telemetry");
    message = hub_.next_message++;
    hub_.telemetry.push_back({message, std::string{telemetry.from.device_id}, telemetry.payload.size()});
    return transport::Sent::ok;
  }
  transport::Sent send_method_response(std::string_view rid, int status, std::string_view payload) override {
    if (hub_.next_result != transport::Sent::ok) return hub_.next_result;
    hub_.method_responses.push_back(std::string{rid} + ' ' + std::to_string(status) + ' ' + std::string{payload});
    return transport::Sent::ok;
  }
  void disconnect() override {
    hub_.calls.push_back("disconnect");
    ++hub_.disconnects;
    hub_.forget();
  }
  void abort() override {
    hub_.calls.push_back("abort");
    ++hub_.aborts;
    hub_.forget();
  }
  MonoTime next_deadline() const override { return hub_.deadline; }
  void on_time(MonoTime now) override {
    ++hub_.on_time_calls;
    hub_.deadline = now + std::chrono::seconds{60};
  }

 private:
  FakeHubSide& hub_;
};

}  // namespace twinstorm::device::testing
