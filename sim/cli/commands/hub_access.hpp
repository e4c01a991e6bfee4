// How the small clients (`device`, `twin`) find a hub and its credentials.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/cli/environment.hpp"
#include "sim/net/asio.hpp"
#include "sim/net/tls.hpp"
#include "sim/run/hub_process.hpp"

namespace twinstorm::cli {

/// Options that both commands have.
struct HubAccessOptions {
  std::string connection_string;  ///< the text, `env:NAME` or `@FILE`; empty = the command's environment variables
  std::string ready_file;         ///< of a running `twinstorm hub`: ports, CA and, where needed, its policy
  std::string ca_file;            ///< PEM; empty = the ready file's, else the system's store
  bool no_tls = false;
};

/// `env:NAME` is the variable's value, `@FILE` the file's content without white space around it, everything else the
/// text itself. `what` names the option in errors, which never repeat the text.
Result<std::string> read_secret(const std::string& what, const std::string& text);
/// The option, else the first of these environment variables that is set, else an error that names them all.
Result<std::string> read_connection_string(const HubAccessOptions& options, const std::vector<std::string>& variables);
/// A JSON object given as text, as `@FILE` or as `-` for stdin; compact. The error names place and reason.
Result<std::string> read_json_object(const std::string& what, const std::string& text, Environment& environment);
Result<std::string> read_text_file(const std::string& what, const std::string& path);

/// The ready file, when one was given; an address that only listens everywhere is dialled on loopback.
Result<std::optional<run::HubAddress>> read_hub(const HubAccessOptions& options);

/// One port of a hub, ready to be dialled.
struct Dial {
  std::string host;  ///< what the certificate must name
  net::Endpoint endpoint;
  std::optional<net::TlsContext> tls;
  std::string where() const;  ///< `host:port`
};
struct DialPorts {
  const char* name;             ///< `MQTT` or `HTTP`, for errors
  uint16_t plain = 0, tls = 0;  ///< 0 = the hub has none
};
/// `ports` of the hub when it has a ready file; `port` (0 = none) wins over it. TLS unless the options say no, or the
/// ready file has the plain port only.
Result<Dial> make_dial(const HubAccessOptions& options, const std::optional<run::HubAddress>& hub,
                       const std::string& host, uint16_t port, DialPorts ports);

/// The service's answer to one request.
struct RestAnswer {
  int status = 0;
  std::string body, etag, continuation;
};
struct RestRequest {
  std::string method, target, body;
  std::string if_match;      ///< as given by people: quotes are added
  std::string continuation;  ///< of the page before
  int page_size = 0;         ///< 0 = not sent
};

/// The service API of a hub with a policy's credentials: one request at a time, blocking.
class RestClient {
 public:
  /// `http_port`, `https_port`: 0 = the ready file's, else 80 and 443.
  static Result<RestClient> connect(const HubAccessOptions& options, const std::string& connection_string,
                                    uint16_t http_port, uint16_t https_port, Environment& environment);
  RestClient(RestClient&&) noexcept;
  ~RestClient();
  /// Any answer with a status; the error says why there was none.
  Result<RestAnswer> call(const RestRequest& request);
  /// The same, and an error in the hub's words when the status is not below 300. `what` begins that sentence.
  Result<RestAnswer> must(const std::string& what, const RestRequest& request);
  const std::string& host_name() const;

 private:
  struct Impl;
  explicit RestClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// 2 for what the person can correct on the command line, 3 for everything the hub or the network said.
int exit_code_of(const Error& error);

}  // namespace twinstorm::cli
