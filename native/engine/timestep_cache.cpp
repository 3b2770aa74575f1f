#include "engine/timestep_cache.h"

namespace ardiff {

std::shared_ptr<const TimestepTable> TimestepCache::get(const SamplerSpec& spec) {
  for (auto it = tables_.begin(); it != tables_.end(); ++it) {
    if ((*it)->spec == spec) {
      tables_.splice(tables_.begin(), tables_, it);
      return tables_.front();
    }
  }
  auto table = std::make_shared<TimestepTable>();
  table->spec = spec;
  table->steps = sampler_steps(spec);
  const auto n = static_cast<int64_t>(table->steps.size());
  table->tau_rows = tau_.take(n);

  const Scratch::Frame frame(scratch_);
  const TensorView tau = scratch_.take(DType::kF32, {n, tau_.columns()});
  embed_(table->steps, tau);
  backend_.scatter_rows(tau, scratch_.index(table->tau_rows), tau_.view());
  tables_.push_front(table);
  drop_unused();
  return table;
}

void TimestepCache::drop_unused() {
  size_t unused = 0;
  for (auto it = tables_.begin(); it != tables_.end();) {
    if (it->use_count() == 1 && ++unused > keep_unused_) {
      tau_.give_back((*it)->tau_rows);
      it = tables_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace ardiff
