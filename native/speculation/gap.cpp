#include "speculation/gap.h"

#include <algorithm>

#include "base/error.h"

namespace ardiff::speculation {

bool is_gaussian(std::span<const SamplerStep> steps) {
  return std::all_of(steps.begin(), steps.end(), [](const SamplerStep& step) { return step.gamma > 0.0f; });
}

void gap_vector(const DraftChain& chain, int64_t row, std::span<double> delta) {
  const SamplerStep& step = chain.steps[static_cast<size_t>(row) % chain.steps.size()];
  const double a = static_cast<double>(step.a), b = static_cast<double>(step.b), gamma = static_cast<double>(step.gamma);
  const int64_t at = row * chain.width;
  for (int64_t i = 0; i < chain.width; ++i) {
    double mean = b * (static_cast<double>(chain.target_velocity[at + i]) - static_cast<double>(chain.draft_velocity[at + i]));
    if (chain.target_states) mean += a * (static_cast<double>(chain.target_states[at + i]) - static_cast<double>(chain.states[at + i]));
    delta[static_cast<size_t>(i)] = mean / gamma;
  }
}

std::vector<Letter> letters_of(const DraftChain& chain) {
  check(is_gaussian(chain.steps), ErrorCode::kInvalidArgument, "a sampler with a step without noise cannot be verified exactly");
  std::vector<double> delta(static_cast<size_t>(chain.width));
  std::vector<Letter> letters;
  letters.reserve(static_cast<size_t>(chain.length()));
  for (int64_t row = 0; row < chain.length(); ++row) {
    gap_vector(chain, row, delta);
    const float* z = chain.noise + row * chain.width;
    double squares = 0.0, along = 0.0;
    for (size_t i = 0; i < delta.size(); ++i) {
      squares += delta[i] * delta[i];
      along += delta[i] * static_cast<double>(z[i]);
    }
    letters.push_back(letter_of(squares, along));
  }
  return letters;
}

}  // namespace ardiff::speculation
