#include "speculation/entropy_gate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ardiff::speculation {
namespace {

GateInput entropy(double value) { return {.draft_entropy = value, .draft = 1, .position = 0, .num_tokens = 64, .last_gap = 1.0}; }

TEST(EntropyGate, OffNeverStops) { EXPECT_FALSE(gate_stops({}, {}, entropy(0.0))); }

// mean 0.8, std 0.1: collapsed below 0.3 · 0.8 - 0.1 · 0.1 = 0.23, whatever the target's entropy.
TEST(EntropyGate, PaperRule) {
  const GateRule rule{.kind = GateKind::kPaper, .mean = 0.8, .std = 0.1};
  EntropyAverage average = initial_average(rule);
  EXPECT_NEAR(average.value, 0.23 / 0.8, 1e-15);
  EXPECT_TRUE(gate_stops(rule, average, entropy(0.2299)));
  EXPECT_FALSE(gate_stops(rule, average, entropy(0.2301)));
  for (int i = 0; i < 200; ++i) observe_entropy(rule, 0.9, average);
  EXPECT_NEAR(average.value, 0.9, 1e-6);
  EXPECT_FALSE(gate_stops(rule, average, entropy(0.2301))) << "a high average never raises the threshold";
  for (int i = 0; i < 200; ++i) observe_entropy(rule, 0.1, average);
  EXPECT_TRUE(gate_stops(rule, average, entropy(0.0799)));
  EXPECT_FALSE(gate_stops(rule, average, entropy(0.0801))) << "0.8 times the target's";
}

TEST(EntropyGate, AverageDecays) {
  const GateRule paper{.kind = GateKind::kPaper, .mean = 0.8, .std = 0.1}, logistic{.kind = GateKind::kLogistic};
  EntropyAverage average{0.5, true};
  observe_entropy(logistic, 1.0, average);
  EXPECT_DOUBLE_EQ(average.value, 0.9 * 0.5 + 0.1);
  average = initial_average(logistic);
  EXPECT_FALSE(average.seen);
  observe_entropy(logistic, 0.7, average);
  EXPECT_DOUBLE_EQ(average.value, 0.7) << "the first one is the start";
  average = initial_average(paper);
  observe_entropy(paper, 0.7, average);
  EXPECT_DOUBLE_EQ(average.value, 0.9 * 0.23 / 0.8 + 0.07) << "the paper's start counts";
}

TEST(EntropyGate, FeaturesInOrder) {
  const GateInput input{.draft_entropy = 0.6, .draft = 3, .position = 16, .num_tokens = 64, .last_gap = 0.5};
  const GateFeatures before = gate_features({}, input), after = gate_features({0.75, true}, input);
  EXPECT_EQ(before, (GateFeatures{1.0, 0.6, 0.0, 3.0, 0.25, std::log(0.5)}));
  EXPECT_DOUBLE_EQ(after[2], 0.6 - 0.75);
  GateInput equal = input;
  equal.last_gap = 0.0;
  EXPECT_TRUE(std::isfinite(gate_features({}, equal)[5]));
}

// The sign is learned: either direction of every feature can stop.
TEST(EntropyGate, LogisticRule) {
  for (size_t feature = 1; feature < kGateFeatures; ++feature) {
    for (double sign : {1.0, -1.0}) {
      GateRule rule{.kind = GateKind::kLogistic, .threshold = 0.3};
      rule.weights[feature] = sign * 2.0;
      const GateInput input{.draft_entropy = 0.6, .draft = 2, .position = 48, .num_tokens = 64, .last_gap = 0.2};
      const EntropyAverage average{0.2, true};
      const double logit = rule.weights[feature] * gate_features(average, input)[feature];
      EXPECT_EQ(gate_stops(rule, average, input), logit < std::log(0.3 / 0.7)) << "feature " << feature;
    }
  }
  GateRule certain{.kind = GateKind::kLogistic, .threshold = 0.5};
  certain.weights[0] = 1000.0;
  EXPECT_FALSE(gate_stops(certain, {}, entropy(0.5)));
  certain.weights[0] = -1000.0;
  EXPECT_TRUE(gate_stops(certain, {}, entropy(0.5)));
}

}  // namespace
}  // namespace ardiff::speculation
