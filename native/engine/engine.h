// A loaded model of any family and the pictures being drawn with it: what the addon holds.
//
//   load_engine -> step(plan) ... step(plan) -> images
#pragma once

#include <filesystem>
#include <memory>

#include "backend/backend.h"
#include "backend/scratch.h"
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
  StepResult step(const StepPlan& plan);
  // Throws kInvalidArgument for a kind that the family does not have.
  virtual HostArrays probe(const ProbeRequest& request) = 0;

  // Memory of a step's short-lived tensors: all of it, and the most that was in use.
  size_t scratch_capacity() const { return scratch_.capacity(); }
  size_t scratch_used() const { return scratch_.most_used(); }
  // Before the first step. The price that it was loaded at; its scratch is then there from the start.
  void keep_price(const MemoryPrice& price);

  // Thread safe.
  void cancel(uint32_t sequence) { cancel_flags_.set(sequence); }

 protected:
  explicit Engine(Backend& backend) : backend_(backend), scratch_(backend) {}

  // What a step is made of, in this order. Throws as step() does, with nothing changed.
  virtual void check_step(const StepPlan& plan) const = 0;
  virtual void release(uint32_t id) = 0;
  virtual void admit(const SequenceSpec& spec) = 0;
  // All but the coming and going of sequences.
  virtual void run_step(const StepPlan& plan, StepResult& result) = 0;
  virtual void release_all() = 0;

  Backend& backend_;
  Scratch scratch_;  // of one step
  ModelInfo info_{};
  CancelFlags cancel_flags_;
};

// The family is read from config.json. Throws kInvalidModel, kOutOfMemory, kInvalidArgument. The backend must outlive the engine.
std::unique_ptr<Engine> load_engine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options);

}  // namespace ardiff
