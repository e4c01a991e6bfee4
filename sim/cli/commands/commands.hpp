// One struct of options and one function per subcommand. Options are filled by cli.cpp; functions return exit codes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/cli/commands/hub_access.hpp"
#include "sim/cli/environment.hpp"

namespace twinstorm::cli {

/// What `run` and `plan` share.
struct ScenarioOptions {
  std::string file;
  std::vector<std::string> overrides;  ///< `path=value`
  std::optional<uint64_t> seed;
  unsigned shards = 0;   ///< 0 = from the machine
  unsigned workers = 1;  ///< worker processes
};

struct RunCommand {
  ScenarioOptions scenario;
  std::string out;  ///< empty = runs/<scenario>-<UTC time>
  std::string metrics_listen;
  std::string linger;
  std::string push_gateway, push_every;
  bool push_delete = false;
  bool force = false;  ///< also when the machine cannot hold it
  bool quiet = false, no_tui = false, no_color = false;
};
int run_command(const RunCommand& command, Environment& environment);

struct PlanCommand {
  ScenarioOptions scenario;
  bool json = false;
};
int plan_command(const PlanCommand& command, Environment& environment);

struct DoctorCommand {
  ScenarioOptions scenario;  ///< `file` empty: the machine alone
  bool json = false, no_color = false;
};
int doctor_command(const DoctorCommand& command, Environment& environment);

struct CapacityCommand {
  ScenarioOptions scenario;
  std::string out;       ///< empty = runs/capacity-<scenario>-<UTC time>
  std::string from, to;  ///< rates; empty = the scenario's, and 64 times that
  double precision = 5;  ///< percent
  bool quiet = false, no_tui = false, no_color = false;
};
int capacity_command(const CapacityCommand& command, Environment& environment);

struct HubCommand {
  std::string listen = "127.0.0.1";
  std::string host_name = "localhost";
  std::string mqtt_port = "1883";  ///< number or `off`
  std::string mqtts_port = "8883";
  std::string http_port = "8080";
  std::string https_port = "8443";
  std::string data_folder;  ///< empty = $XDG_DATA_HOME/twinstorm/hub or ~/.local/share/twinstorm/hub
  std::vector<std::string> tls_names;
  std::string tls_certificate, tls_key;
  std::vector<std::string> device_authorities;  ///< files
  std::string jwks_file, entra_issuer, entra_audience = "https://iothubs.azure.net";
  bool issue_dev_token = false;    ///< print a bearer token instead of serving
  std::vector<std::string> roles;  ///< of that token; empty = IoT Hub Data Contributor
  std::string token_valid = "1h";
  std::string configuration_interval = "5m";
  std::string metrics_listen;
  std::string import_file;
  std::string ready_file;
  std::string tier;  ///< empty = none
  uint32_t units = 1;
  bool tier_on_request = false;
  uint32_t query_page_default = 0;  ///< 0 = 1,000, or the maximum where that is less
  uint32_t query_page_max = 10'000;
  std::string query_staleness = "0s";
  std::string plant;  ///< faults on purpose: `dropNotification:1000,...`; empty = none
  unsigned threads = 0;
  bool quiet = false;
};
int hub_command(const HubCommand& command, Environment& environment);

struct ReportCommand {
  std::string run;
  std::string format = "html";
  std::string output;  ///< empty: html beside the run, the others to stdout
  bool no_color = false;
};
int report_command(const ReportCommand& command, Environment& environment);

struct DeviceCommand {
  HubAccessOptions hub;
  std::string device_id;  ///< with a ready file: whose key is asked from the hub
  bool create = false;    ///< registers it when the hub does not know it
  std::string transport = "mqtt";
  uint16_t port = 0;             ///< 0 = from the connection string, the ready file, or the transport's own
  std::string certificate, key;  ///< files
  std::vector<std::string> reports;
  bool watch = false, json = false;
  std::string length;  ///< `--for`
};
int device_command(const DeviceCommand& command, Environment& environment);

struct TwinCommand {
  enum class Verb : uint8_t { get, patch, replace, query };
  Verb verb = Verb::get;
  HubAccessOptions hub;
  uint16_t http_port = 0, https_port = 0;  ///< 0 = the ready file's, or 80 and 443
  std::string device_id, module_id;
  std::string json;  ///< text, @FILE or -
  std::string if_match;
  std::string sql;
  int page_size = 0;
  bool all = false, compact = false;
};
int twin_command(const TwinCommand& command, Environment& environment);

int version_command(Environment& environment);

/// `0.1.0`.
std::string version();
/// How to print an error that ends a command.
int fail(Environment& environment, int code, const std::string& message);

/// Loads and checks (`load`: and resolves); prints every diagnostic and returns nothing when there is one.
struct LoadedScenario {
  scenario::Scenario scenario;
  ShardId shards = 1;
  unsigned workers = 1;
};
std::optional<LoadedScenario> load_unresolved(const ScenarioOptions& options, Environment& environment);
std::optional<LoadedScenario> load(const ScenarioOptions& options, Environment& environment);

}  // namespace twinstorm::cli
