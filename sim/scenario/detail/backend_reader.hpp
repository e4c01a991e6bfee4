// Reads the list of back ends: what each operation needs, may have and must not have.
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/detail/reader.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::scenario::detail {

class BackendReader {
 public:
  /// `scenario` has its target, limits and fleets already and gets the back ends. `names_complete` becomes false when
  /// one has no usable name.
  BackendReader(Complaints& complaints, Scenario& scenario, bool& names_complete)
      : complaints_{complaints}, s_{scenario}, names_complete_{names_complete} {}

  /// One item of the list.
  void read(const YamlNode& node, const std::string& path);
  /// What only the whole list can tell: references to other back ends, device ids that several would create.
  void check_references();

 private:
  void read_name(const Section& section, BackendGroup& group);
  void read_selection(const Section& section, BackendGroup& group);
  void read_conditional_write(const Section& section, BackendGroup& group);
  void read_staleness(const Section& section, BackendGroup& group);
  void read_method(const Section& section, BackendGroup& group);
  void read_created_devices(const Section& section, BackendGroup& group);
  void read_bulk(const Section& section, BackendGroup& group);
  void read_job(const Section& section, BackendGroup& group);
  void read_timeout(const Section& section, BackendGroup& group);
  void check_device_ids(const BackendGroup& group, const Section& section) const;

  Complaints& complaints_;
  Scenario& s_;
  bool& names_complete_;
  std::vector<Section> sections_;  // by back end; they point into the document
};

/// What `do` says for the operation: `getTwin`, `patchDesired`.
std::string_view do_word(metrics::OpKind op);

}  // namespace twinstorm::scenario::detail
