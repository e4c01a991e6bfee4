#include <exception>
#include <ostream>

#include <CLI/CLI.hpp>

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
  twinstorm run scenarios/rollout.yaml                         run it on the embedded hub
  twinstorm run scenarios/smoke.yaml --set fleets[0].count=50  change a value of the scenario
  twinstorm hub --ready-file hub.json                          a hub of its own, for trying things by hand
  twinstorm report runs/rollout-20260301T080000Z --format text

Exit codes of run: 0 valid and everything held; 2 usage or scenario error; 3 set-up failed; 10 correctness failed;
11 SLO failed; 13 run INVALID; 130, 143 interrupted; 1 internal error.
Every option can be given as an environment variable too, e.g. TWINSTORM_SHARDS=4; the option wins.)";

constexpr const char* kHubExamples = R"(
Ports are numbers, 0 for any free one, or off. On first start the hub makes a development CA and a server certificate
for localhost, 127.0.0.1, ::1 and its host name, keeps them in its data folder, and prints how to trust the CA and how to
connect: nothing else is needed to try an Azure IoT SDK on this machine.

Examples:
  twinstorm hub                                          MQTT 1883, MQTTS 8883, HTTP 8080, HTTPS 8443 on 127.0.0.1
  twinstorm hub --https-port 443                         for SDK clients that dial no other port (needs privileges)
  twinstorm hub --listen 0.0.0.0 --tls-name hub.lab --mqtt-port off --http-port off
                                                         for other machines: TLS only, certificate for hub.lab too
  twinstorm hub --tls-cert hub.pem --tls-key hub.key     a certificate of your own
  twinstorm hub --device-ca fleet-ca.pem                 lets in X.509 devices whose certificates this CA signed
  twinstorm hub --mqtts-port off --https-port off        no TLS, no certificates)";

void scenario_options(CLI::App& app, ScenarioOptions& options) {
  app.add_option("SCENARIO", options.file, "Scenario file (YAML or JSON)")->required();
  app.add_option("--set", options.overrides,
                 "Override a value: path=value, e.g. phases[steady].duration=5s (repeatable)")
      ->allow_extra_args(false);
  app.add_option("--seed", options.seed, "Seed of everything random; default: the scenario's")
      ->envname("TWINSTORM_SEED");
  app.add_option("--shards", options.shards, "Threads of the generator; default: one per core, less the hub's")
      ->envname("TWINSTORM_SHARDS")
      ->check(CLI::Range(1, 256));
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
  run_app->add_option("--linger", run.linger, "Keep the metrics endpoint up so long after the run, e.g. 15s")
      ->envname("TWINSTORM_LINGER");
  run_app->add_flag("-q,--quiet", run.quiet, "No progress, only the result");
  run_app->add_flag("--no-tui", run.no_tui, "Plain progress lines even on a terminal");
  run_app->add_flag("--no-color", run.no_color, "No colours (NO_COLOR works too)");

  PlanCommand plan;
  auto* plan_app = app.add_subcommand("plan", "Expand a scenario and print what it would do; no traffic");
  scenario_options(*plan_app, plan.scenario);
  plan_app->add_flag("--json", plan.json, "Print the plan as JSON");

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
      ->allow_extra_args(false);
  auto* tls_certificate = hub_app->add_option("--tls-cert", hub.tls_certificate,
                                              "Own server certificate (PEM) instead of the development one");
  auto* tls_key = hub_app->add_option("--tls-key", hub.tls_key, "Its private key (PEM)");
  tls_certificate->needs(tls_key);
  tls_key->needs(tls_certificate);
  hub_app
      ->add_option("--device-ca", hub.device_authorities,
                   "CA (PEM) whose certificates let X.509 CA-signed devices in (repeatable)")
      ->allow_extra_args(false);
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
  hub_app->add_option("--import", hub.import_file, "Load twins, modules and deviceJobs from a JSON file")
      ->envname("TWINSTORM_IMPORT");
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

  auto* version_app = app.add_subcommand("version", "Print the version");

  try {
    auto args = environment.args;
    std::reverse(args.begin(), args.end());
    app.parse(args);
    if (*run_app) return run_command(run, environment);
    if (*plan_app) return plan_command(plan, environment);
    if (*hub_app) return hub_command(hub, environment);
    if (*report_app) return report_command(report, environment);
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
