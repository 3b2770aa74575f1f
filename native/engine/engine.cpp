#include "engine/engine.h"

#include "engine/stopwatch.h"

namespace ardiff {

void Engine::keep_price(const MemoryPrice& price) {
  scratch_.reserve(static_cast<size_t>(price.scratch));
  info_.memory = price;
}

StepResult Engine::step(const StepPlan& plan) {
  const Stopwatch total;
  check_step(plan);
  try {
    scratch_.reset();
    StepResult result;
    for (const uint32_t id : plan.release) release(id);
    for (const SequenceSpec& spec : plan.admit) admit(spec);
    run_step(plan, result);
    backend_.rest();
    result.timings.total = total.seconds();
    return result;
  } catch (...) {
    // Out of memory, or a bug: how far the step came is unknown, so no sequence may be continued.
    release_all();
    throw;
  }
}

}  // namespace ardiff
