#include "sim/twin/metadata.hpp"

#include <algorithm>
#include <bit>
#include <chrono>

#include <fmt/format.h>

#include "sim/base/assert.hpp"

namespace twinstorm::twin {

TwinTimeText::TwinTimeText(WallTime time) {
  static constexpr std::string_view kYearOne = "0001-01-01T00:00:00Z";
  if (time == kNever) {
    std::copy(kYearOne.begin(), kYearOne.end(), text_);
    size_ = kYearOne.size();
    return;
  }
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{day};
  char* at = text_;
  const auto digits = [&at](uint64_t number, int count) {
    for (int i = count; i-- > 0; number /= 10) at[i] = static_cast<char>('0' + number % 10);
    at += count;
  };
  digits(static_cast<uint64_t>(static_cast<int>(date.year())), 4);
  *at++ = '-';
  digits(static_cast<unsigned>(date.month()), 2);
  *at++ = '-';
  digits(static_cast<unsigned>(date.day()), 2);
  const auto ticks = static_cast<uint64_t>((time - day).count() / 100);
  const uint64_t seconds = ticks / 10'000'000;
  *at++ = 'T';
  digits(seconds / 3600, 2);
  *at++ = ':';
  digits(seconds / 60 % 60, 2);
  *at++ = ':';
  digits(seconds % 60, 2);
  if (const uint64_t fraction = ticks % 10'000'000; fraction != 0) {
    *at++ = '.';
    digits(fraction, 7);
    while (at[-1] == '0') --at;
  }
  *at++ = 'Z';
  size_ = static_cast<uint8_t>(at - text_);
}

Result<WallTime> parse_twin_time(std::string_view text) {
  if (text.starts_with("0001-01-01T00:00:00")) return kNever;
  // What WallTime can hold, in whole years.
  if (const auto year = text.substr(0, 4); year < "1678" || year > "2261") {
    return make_error(ErrorCode::invalid_argument, fmt::format("\"{}\" is not a time of the years 1678 to 2261", text));
  }
  return parse_iso8601(text);
}

Metadata Metadata::mirror(const Value& value, Stamp stamp) {
  Metadata entry{stamp};
  if (value.empty() || !value.is_object()) return entry;
  entry.children_ = std::make_unique<Metadata[]>(std::bit_ceil(value.size()));
  for (const Member& member : value.members()) entry.children_[entry.size_++] = mirror(member.value, stamp);
  return entry;
}

Metadata::Metadata(const Metadata& other) : time_{other.time_}, version_{other.version_}, size_{other.size_} {
  if (size_ == 0) return;
  children_ = std::make_unique<Metadata[]>(std::bit_ceil(size_));
  std::copy_n(other.children_.get(), size_, children_.get());
}

Metadata& Metadata::operator=(const Metadata& other) {
  if (this != &other) *this = Metadata{other};
  return *this;
}

Metadata::Metadata(Metadata&& other) noexcept
    : time_{other.time_},
      version_{other.version_},
      size_{std::exchange(other.size_, 0)},
      children_{std::move(other.children_)} {}

Metadata& Metadata::operator=(Metadata&& other) noexcept {
  time_ = other.time_;
  version_ = other.version_;
  // `other` may be one of this entry's own descendants: it must be read before they go.
  const uint32_t size = std::exchange(other.size_, 0);
  std::unique_ptr<Metadata[]> children = std::move(other.children_);
  size_ = size;
  children_.swap(children);
  return *this;
}

Metadata& Metadata::append(Metadata child) {
  if (size_ == 0 || std::has_single_bit(size_)) {
    auto larger = std::make_unique<Metadata[]>(std::bit_ceil(size_ + 1U));
    std::move(children_.get(), children_.get() + size_, larger.get());
    children_ = std::move(larger);
  }
  return children_[size_++] = std::move(child);
}

void Metadata::erase_many(std::span<const size_t> places) {
  if (places.empty()) return;
  TS_ASSERT(places.back() < size_);
  size_t kept = places.front();
  size_t next = 0;
  for (size_t at = kept; at < size_; ++at) {
    if (next < places.size() && places[next] == at) {
      ++next;
    } else {
      children_[kept++] = std::move(children_[at]);
    }
  }
  // A smaller block when the count falls below a power of two, so that "full" stays "a power of two".
  size_ = static_cast<uint32_t>(kept);
  auto smaller = size_ == 0 ? nullptr : std::make_unique<Metadata[]>(std::bit_ceil(size_));
  std::move(children_.get(), children_.get() + size_, smaller.get());
  children_ = std::move(smaller);
}

size_t Metadata::heap_bytes() const {
  if (size_ == 0) return 0;
  size_t bytes = std::bit_ceil(size_) * sizeof(Metadata);
  for (size_t i = 0; i < size_; ++i) bytes += children_[i].heap_bytes();
  return bytes;
}

namespace {

/// Most entries of a tree have the time of their parent: its text is made once.
struct LastText {
  WallTime time;
  TwinTimeText text{time};
};

void write_author(std::span<const Authorship> authors, uint32_t version, std::string& out) {
  for (const Authorship& each : authors) {
    if (each.version != version) continue;
    write_string(each.author->id, out += R"(,"$lastUpdatedBy":)");
    write_string(each.author->digest, out += R"(,"$lastUpdatedByDigest":)");
  }
}

void write_entry(const Value& values, const Metadata& metadata, std::span<const Authorship> authors, LastText& last,
                 std::string& out) {
  if (metadata.last_updated() != last.time) last = LastText{metadata.last_updated()};
  out += R"({"$lastUpdated":")";
  out += last.text.view();
  out += '"';
  if (metadata.last_updated_version() != 0) {
    out += R"(,"$lastUpdatedVersion":)";
    const fmt::format_int version{metadata.last_updated_version()};
    out.append(version.data(), version.size());
  }
  const std::span<const Member> members = values.members();
  TS_ASSERT(members.size() == metadata.size());
  if (members.empty()) write_author(authors, metadata.last_updated_version(), out);
  for (size_t i = 0; i < members.size(); ++i) {
    out += ',';
    write_string(members[i].name(), out);
    out += ':';
    write_entry(members[i].value, metadata.child(i), authors, last, out);
  }
  out += '}';
}

}  // namespace

bool has_version(const Metadata& metadata, uint32_t version) {
  if (metadata.last_updated_version() == version) return true;
  for (size_t i = 0; i < metadata.size(); ++i) {
    if (has_version(metadata.child(i), version)) return true;
  }
  return false;
}

void write_metadata(const Value& values, const Metadata& metadata, std::string& out,
                    std::span<const Authorship> authors) {
  LastText last{metadata.last_updated()};
  write_entry(values, metadata, authors, last, out);
}

}  // namespace twinstorm::twin
