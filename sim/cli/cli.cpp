#include <algorithm>
#include <exception>
#include <ostream>

#include <CLI/CLI.hpp>

#include "sim/base/spelling.hpp"
#include "sim/cli/commands/commands.hpp"
#include "sim/cli/exit_code.hpp"

namespace twinstorm::cli {
namespace {

constexpr const char* kAbout = R"(twinstorm: load tests and fleet simulation for IoT device twins

Thousands of simulated devices hold MQTT connections to an IoT-Hub-compatible hub, fetch their twins, react to desired
properties and report back, while simulated back ends patch and query them. A run ends in a verdict and an HTML report.)";

constexpr const char* kExamples = R"(
Examples:
  twinstorm plan scenarios/rollout.yaml                        what would happen, without traffic
  twinstorm doctor scenarios/rollout.yaml                      whether this machine can hold it
  twinstorm run scenarios/rollout.yaml                         run it on the embedded hub
  twinstorm run scenarios/smoke.yaml --set fleets[0].count=50  change a value of the scenario
  twinstorm hub --ready-file hub.json                          a hub of its own, for trying things by hand
  twinstorm report runs/rollout-20260301T080000Z --format text
  twinstorm device --ready-file hub.json --device-id dev1 --create --watch
  twinstorm twin get dev1 --ready-file hub.json

Exit codes of run: 0 valid and everything held; 2 usage or scenario error; 3 set-up failed; 10 correctness failed;
11 SLO failed; 13 run INVALID; 130, 143 interrupted; 1 internal error.
Every option can be given as an environment variable too, e.g. TWINSTORM_SHARDS=4; the option wins.)";

constexpr const char* kHubExamples = R"(
Ports are numbers, 0 for any free one, or off. On first start the hub makes a development CA and a server certificate
for localhost, 127.0.0.1, ::1 and its host name, keeps them in its data folder, and prints how to trust the CA and how to
connect. Azure IoT SDKs work with it unchanged; over HTTPS and WebSocket they dial port 443 only.

Examples:
  twinstorm hub                                          MQTT 1883, MQTTS 8883, HTTP 8080, HTTPS 8443 on 127.0.0.1
  twinstorm hub --https-port 443                         for SDK clients that dial no other port (needs privileges)
  twinstorm hub --listen 0.0.0.0 --tls-name hub.lab --mqtt-port off --http-port off
                                                         for other machines: TLS only, certificate for hub.lab too
  twinstorm hub --tls-cert hub.pem --tls-key hub.key     a certificate of your own
  twinstorm hub --device-ca fleet-ca.pem                 lets in X.509 devices whose certificates this CA signed
  twinstorm hub --mqtts-port off --https-port off        no TLS, no certificates
  twinstorm hub --tier S1 --units 2                      delays, then refuses (429), as two units of S1 would;
                                                         GET /twinstorm/throttle says what it did)";

constexpr const char* kDeviceExamples = R"(
A connection string is a secret that others on this machine can see in the list of processes: env:NAME reads it from an
environment variable, @FILE from a file. Without --connection-string TWINSTORM_DEVICE_CONNECTION_STRING or
IOTHUB_DEVICE_CONNECTION_STRING is used.

Examples:
  twinstorm hub --ready-file hub.json &                       a hub to try it on
  twinstorm device --ready-file hub.json --device-id dev1 --create --watch
                                                              a device of that hub, made when it is not there
  twinstorm device --connection-string env:DEVICE             the twin, once
  twinstorm device --connection-string @dev1.txt --report '{"temperature":21}' --watch
                                                              reports, then prints changes until Ctrl-C
  twinstorm device --transport mqttws --port 8443 --ca-file ca.pem --for 1m --json
                                                              over WebSocket, one JSON line per event, for a minute
  twinstorm device --connection-string 'HostName=hub.example;DeviceId=dev1;x509=true' --cert dev1.pem --key dev1.key

Method calls are answered with status 200 and the payload they brought. Exit codes: 0 done; 2 usage; 3 the hub could not
be reached or said no; 130, 143 interrupted before everything asked for was done.)";

constexpr const char* kTwinExamples = R"(
The connection string is that of a shared access policy (service rights). env:NAME reads it from an environment variable,
@FILE from a file: then no other user of this machine can see it. Without the option TWINSTORM_CONNECTION_STRING or
IOTHUB_CONNECTION_STRING is used, with --ready-file that hub's own.

Examples:
  twinstorm twin get dev1 --ready-file hub.json
  twinstorm twin patch dev1 '{"properties":{"desired":{"interval":30}}}' --ready-file hub.json
  twinstorm twin patch dev1 @tags.json --if-match AAAAAAAAAAE= --connection-string env:IOTHUB_CONNECTION_STRING
  twinstorm twin query "SELECT deviceId, tags.plant FROM devices WHERE tags.region = 'US'" --all | jq .

Exit codes: 0 done; 2 usage; 3 the hub could not be reached or said no; 130, 143 interrupted.)";

void hub_access_options(CLI::App& app, HubAccessOptions& options, const char* connection_string) {
  app.add_option("--connection-string", options.connection_string, connection_string);
  app.add_option("--ready-file", options.ready_file, "Ready file of a running twinstorm hub: its ports and its CA")
      ->envname("TWINSTORM_READY_FILE");
  app.add_option("--ca-file", options.ca_file, "CA (PEM) the hub's certificate must lead to; default: the system's")
      ->envname("TWINSTORM_CA_FILE");
  app.add_flag("--no-tls", options.no_tls, "Connect without TLS");
}

void device_options(CLI::App& app, DeviceCommand& device) {
  app.footer(kDeviceExamples);
  hub_access_options(app, device.hub, "Device connection string: env:NAME, @FILE or the text itself");
  auto* id = app.add_option("--device-id", device.device_id, "Device of the ready file's hub, instead of the above");
  app.add_flag("--create", device.create, "Register that device when the hub does not know it")->needs(id);
  app.add_option("--transport", device.transport, "mqtt or mqttws")
      ->capture_default_str()
      ->check(CLI::IsMember({"mqtt", "mqttws"}));
  app.add_option("--port", device.port,
                 "Port to dial; default: the connection string's, the ready file's, or 8883 (mqttws: 443)");
  auto* certificate = app.add_option("--cert", device.certificate, "X.509 certificate of the device (PEM)");
  auto* key = app.add_option("--key", device.key, "Its private key (PEM)");
  certificate->needs(key);
  key->needs(certificate);
  app.add_option("--report", device.reports, "Reported properties to send: JSON, @FILE or - for stdin (repeatable)")
      ->allow_extra_args(false);
  app.add_flag("--watch", device.watch, "Stay connected and print what comes, until Ctrl-C");
  app.add_option("--for", device.length, "Watch for so long, e.g. 30s");
  app.add_flag("--json", device.json, "One JSON object per line");
}

/// The subcommands of `twin`; the chosen one sets the verb.
void twin_options(CLI::App& app, TwinCommand& twin) {
  app.footer(kTwinExamples);
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* about, TwinCommand::Verb verb) {
    auto* verb_app = app.add_subcommand(name, about);
    verb_app->callback([&twin, verb] { twin.verb = verb; });
    hub_access_options(*verb_app, twin.hub, "Service connection string: env:NAME, @FILE or the text itself");
    verb_app->add_option("--http-port", twin.http_port, "Port with --no-tls; default: the ready file's, or 80");
    verb_app->add_option("--https-port", twin.https_port, "Port with TLS; default: the ready file's, or 443");
    return verb_app;
  };
  auto* get = add("get", "Print a twin", TwinCommand::Verb::get);
  auto* patch = add("patch", "Merge JSON into tags and desired properties", TwinCommand::Verb::patch);
  auto* replace = add("replace", "Replace tags and desired properties", TwinCommand::Verb::replace);
  auto* query = add("query", "Print the results of a query, one per line", TwinCommand::Verb::query);
  for (auto* each : {get, patch, replace}) {
    each->add_option("DEVICE", twin.device_id, "Device id")->required();
    each->add_option("--module", twin.module_id, "The twin of this module of the device");
    each->add_flag("--compact", twin.compact, "On one line");
  }
  for (auto* each : {patch, replace}) {
    each->add_option("JSON", twin.json,
                     each == patch
                         ? R"(An object with "tags", "properties.desired" or both; null deletes. @FILE, or - for stdin)"
                         : R"(An object with the new "tags" and "properties.desired". @FILE, or - for stdin)")
        ->required();
    each->add_option("--if-match", twin.if_match, "Only when the twin still has this ETag; default: *, always");
  }
  query->add_option("SQL", twin.sql, "Query text")->required();
  query->add_option("--page-size", twin.page_size, "Results per request")->check(CLI::Range(1, 10'000));
  query->add_flag("--all", twin.all, "Fetch every page, not only the first");
}

constexpr const char* kCapacityExamples = R"(
The scenario is run again and again, all rates of its open-model loads multiplied by the same factor: doubled or halved
until the limit lies between two rates, then nearer and nearer. A rate breaks when two runs of it broke, the reported one
has held twice. A rate that the generator cannot produce is not a limit of the hub: the answer then is "at least".
Keep recorded phases long enough for the samples that the objectives need, and short enough for some ten runs.

Examples:
  twinstorm capacity scenarios/rollout.yaml --set phases[steady].duration=10s
  twinstorm capacity scenarios/rollout.yaml --from 200/s --to 5000/s --precision 10

Exit codes: 0 a rate was found; 11 nothing held; 13 the runs did not say; 2 usage; 3 set-up failed; 130, 143
interrupted, with what was known by then written all the same.)";

constexpr const char* kDoctorExamples = R"(
With a scenario: each thing it needs (descriptors, local ports, memory, connection tracking, CPUs, disk) beside what this
machine has, with the arithmetic and the command that changes it. `run` makes the same checks before it starts and refuses
what fails; `run --force` does not. Without a scenario: how many devices of each kind fit, and which limit comes first.

Examples:
  twinstorm doctor                                       this machine
  twinstorm doctor --workers 3                           the same for 3 worker processes and 3 hubs
  twinstorm doctor scenarios/scale-18k.yaml              a scenario on this machine
  twinstorm doctor scenarios/rollout.yaml --set fleets[0].count=50000 --workers 3
  twinstorm doctor scenarios/rollout.yaml --json | jq '.checks[] | select(.severity != "ok")'

What it sees is what the shell it runs in gives it: limits (ulimit -n), control group, network namespace.
Exit codes: 0 it fits, perhaps with warnings; 3 it does not; 2 usage or scenario error.)";

void scenario_options(CLI::App& app, ScenarioOptions& options, bool required = true) {
  app.add_option("SCENARIO", options.file, "Scenario file (YAML or JSON)")->required(required);
  app.add_option("--set", options.overrides,
                 "Override a value: path=value, e.g. phases[steady].duration=5s (repeatable)")
      ->allow_extra_args(false);
  app.add_option("--seed", options.seed, "Seed of everything random; default: the scenario's")
      ->envname("TWINSTORM_SEED");
  app.add_option("--shards", options.shards, "Threads of the generator; default: one per core, less the hub's")
      ->envname("TWINSTORM_SHARDS")
      ->check(CLI::Range(1, 256));
  app.add_option("--workers", options.workers,
                 "Processes that the generator's threads are spread over, for more devices than one process may have "
                 "descriptors; default 1")
      ->envname("TWINSTORM_WORKERS")
      ->check(CLI::Range(1, 64));
}

/// What is wrong with the command that `args` (in order) begin with; empty when it is one. CLI11 would only say that a
/// command is missing.
std::string unknown_command(CLI::App& app, std::vector<std::string> args) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  if (names.empty() || args.empty() || args.front().starts_with('-')) return {};
  const std::string word = args.front();
  if (const auto found = std::find(names.begin(), names.end(), word); found != names.end()) {
    args.erase(args.begin());
    return unknown_command(*app.get_subcommand(word), std::move(args));
  }
  const std::string near = nearest(word, names);
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
  return app.get_name() + " has no command \"" + word +
         "\": " + (near.empty() ? "give one of " + all : "did you mean \"" + near + "\"?");
}

}  // namespace

int run_cli(Environment& environment) {
  CLI::App app{kAbout, "twinstorm"};
  app.require_subcommand(1);
  app.footer(kExamples);
  app.set_help_all_flag("--help-all", "Help of every subcommand");

  RunCommand run;
  auto* run_app = app.add_subcommand("run", "Run a scenario and write its record and report");
  scenario_options(*run_app, run.scenario);
  run_app->add_option("--out", run.out, "Folder for the record; default: runs/<scenario>-<UTC time>")
      ->envname("TWINSTORM_OUT");
  run_app
      ->add_option("--metrics-listen", run.metrics_listen,
                   "Serve Prometheus metrics at ADDR:PORT during the run (PORT alone: loopback)")
      ->envname("TWINSTORM_METRICS_LISTEN");
  run_app->add_option("--linger", run.linger, "Keep the metrics up so long after the run, e.g. 15s")
      ->envname("TWINSTORM_LINGER");
  auto* push = run_app
                   ->add_option("--push-gateway", run.push_gateway,
                                "Send Prometheus metrics to the Pushgateway at HOST:PORT, for runs too short to scrape")
                   ->envname("TWINSTORM_PUSH_GATEWAY");
  run_app->add_option("--push-every", run.push_every, "How often, and once at the end; default 5s")->needs(push);
  run_app
      ->add_flag("--push-delete", run.push_delete,
                 "Take the metrics out of the Pushgateway when all is over (after --linger)")
      ->needs(push);
  run_app->add_flag("--force", run.force,
                    "Run it even if this machine cannot hold it (twinstorm doctor); the report says so");
  run_app->add_flag("-q,--quiet", run.quiet, "No progress, only the result");
  run_app->add_flag("--no-tui", run.no_tui, "Plain progress lines even on a terminal");
  run_app->add_flag("--no-color", run.no_color, "No colours (NO_COLOR works too)");

  PlanCommand plan;
  auto* plan_app = app.add_subcommand("plan", "Expand a scenario and print what it would do; no traffic");
  scenario_options(*plan_app, plan.scenario);
  plan_app->add_flag("--json", plan.json, "Print the plan as JSON");

  DoctorCommand doctor;
  auto* doctor_app = app.add_subcommand("doctor", "Check whether this machine can hold a scenario, and what to change");
  doctor_app->footer(kDoctorExamples);
  scenario_options(*doctor_app, doctor.scenario, false);
  doctor_app->add_flag("--json", doctor.json, "Print the checks as JSON");
  doctor_app->add_flag("--no-color", doctor.no_color, "No colours (NO_COLOR works too)");

  CapacityCommand capacity;
  auto* capacity_app = app.add_subcommand("capacity", "Find the highest rate at which a scenario still holds");
  capacity_app->footer(kCapacityExamples);
  scenario_options(*capacity_app, capacity.scenario);
  capacity_app->add_option("--from", capacity.from,
                           "Rate of all open loads together to begin with, e.g. 200/s; default: the scenario's");
  capacity_app->add_option("--to", capacity.to, "Highest rate to try; default: 64 times the first");
  capacity_app
      ->add_option("--precision", capacity.precision, "How near the rates that hold and do not must come, in percent")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 100.0));
  capacity_app->add_option("--out", capacity.out, "Folder for all runs; default: runs/capacity-<scenario>-<UTC time>");
  capacity_app->add_flag("-q,--quiet", capacity.quiet, "No progress within a run");
  capacity_app->add_flag("--no-tui", capacity.no_tui, "No redrawn block even on a terminal");
  capacity_app->add_flag("--no-color", capacity.no_color, "No colours (NO_COLOR works too)");

  HubCommand hub;
  auto* hub_app = app.add_subcommand("hub", "Serve an IoT-Hub-compatible twin hub until interrupted");
  hub_app->footer(kHubExamples);
  hub_app->add_option("--listen", hub.listen, "Address to listen on")
      ->capture_default_str()
      ->envname("TWINSTORM_LISTEN");
  hub_app->add_option("--hostname", hub.host_name, "HostName of the connection strings")
      ->capture_default_str()
      ->envname("TWINSTORM_HOSTNAME");
  hub_app->add_option("--mqtt-port", hub.mqtt_port, "MQTT port, 0 for any free one, or off")
      ->capture_default_str()
      ->envname("TWINSTORM_MQTT_PORT");
  hub_app->add_option("--mqtts-port", hub.mqtts_port, "MQTT over TLS port, 0 for any free one, or off")
      ->capture_default_str()
      ->envname("TWINSTORM_MQTTS_PORT");
  hub_app->add_option("--http-port", hub.http_port, "REST and MQTT over WebSocket port, 0 for any free one, or off")
      ->capture_default_str()
      ->envname("TWINSTORM_HTTP_PORT");
  hub_app
      ->add_option("--https-port", hub.https_port,
                   "The same over TLS, 0 for any free one, or off; SDKs are fixed to 443")
      ->capture_default_str()
      ->envname("TWINSTORM_HTTPS_PORT");
  hub_app
      ->add_option(
          "--data", hub.data_folder,
          "Folder that keeps the development certificates and token key; default: ~/.local/share/twinstorm/hub")
      ->envname("TWINSTORM_DATA");
  hub_app
      ->add_option("--tls-name", hub.tls_names, "Further name or address for the development certificate (repeatable)")
      ->allow_extra_args(false)
      ->envname("TWINSTORM_TLS_NAME");
  auto* tls_certificate = hub_app->add_option("--tls-cert", hub.tls_certificate,
                                              "Own server certificate (PEM) instead of the development one");
  auto* tls_key = hub_app->add_option("--tls-key", hub.tls_key, "Its private key (PEM)");
  tls_certificate->envname("TWINSTORM_TLS_CERT")->needs(tls_key);
  tls_key->envname("TWINSTORM_TLS_KEY")->needs(tls_certificate);
  hub_app
      ->add_option("--device-ca", hub.device_authorities,
                   "CA (PEM) whose certificates let X.509 CA-signed devices in (repeatable)")
      ->allow_extra_args(false)
      ->envname("TWINSTORM_DEVICE_CA");
  hub_app->add_option("--jwks", hub.jwks_file, "Key set (JSON) of the issuer whose Entra bearer tokens are taken")
      ->envname("TWINSTORM_JWKS");
  hub_app->add_option("--entra-issuer", hub.entra_issuer, "Issuer (iss) of those tokens; default: any with such a key");
  hub_app->add_option("--entra-audience", hub.entra_audience, "Audience (aud) of bearer tokens")->capture_default_str();
  auto* issue = hub_app->add_flag(
      "--issue-dev-token", hub.issue_dev_token,
      "Print a bearer token that hubs with the same --data folder take, and exit; they may be running");
  hub_app->add_option("--role", hub.roles, "Its role (repeatable); default: IoT Hub Data Contributor")
      ->allow_extra_args(false)
      ->needs(issue);
  hub_app->add_option("--valid", hub.token_valid, "How long it is valid")->capture_default_str()->needs(issue);
  hub_app->add_option("--metrics-listen", hub.metrics_listen, "Serve Prometheus metrics at ADDR:PORT")
      ->envname("TWINSTORM_METRICS_LISTEN");
  hub_app
      ->add_option("--plant", hub.plant,
                   "Spoil every n-th operation, to check a tool that claims to notice: dropNotification, "
                   "swapNotifications, duplicateNotification, loseReported, forgetDesired, each with :n, by commas; "
                   "GET /twinstorm/planted tells what was spoiled")
      ->type_name("FAULT:N,...");
  hub_app->add_option("--import", hub.import_file, "Load twins, modules and deviceJobs from a JSON file")
      ->envname("TWINSTORM_IMPORT");
  hub_app
      ->add_option("--configuration-interval", hub.configuration_interval,
                   "Time between two evaluations of configurations (automatic device management), e.g. 30s")
      ->capture_default_str()
      ->envname("TWINSTORM_CONFIGURATION_INTERVAL");
  hub_app
      ->add_option(
          "--query-page-default", hub.query_page_default,
          "Rows of a query page when the client asks for no number; default: 1000, or the maximum if that is less")
      ->envname("TWINSTORM_QUERY_PAGE_DEFAULT")
      ->check(CLI::Range(1, 10'000));
  hub_app
      ->add_option("--query-page-max", hub.query_page_max,
                   "Most rows of a query page, 1 to 10000; 100 is what the live service documents")
      ->capture_default_str()
      ->envname("TWINSTORM_QUERY_PAGE_MAX")
      ->check(CLI::Range(1, 10'000));
  hub_app
      ->add_option(
          "--query-staleness", hub.query_staleness,
          "How long after each write of a twin queries see it: a duration or a distribution of durations, e.g. "
          "5s or '{uniform: [1s, 5s]}' or '{lognormal: {p50: 1s, p99: 10s}}'; GET of a twin is always current")
      ->capture_default_str()
      ->envname("TWINSTORM_QUERY_STALENESS");
  auto* tier = hub_app->add_option("--tier", hub.tier,
                                   "Hold clients to the rates, daily messages and other limits of this tier of the "
                                   "service: F1, B1 to B3, S1 to S3; default: no such limits");
  tier->envname("TWINSTORM_TIER");
  hub_app
      ->add_option("--units", hub.units, "Units of that tier: 1 of F1, up to 10 of B3 and S3, up to 200 of the others")
      ->capture_default_str()
      ->envname("TWINSTORM_UNITS")
      ->needs(tier);
  hub_app
      ->add_flag("--tier-on-request", hub.tier_on_request,
                 "Its rates and daily messages hold only from POST /twinstorm/throttle on (which needs RegistryWrite): "
                 "to register a fleet first")
      ->needs(tier);
  hub_app->add_option("--ready-file", hub.ready_file, "Write ports and connection strings here once everything listens")
      ->envname("TWINSTORM_READY_FILE");
  hub_app->add_option("--threads", hub.threads, "Shards; default: half of the cores")
      ->envname("TWINSTORM_THREADS")
      ->check(CLI::Range(1, 256));
  hub_app->add_flag("-q,--quiet", hub.quiet, "Print nothing but errors");

  ReportCommand report;
  auto* report_app = app.add_subcommand("report", "Make a report from the record of a run");
  report_app->add_option("RUN", report.run, "Folder of a run, or its summary.json")->required();
  report_app->add_option("--format", report.format, "html, text, junit or json")
      ->capture_default_str()
      ->check(CLI::IsMember({"html", "text", "junit", "json"}));
  report_app->add_option("-o,--output", report.output,
                         "File to write; default: report.html in the folder, stdout for the others");
  report_app->add_flag("--no-color", report.no_color, "No colours");

  DeviceCommand device;
  auto* device_app = app.add_subcommand("device", "Be one device: print its twin, report, watch what the hub sends");
  device_options(*device_app, device);

  TwinCommand twin;
  auto* twin_app = app.add_subcommand("twin", "Get, patch, replace and query twins, as a back end");
  twin_options(*twin_app, twin);

  auto* version_app = app.add_subcommand("version", "Print the version");

  try {
    auto args = environment.args;
    if (const auto problem = unknown_command(app, args); !problem.empty()) {
      return fail(environment, exit_code::kUsage, problem + " (see twinstorm --help)");
    }
    std::reverse(args.begin(), args.end());
    app.parse(args);
    if (*run_app) return run_command(run, environment);
    if (*plan_app) return plan_command(plan, environment);
    if (*doctor_app) return doctor_command(doctor, environment);
    if (*capacity_app) return capacity_command(capacity, environment);
    if (*hub_app) return hub_command(hub, environment);
    if (*report_app) return report_command(report, environment);
    if (*device_app) return device_command(device, environment);
    if (*twin_app) return twin_command(twin, environment);
    if (*version_app) return version_command(environment);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      app.exit(error, environment.out, environment.err);
      return exit_code::kPassed;
    }
    return fail(environment, exit_code::kUsage, std::string{error.what()} + " (see twinstorm --help)");
  } catch (const std::exception& error) {
    return fail(environment, exit_code::kInternal, std::string{"internal error: "} + error.what());
  }
  return exit_code::kInternal;
}

}  // namespace twinstorm::cli
