// The architecture of the tree as data. docs/architecture.md shows the same tables to people; a test keeps the two
// equal.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace twinstorm::architecture {

/// What each module may include besides itself. Edges are written out, not implied: that `sim/run` may use `sim/device`
/// does not let it use what `sim/device` uses.
inline const std::map<std::string, std::set<std::string>> kAllowedEdges{
    {"sim/base", {}},
    {"sim/twin", {"sim/base"}},
    {"sim/protocol", {"sim/base", "sim/twin"}},
    {"sim/net", {"sim/base", "sim/twin", "sim/protocol"}},
    {"sim/transport", {"sim/base", "sim/twin", "sim/protocol", "sim/net"}},
    {"sim/device", {"sim/base", "sim/twin", "sim/protocol", "sim/net", "sim/transport", "metrics"}},
    {"sim/backend", {"sim/base", "sim/twin", "sim/protocol", "sim/net", "metrics"}},
    {"sim/hub", {"sim/base", "sim/twin", "sim/protocol", "sim/net"}},
    {"sim/scenario", {"sim/base", "metrics"}},
    {"sim/run",
     {"sim/base", "sim/twin", "sim/protocol", "sim/net", "sim/transport", "sim/device", "sim/backend", "sim/scenario",
      "metrics", "metrics/export"}},
    {"sim/cli",
     {"sim/base", "sim/twin", "sim/protocol", "sim/net", "sim/transport", "sim/device", "sim/backend", "sim/hub",
      "sim/scenario", "sim/run", "metrics", "metrics/export", "report"}},
    {"metrics", {"sim/base"}},
    {"metrics/export", {"sim/base", "metrics"}},
    {"report", {"sim/base", "metrics"}},
};

/// Modules that take bytes and time as parameters: no loop, no sockets, no threads, so that a unit test needs none.
inline const std::set<std::string> kSansIo{"sim/base", "sim/twin", "sim/protocol", "sim/scenario", "metrics", "report"};

/// Headers (by prefix) that a sans-I/O module never includes. Asio's buffer types are plain memory and allowed.
inline const std::vector<std::string> kIoHeaders{
    "boost/asio/", "boost/asio.hpp", "sys/socket.h", "sys/epoll.h", "sys/select.h", "sys/un.h", "netinet/",
    "arpa/",       "netdb.h",        "poll.h",       "pthread.h",   "thread",       "future",   "condition_variable",
    "semaphore",   "barrier",        "latch",        "stop_token",
};
inline const std::set<std::string> kIoHeaderExceptions{"boost/asio/buffer.hpp"};

/// A header prefix and the folders that may include it. Everything not listed here (the standard library, fmt,
/// Boost.System) may be used anywhere.
struct Place {
  std::string header;
  std::vector<std::string> folders;
  std::string why;
};
inline const std::vector<Place> kPlaces{
    {"prometheus/",
     {"metrics/export/", "sim/hub/"},
     "readers build metric families at scrape time; hot paths never see them"},
    {"boost/beast/", {"sim/protocol/http/", "sim/hub/"}, "the HTTP parser hides behind http_codec.hpp"},
    {"boost/asio/",
     {"sim/net/", "sim/transport/", "sim/hub/", "sim/run/", "sim/protocol/http/"},
     "sockets live below sim/net"},
    {"mqtt/", {"sim/transport/paho/"}, "somebody else's client stays behind PahoClient"},
    {"yaml-cpp/", {"sim/scenario/"}, "scenarios are the only YAML that is read"},
    {"CLI/", {"sim/cli/"}, "the command line ends in sim/cli"},
    {"nlohmann/",
     {"sim/twin/", "sim/hub/", "sim/scenario/", "sim/run/", "sim/cli/", "metrics/", "report/"},
     "no JSON document tree on the path of a device or back end: use sim/protocol/json_scanner.hpp"},
    {"openssl/",
     {"sim/protocol/", "sim/net/", "sim/hub/", "metrics/"},
     "signatures in sim/protocol, random bytes in the hub, file digests in metrics"},
    {"zlib.h", {"metrics/"}, "only HDR logs are compressed"},
    {"mutex",
     {"sim/base/log.cpp", "sim/hub/", "metrics/export/", "sim/transport/paho/", "sim/run/metrics_push.cpp"},
     "shards share nothing: a lock on their path is a defect"},
    {"shared_mutex", {"sim/hub/"}, "shards share nothing: a lock on their path is a defect"},
    {"thread", {"sim/run/", "sim/hub/", "sim/cli/"}, "threads are made by the runner and the hub"},
};

/// Code that only these folders may contain.
struct CodePlace {
  std::string code;
  std::vector<std::string> folders;
  std::string why;
};
inline const std::vector<CodePlace> kCodePlaces{
    {"::now(", {"sim/base/time.hpp", "sim/run/", "sim/hub/"}, "leaf code takes a MonoTime or a Clock&"},
    {"SteadyClock",
     {"sim/base/time.hpp", "sim/run/", "sim/hub/", "sim/cli/"},
     "the machine's clock is handed down from the top"},
    {"sleep_for(", {"sim/run/", "sim/cli/"}, "only the main thread of a run may wait"},
    {"sleep_until(", {"sim/run/", "sim/cli/"}, "only the main thread of a run may wait"},
};

/// Client and server: a mistake they share would pass every test.
inline const std::set<std::string> kClientModules{"sim/transport", "sim/device", "sim/backend", "sim/scenario",
                                                  "sim/run"};

}  // namespace twinstorm::architecture
