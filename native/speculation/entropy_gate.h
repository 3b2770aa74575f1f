// When to stop drafting before a draft is drawn, from attention entropies (docs/speculation.md, Gate). Everything it
// reads is known before the gated token is sampled: a gate that saw the token and then dropped it would bias the picture.
#pragma once

#include <array>
#include <cstdint>

namespace ardiff::speculation {

enum class GateKind { kOff, kPaper, kLogistic };

// Inputs of the logistic rule in the order of its weights:
//   0  1
//   1  E_draft: entropy of the draft's attention row that predicts this token (op attention_entropy, layer of the rule)
//   2  E_draft - average of the target's E; 0 while the target's has never been seen
//   3  j: 1 for the round's first draft, 2 for the second, ...
//   4  position of the token in the picture / number of its tokens
//   5  log of last_gap
inline constexpr int kGateFeatures = 6;
using GateFeatures = std::array<double, kGateFeatures>;

struct GateRule {
  GateKind kind = GateKind::kOff;
  // kPaper: mean and standard deviation of E over the training set.
  double mean = 0;
  double std = 0;
  // kLogistic: stops where the predicted acceptance 1 / (1 + exp(-weights · features)) is below the threshold.
  GateFeatures weights{};
  double threshold = 0;
};

// Running average of the target's entropy, one per sequence; plain data. Starts afresh with `initial_average`.
struct EntropyAverage {
  double value = 0;
  bool seen = false;  // false: value is the rule's start, no entropy of the target has gone in yet
};

struct GateInput {
  double draft_entropy = 0;
  int64_t draft = 1;        // j
  int64_t position = 0;     // image token
  int64_t num_tokens = 1;   // of the picture
  double last_gap = 1;      // statistic of the last draft that was verified (D of R-gap, or R-jump's); 1 before the first
};

// The paper's start, (0.3 mean - 0.1 std) / 0.8; 0 for the other rules.
EntropyAverage initial_average(const GateRule& rule);

// Average with decay 0.9 over the target's entropies of emitted tokens, in order. For the logistic rule the first one
// seen is the start.
void observe_entropy(const GateRule& rule, double target_entropy, EntropyAverage& average);

GateFeatures gate_features(const EntropyAverage& average, const GateInput& input);

// The paper's rule: E_draft < min(0.8 average, 0.3 mean - 0.1 std).
bool gate_stops(const GateRule& rule, const EntropyAverage& average, const GateInput& input);

}  // namespace ardiff::speculation
