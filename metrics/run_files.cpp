// The run folder: written so that a crash leaves no half file under a final name, read so that nothing altered is
// believed.
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metrics/run_record.hpp"

namespace twinstorm::metrics {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSummary = "summary.json";
constexpr const char* kSeries = "series.ndjson";
constexpr const char* kEvents = "events.ndjson";
constexpr const char* kOperations = "operations.hlog";
constexpr const char* kConvergence = "convergence.hlog";
constexpr const char* kGenerator = "generator.hlog";
constexpr const char* kResolved = "resolved.yaml";
constexpr const char* kEnvironment = "env.json";
constexpr const char* kManifest = "manifest.json";
constexpr std::array kListed{kSummary,     kSeries,    kEvents,   kOperations,
                             kConvergence, kGenerator, kResolved, kEnvironment};

Error io_error(std::string_view what, const fs::path& path, int error_number) {
  return make_error(ErrorCode::io, fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(error_number)));
}

/// A file descriptor that closes itself.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_{fd} {}
  Fd(Fd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  /// Closing may report a write error that was put off.
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

int open_retrying(const fs::path& path, int flags) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

Result<void> write_all(int fd, std::string_view content, const fs::path& path) {
  while (!content.empty()) {
    const auto written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return io_error("write", path, errno);
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

Result<std::string> read_file(const fs::path& path) {
  Fd fd{open_retrying(path, O_RDONLY)};
  if (fd.get() < 0) {
    auto error = io_error("read", path, errno);
    if (errno == ENOENT || errno == ENOTDIR) error.code = ErrorCode::not_found;
    return error;
  }
  std::string content;
  std::array<char, 65536> block;
  while (true) {
    const auto got = ::read(fd.get(), block.data(), block.size());
    if (got < 0) {
      if (errno == EINTR) continue;
      return io_error("read", path, errno);
    }
    if (got == 0) return content;
    content.append(block.data(), static_cast<size_t>(got));
  }
}

std::string sha256_hex(std::string_view content) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  EVP_Digest(content.data(), content.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

Error corrupt(const fs::path& path, std::string_view problem) {
  return make_error(ErrorCode::corrupt, fmt::format("{}: {}", path.string(), problem));
}

/// Discarded if it isn't JSON.
Json parse_json(std::string_view text) { return Json::parse(text, nullptr, false); }

/// Each line of `text` through `convert` into `out`.
template <class T, class Convert>
Result<void> read_lines(std::string_view text, const fs::path& path, std::vector<T>& out, Convert convert) {
  size_t number = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    if (line.empty()) continue;
    const auto json = parse_json(line);
    if (json.is_discarded()) return corrupt(path, fmt::format("line {} is not JSON", number));
    auto value = convert(json);
    if (!value) return corrupt(path, fmt::format("line {}: {}", number, value.error().message));
    out.push_back(std::move(*value));
  }
  return {};
}

Result<RunRecord> parse_summary(std::string_view text, const fs::path& path) {
  const auto json = parse_json(text);
  if (json.is_discarded()) return corrupt(path, "not JSON");
  auto record = run_record_from_json(json);
  if (!record) return corrupt(path, record.error().message);
  return record;
}

}  // namespace

Result<void> write_file_atomically(const fs::path& file, std::string_view content) {
  auto temporary = file;
  temporary += ".part";
  Fd fd{open_retrying(temporary, O_WRONLY | O_CREAT | O_TRUNC)};
  if (fd.get() < 0) return io_error("write", temporary, errno);
  const auto give_up = [&](Error error) {
    ::unlink(temporary.c_str());
    return error;
  };
  if (auto written = write_all(fd.get(), content, temporary); !written) return give_up(written.error());
  if (::fsync(fd.get()) != 0) return give_up(io_error("write", temporary, errno));
  if (fd.close() != 0) return give_up(io_error("write", temporary, errno));
  if (::rename(temporary.c_str(), file.c_str()) != 0) return give_up(io_error("write", file, errno));
  return {};
}

// --- RunWriter -------------------------------------------------------------------------------------------

struct RunWriter::State {
  fs::path folder;
  Fd series, events;

  Result<void> append(const Fd& fd, const char* name, const Json& json) {
    return write_all(fd.get(), json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n", folder / name);
  }
};

RunWriter::RunWriter(std::unique_ptr<State> state) : state_{std::move(state)} {}
RunWriter::RunWriter(RunWriter&&) noexcept = default;
RunWriter& RunWriter::operator=(RunWriter&&) noexcept = default;
RunWriter::~RunWriter() = default;

const fs::path& RunWriter::folder() const { return state_->folder; }

Result<RunWriter> RunWriter::create(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return make_error(ErrorCode::io, fmt::format("cannot make the folder {}: {}", folder.string(), error.message()));
  }
  if (fs::exists(folder / kSummary, error)) {
    return make_error(ErrorCode::already_exists,
                      fmt::format("{} holds a run already; choose another folder or remove it", folder.string()));
  }
  // A manifest without its summary is left over from something else; it must not vouch for this run.
  fs::remove(folder / kManifest, error);

  auto state = std::make_unique<State>();
  state->folder = folder;
  for (auto [name, fd] : {std::pair{kSeries, &state->series}, std::pair{kEvents, &state->events}}) {
    *fd = Fd{open_retrying(folder / name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND)};
    if (fd->get() < 0) return io_error("write", folder / name, errno);
  }
  return RunWriter(std::move(state));
}

Result<void> RunWriter::append(const IntervalSnapshot& snapshot) {
  return state_->append(state_->series, kSeries, to_json(snapshot));
}

Result<void> RunWriter::append(const RunEvent& event) {
  return state_->append(state_->events, kEvents, to_json(event));
}

Result<void> RunWriter::finish(const RunRecord& record, const RunHistograms& histograms, std::string_view resolved_yaml,
                               std::string_view env_json) {
  const auto& folder = state_->folder;
  for (auto [name, fd] : {std::pair{kSeries, &state_->series}, std::pair{kEvents, &state_->events}}) {
    if (::fsync(fd->get()) != 0) return io_error("write", folder / name, errno);
  }
  const std::array<std::pair<const char*, std::string>, 6> files{{
      {kOperations, write_hdr_log(histograms.operations)},
      {kConvergence, write_hdr_log(histograms.convergence)},
      {kGenerator, write_hdr_log(histograms.generator)},
      {kResolved, std::string(resolved_yaml)},
      {kEnvironment, std::string(env_json)},
      {kSummary, to_json(record).dump(2, ' ', false, Json::error_handler_t::replace) + "\n"},
  }};
  for (const auto& [name, content] : files) {
    if (auto written = write_file_atomically(folder / name, content); !written) return written;
  }
  Json listed = Json::object();
  for (const auto* name : kListed) {
    const auto content = read_file(folder / name);
    if (!content) return content.error();
    listed[name] = {{"sha256", sha256_hex(*content)}, {"bytes", content->size()}};
  }
  const Json manifest = {{"schema", kManifestSchema}, {"files", std::move(listed)}};
  return write_file_atomically(folder / kManifest, manifest.dump(2) + "\n");
}

Result<void> write_run(const fs::path& folder, const RunContents& contents) {
  auto writer = RunWriter::create(folder);
  if (!writer) return writer.error();
  for (const auto& snapshot : contents.series) {
    if (auto appended = writer->append(snapshot); !appended) return appended;
  }
  for (const auto& event : contents.events) {
    if (auto appended = writer->append(event); !appended) return appended;
  }
  return writer->finish(contents.record, contents.histograms, contents.resolved_yaml, contents.env_json);
}

// --- reading ---------------------------------------------------------------------------------------------

Result<LoadedRun> load_run(const fs::path& given) {
  std::error_code ignored;
  const auto folder = given.filename() == kSummary && fs::is_regular_file(given, ignored) ? given.parent_path() : given;
  if (!fs::exists(folder, ignored)) {
    return make_error(ErrorCode::not_found, fmt::format("there is no run at {}", folder.string()));
  }
  const auto manifest_path = folder / kManifest;
  const auto manifest_text = read_file(manifest_path);
  if (!manifest_text) {
    if (manifest_text.error().code != ErrorCode::not_found) return manifest_text.error();
    return make_error(ErrorCode::not_found,
                      fmt::format("{} is not a finished run: it has no manifest.json", folder.string()));
  }
  const auto manifest = parse_json(*manifest_text);
  if (manifest.is_discarded()) return corrupt(manifest_path, "not JSON");
  if (!manifest.is_object() || manifest.value("schema", Json()) != Json(kManifestSchema)) {
    return corrupt(manifest_path, fmt::format("its schema is not \"{}\"", kManifestSchema));
  }
  const auto files = manifest.value("files", Json());

  std::map<std::string, std::string> contents;
  for (const std::string name : kListed) {
    const auto path = folder / name;
    const auto entry = files.is_object() ? files.value(name, Json()) : Json();
    const auto expected_hash = entry.is_object() ? entry.value("sha256", Json()) : Json();
    if (!expected_hash.is_string()) {
      return corrupt(manifest_path, fmt::format("it does not list {}", name));
    }
    auto content = read_file(path);
    if (!content) {
      if (content.error().code != ErrorCode::not_found) return content.error();
      return corrupt(path, "missing, though the manifest lists it");
    }
    const auto expected_bytes = entry.value("bytes", Json());
    if (expected_bytes != Json(content->size())) {
      return corrupt(
          path, fmt::format("changed since the run: {} bytes instead of {}", content->size(), expected_bytes.dump()));
    }
    if (expected_hash != Json(sha256_hex(*content))) {
      return corrupt(path, "changed since the run: its sha256 is not the manifest's");
    }
    contents[name] = std::move(*content);
  }

  LoadedRun run;
  run.folder = folder;
  auto record = parse_summary(contents[kSummary], folder / kSummary);
  if (!record) return record.error();
  run.record = std::move(*record);
  if (auto read = read_lines(contents[kSeries], folder / kSeries, run.series, interval_from_json); !read) {
    return read.error();
  }
  if (auto read = read_lines(contents[kEvents], folder / kEvents, run.events, event_from_json); !read) {
    return read.error();
  }
  for (auto [name, log] :
       {std::pair{kOperations, &run.histograms.operations}, std::pair{kConvergence, &run.histograms.convergence},
        std::pair{kGenerator, &run.histograms.generator}}) {
    auto read = read_hdr_log(contents[name]);
    if (!read) return corrupt(folder / name, read.error().message);
    *log = std::move(*read);
  }
  run.resolved_yaml = std::move(contents[kResolved]);
  if (parse_json(contents[kEnvironment]).is_discarded()) return corrupt(folder / kEnvironment, "not JSON");
  run.env_json = std::move(contents[kEnvironment]);
  return run;
}

Result<RunRecord> load_summary(const fs::path& file) {
  const auto text = read_file(file);
  if (!text) return text.error();
  return parse_summary(*text, file);
}

HistogramSnapshot LoadedRun::histogram(std::string_view tag) const {
  HistogramSnapshot sum;
  for (const auto* log : {&histograms.operations, &histograms.convergence, &histograms.generator}) {
    for (const auto& line : log->lines) {
      if (line.tag == tag) sum.add(line.histogram);
    }
  }
  return sum;
}

}  // namespace twinstorm::metrics
