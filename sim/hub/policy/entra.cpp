#include "sim/hub/policy/entra.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/hub/policy/requirements.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {
namespace {

constexpr const char* kKeyFile = "dev-token-key.pem";
constexpr const char* kKeySetFile = "dev-token-jwks.json";

Error io_error(const char* doing, const std::filesystem::path& path, int error) {
  return make_error(ErrorCode::io, fmt::format("cannot {} '{}': {}", doing, path.string(), std::strerror(error)));
}

Result<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) {
    const int error = errno;
    if (error == ENOENT) return make_error(ErrorCode::not_found, fmt::format("there is no file '{}'", path.string()));
    return io_error("read", path, error);
  }
  return std::string{std::istreambuf_iterator<char>{file}, {}};
}

/// Writes a file that is either complete or not there; an existing one stays as it is, so that of two processes that
/// start at once both use the same.
Result<void> write_new_file(const std::filesystem::path& path, std::string_view text, mode_t mode) {
  std::filesystem::path draft = path;
  draft += fmt::format(".{}.tmp", getpid());
  const int file = open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (file < 0) return io_error("create", draft, errno);
  const bool complete = write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int write_error = errno;
  close(file);
  const bool placed = complete && (link(draft.c_str(), path.c_str()) == 0 || errno == EEXIST);
  const int link_error = errno;
  unlink(draft.c_str());
  if (!complete) return io_error("write", draft, write_error);
  if (!placed) return io_error("create", path, link_error);
  return {};
}

struct DevKey {
  std::string pem;
  std::string id;
  std::string jwks;
};

/// The key of the folder, made when it has none. Its id follows from the key, so no two files have to agree.
Result<DevKey> dev_key(const std::filesystem::path& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return io_error("create the data folder", folder, error.value());
  }
  const std::filesystem::path path = folder / kKeyFile;
  auto pem = read_file(path);
  if (!pem && pem.error().code == ErrorCode::not_found) {
    if (auto written = write_new_file(path, protocol::make_signing_key(), 0600); !written) return written.error();
    pem = read_file(path);
  }
  if (!pem) return pem.error();
  const auto nameless = protocol::make_jwks(*pem, "");
  if (!nameless) {
    return make_error(ErrorCode::corrupt, fmt::format("'{}': {}; delete the file to get a new key", path.string(),
                                                      nameless.error().message));
  }
  constexpr size_t kIdDigits = 16;
  DevKey key{std::move(*pem), protocol::sha256_hex(*nameless).substr(0, kIdDigits), {}};
  key.jwks = *protocol::make_jwks(key.pem, key.id);
  if (auto written = write_new_file(folder / kKeySetFile, key.jwks + "\n", 0644); !written) return written.error();
  return key;
}

}  // namespace

Result<std::vector<TokenIssuer>> trusted_issuers(const HubConfig& config) {
  std::vector<TokenIssuer> issuers;
  if (!config.jwks_file.empty()) {
    const auto text = read_file(config.jwks_file);
    if (!text) return text.error();
    auto keys = protocol::JsonWebKeySet::parse(*text);
    if (!keys) {
      return make_error(ErrorCode::invalid_argument, fmt::format("'{}': {}", config.jwks_file, keys.error().message));
    }
    issuers.push_back({std::move(*keys), {.issuer = config.entra_issuer, .audience = config.entra_audience}});
  }
  if (!config.data_folder.empty()) {
    const auto key = dev_key(config.data_folder);
    if (!key) return key.error();
    issuers.push_back(
        {*protocol::JsonWebKeySet::parse(key->jwks), {.issuer = kDevIssuer, .audience = config.entra_audience}});
  }
  return issuers;
}

Result<std::string> issue_dev_token(const DevTokenRequest& request, WallTime now) {
  for (const std::string& role : request.roles) {
    if (data_actions_of_role(role)) continue;
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("role '{}' is not known, give one of {}", role, known_roles()));
  }
  const int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(request.valid).count();
  if (seconds < 1) return make_error(ErrorCode::invalid_argument, "a token has to be valid for a second at least");
  const auto key = dev_key(request.data_folder);
  if (!key) return key.error();
  std::string claims = R"({"iss":)";
  twin::write_string(kDevIssuer, claims);
  claims += R"(,"aud":)";
  twin::write_string(request.audience, claims);
  const int64_t issued = unix_seconds(now);
  claims +=
      fmt::format(R"(,"iat":{},"nbf":{},"exp":{},"sub":"twinstorm-dev","roles":[)", issued, issued, issued + seconds);
  for (size_t i = 0; i < request.roles.size(); ++i) {
    if (i > 0) claims += ',';
    twin::write_string(request.roles[i], claims);
  }
  claims += "]}";
  return protocol::sign_jwt(claims, key->pem, key->id);
}

}  // namespace twinstorm::hub
