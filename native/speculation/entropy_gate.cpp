#include "speculation/entropy_gate.h"

#include <algorithm>
#include <cmath>

namespace ardiff::speculation {

namespace {

constexpr double kDecay = 0.9;
// Fast-ARDiff paper: below this entropy a draft counts as collapsed, whatever the target's lately was.
double collapsed(const GateRule& rule) { return 0.3 * rule.mean - 0.1 * rule.std; }
constexpr double kShareOfTarget = 0.8;
// Draft and target can agree exactly (a gap of 0); no gap that matters is this small.
constexpr double kSmallestGap = 1e-6;

}  // namespace

EntropyAverage initial_average(const GateRule& rule) {
  return {rule.kind == GateKind::kPaper ? collapsed(rule) / kShareOfTarget : 0.0, false};
}

void observe_entropy(const GateRule& rule, double target_entropy, EntropyAverage& average) {
  const bool starts_here = !average.seen && rule.kind != GateKind::kPaper;
  average.value = starts_here ? target_entropy : kDecay * average.value + (1.0 - kDecay) * target_entropy;
  average.seen = true;
}

GateFeatures gate_features(const EntropyAverage& average, const GateInput& input) {
  return {1.0,
          input.draft_entropy,
          average.seen ? input.draft_entropy - average.value : 0.0,
          static_cast<double>(input.draft),
          static_cast<double>(input.position) / static_cast<double>(input.num_tokens),
          std::log(std::max(kSmallestGap, input.last_gap))};
}

bool gate_stops(const GateRule& rule, const EntropyAverage& average, const GateInput& input) {
  if (rule.kind == GateKind::kOff) return false;
  if (rule.kind == GateKind::kPaper) return input.draft_entropy < std::min(kShareOfTarget * average.value, collapsed(rule));
  const GateFeatures features = gate_features(average, input);
  double sum = 0.0;
  for (size_t i = 0; i < features.size(); ++i) sum += rule.weights[i] * features[i];
  return 1.0 / (1.0 + std::exp(-sum)) < rule.threshold;
}

}  // namespace ardiff::speculation
