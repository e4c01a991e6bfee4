// When each property was last written: the `$metadata` tree, stored beside the values.
//
// The service keeps one entry for every object and every leaf, arrays being one leaf (service.md 5.1). Entries carry no
// keys here: child i belongs to member i of the object it mirrors, which is what keeps an entry at 24 bytes. Only the
// functions below change the pair, always together.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::twin {

/// "Never": printed as year 1, the service's default (service.md 4.1). WallTime itself starts in 1677.
inline constexpr WallTime kNever = WallTime::min();

/// `2026-03-01T08:00:00.1234567Z` as format_iso8601 prints it, or `0001-01-01T00:00:00Z` for kNever; without a heap
/// block.
class TwinTimeText {
 public:
  explicit TwinTimeText(WallTime time);
  std::string_view view() const { return {text_, size_}; }

 private:
  char text_[28];
  uint8_t size_;
};
/// The reverse of TwinTimeText; year 1 with or without `Z` becomes kNever. Fails with `invalid_argument`.
Result<WallTime> parse_twin_time(std::string_view text);

/// When and by which desired version. Version 0: no `$lastUpdatedVersion` is printed (reported, fresh twins).
struct Stamp {
  WallTime time = kNever;
  uint32_t version = 0;
};

/// Who wrote a desired version when it was no back end: a configuration (service.md 5.1).
struct PropertyAuthor {
  std::string id;      ///< `$lastUpdatedBy`
  std::string digest;  ///< `$lastUpdatedByDigest`: decimal, which content it was
};
/// Every write of desired properties has a version of its own, so an entry's version tells its author.
struct Authorship {
  uint32_t version = 0;
  std::shared_ptr<const PropertyAuthor> author;
};
using Authorships = std::vector<Authorship>;

class Metadata {
 public:
  Metadata() = default;
  explicit Metadata(Stamp stamp) : time_{stamp.time}, version_{stamp.version} {}
  /// A tree for `value` with every entry set to `stamp`.
  static Metadata mirror(const Value& value, Stamp stamp);
  Metadata(Metadata&& other) noexcept;
  Metadata& operator=(Metadata&& other) noexcept;
  Metadata(const Metadata& other);
  Metadata& operator=(const Metadata& other);
  ~Metadata() = default;

  WallTime last_updated() const { return time_; }
  /// 0 when there is none.
  uint32_t last_updated_version() const { return version_; }
  size_t size() const { return size_; }
  const Metadata& child(size_t index) const { return children_[index]; }

  void set(Stamp stamp) {
    time_ = stamp.time;
    version_ = stamp.version;
  }
  Metadata& child(size_t index) { return children_[index]; }
  Metadata& append(Metadata child);
  /// Removes the children at these places, given in ascending order.
  void erase_many(std::span<const size_t> places);
  size_t heap_bytes() const;

 private:
  WallTime time_ = kNever;
  uint32_t version_ = 0;
  uint32_t size_ = 0;
  std::unique_ptr<Metadata[]> children_;  // room for bit_ceil(size_)
};

static_assert(sizeof(Metadata) == 24);

/// merge_patch that also stamps: every entry on the way to something the patch names, removed members' parents
/// included.
void merge_patch(Value& target, Metadata& metadata, const Value& patch, Stamp stamp);

/// True when some entry of the tree was written with `version`.
bool has_version(const Metadata& metadata, uint32_t version);

/// Appends the `$metadata` object of `values`: `$lastUpdated`, `$lastUpdatedVersion` where there is one, then one
/// member per property; `$lastUpdatedBy` and `$lastUpdatedByDigest` at leaves whose version is in `authors`.
void write_metadata(const Value& values, const Metadata& metadata, std::string& out,
                    std::span<const Authorship> authors = {});

}  // namespace twinstorm::twin
