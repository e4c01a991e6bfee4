// What queries see where their view of the twins lags behind the writes (`HubConfig::query_staleness`): an older
// version of each twin, twins that are gone already, and not yet those that were just created.
//
// Every write of a twin becomes visible after a time drawn from the distribution, never before an earlier write of the
// same twin. Up to kVersionsMax versions of a twin wait at once, and kVersionsOfAllMax of all twins together; beyond
// that a write joins the youngest waiting version, which then becomes visible with the later of the two times: the lag
// stays, steps in between are skipped. `lastActivityTime` alone is no write and is visible at once.
//
// Memory: one copy of each twin as queries see it, and one for each waiting version. Belongs to its shard's thread.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/distribution.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"
#include "sim/hub/store/key_order.hpp"
#include "sim/twin/twin_document.hpp"

namespace twinstorm::hub {

class LaggedTwins {
 public:
  static constexpr size_t kVersionsMax = 16;
  static constexpr size_t kVersionsOfAllMax = 100'000;

  /// Draws depend on the seed and the order of writes only.
  LaggedTwins(const Distribution& lag, const Clock& clock, uint64_t seed) : lag_{lag}, clock_{clock}, rng_{seed} {}
  LaggedTwins(const LaggedTwins&) = delete;
  LaggedTwins& operator=(const LaggedTwins&) = delete;

  /// The twin was created or has changed.
  void changed(std::string_view key, const twin::TwinDocument& twin);
  void removed(std::string_view key);
  /// Everything written so far is visible: for devices that were there before the hub started.
  void settle();

  /// As queries see it now; nullptr when they see no such twin. Valid until time moves on or a member is called.
  const twin::TwinDocument* find(std::string_view key);
  /// Visits what queries see now, in ascending order of key, behind `after` (empty = from the beginning), until
  /// `visit` returns false.
  template <class Visit>
  void visit_after(std::string_view after, Visit&& visit) {
    catch_up();
    for (auto at = after.empty() ? twins_.begin() : twins_.upper_bound(after); at != twins_.end(); ++at) {
      if (at->second.visible && !visit(*at->second.visible)) return;
    }
  }
  /// Versions that wait to become visible.
  size_t waiting() const { return waiting_; }

 private:
  struct Version {
    MonoTime due;
    std::optional<twin::TwinDocument> twin;  // nullopt: removed
  };
  struct History {
    std::optional<twin::TwinDocument> visible;
    std::deque<Version> waiting;  // by due time
    const twin::TwinDocument* latest() const;
  };
  using Twins = std::map<std::string, History, KeyOrder>;
  struct Due {
    MonoTime at;
    Twins::iterator twin;
    friend bool operator>(const Due& a, const Due& b) { return a.at > b.at; }
  };

  void write(Twins::iterator twin, std::optional<twin::TwinDocument> version);
  void catch_up();
  void catch_up_until(MonoTime now);

  Distribution lag_;
  const Clock& clock_;
  Rng rng_;
  Twins twins_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;  // one for each twin with waiting versions
  size_t waiting_ = 0;
};

}  // namespace twinstorm::hub
