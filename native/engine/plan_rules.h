// Rules of a plan that hold for every family: how a violation is reported, block tables, copies, which sequences live.
#pragma once

#include <atomic>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/step_plan.h"

namespace ardiff {

inline constexpr uint64_t kMaxSeed = uint64_t{1} << 53;

// A value out of range, whatever the state: kInvalidArgument.
template <typename... Args>
void argument(bool condition, uint32_t sequence, Args&&... args) {
  check(condition, ErrorCode::kInvalidArgument, "sequence ", sequence, ": ", std::forward<Args>(args)...);
}

// Something that contradicts the engine's state: kInvalidPlan.
template <typename... Args>
void planned(bool condition, uint32_t sequence, Args&&... args) {
  check(condition, ErrorCode::kInvalidPlan, "sequence ", sequence, ": ", std::forward<Args>(args)...);
}

// The table holds that many positions, in blocks of the pool.
void check_blocks(const std::vector<int32_t>& table, int64_t positions, int64_t block_tokens, uint32_t sequence, int64_t num_blocks);
void check_copies(const std::vector<int32_t>& copies, int64_t num_blocks);

// 0, or jumps that few-step networks are trained for.
inline bool is_few_step(int64_t jumps) { return jumps == 0 || jumps == 1 || jumps == 2 || jumps == 4; }
// What a speculation says that means the same in every family: lengths, tolerance, costs, acceptance.
void check_speculation_numbers(const SequenceSpec& spec);

// What the plan's entries may refer to: sequences that live after release and admit. Sequence: the engine's own state of one.
template <typename Sequence>
class PlannedSequences {
 public:
  using Map = std::unordered_map<uint32_t, Sequence>;

  PlannedSequences(const StepPlan& plan, const Map& sequences) : sequences_(sequences) {
    for (const uint32_t id : plan.release) {
      planned(sequences.contains(id), id, "released but not live");
      planned(released_.insert(id).second, id, "released twice");
    }
    for (const SequenceSpec& spec : plan.admit) {
      planned(!sequences.contains(spec.id) || released_.contains(spec.id), spec.id, "admitted but live already");
      planned(admitted_.emplace(spec.id, &spec).second, spec.id, "admitted twice");
    }
  }

  // Null unless the plan admits it.
  const SequenceSpec* admitted(uint32_t id) const {
    const auto found = admitted_.find(id);
    return found == admitted_.end() ? nullptr : found->second;
  }
  const Sequence& live(uint32_t id) const {
    const auto found = sequences_.find(id);
    planned(found != sequences_.end() && !released_.contains(id), id, "is not live");
    return found->second;
  }
  const SequenceSpec& spec(uint32_t id) const {
    const SequenceSpec* fresh = admitted(id);
    return fresh != nullptr ? *fresh : live(id).spec;
  }
  // The plan may have been made before the flag was set, and count on what a shortened step did not draw.
  bool cancelled(uint32_t id) const { return admitted(id) == nullptr && live(id).cancelled->load(std::memory_order_relaxed); }

 private:
  const Map& sequences_;
  std::set<uint32_t> released_;
  std::unordered_map<uint32_t, const SequenceSpec*> admitted_;
};

}  // namespace ardiff
