// A loaded model of any family and the pictures being drawn with it: what the addon holds.
//
//   load_engine -> step(plan) ... step(plan) -> images
#pragma once

#include <filesystem>
#include <memory>

#include "backend/backend.h"
#include "engine/cancel_flags.h"
#include "engine/probe.h"
#include "engine/step_plan.h"

namespace ardiff {

// Not thread safe but for cancel(): one engine thread calls the rest.
class Engine {
 public:
  virtual ~Engine() = default;

  const ModelInfo& info() const { return info_; }

  // Throws kInvalidPlan / kInvalidArgument before anything has changed, or kOutOfMemory / kInternal after having
  // dropped every sequence.
  virtual StepResult step(const StepPlan& plan) = 0;
  // Throws kInvalidArgument for a kind that the family does not have.
  virtual HostArrays probe(const ProbeRequest& request) = 0;

  // Thread safe.
  void cancel(uint32_t sequence) { cancel_flags_.set(sequence); }

 protected:
  ModelInfo info_{};
  CancelFlags cancel_flags_;
};

// The family is read from config.json. Throws kInvalidModel, kOutOfMemory, kInvalidArgument. The backend must outlive the engine.
std::unique_ptr<Engine> load_engine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options);

}  // namespace ardiff
