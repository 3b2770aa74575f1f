#include "speculation/verify.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "speculation/relaxed.h"

namespace ardiff::speculation {

namespace {

// Whether a draft of log ratio ℓ stays: probability min(1, p/q).
bool passes(double uniform, double log_ratio) { return std::log(uniform) < log_ratio; }

// The token's path ends after `row`, in a state that `write` makes.
template <typename Write>
Verdict ends_at(const DraftChain& chain, int64_t row, Write write) {
  const auto steps = static_cast<int64_t>(chain.steps.size());
  Verdict verdict{row / steps, row % steps + 1, std::vector<float>(static_cast<size_t>(chain.width))};
  write(std::span<float>(verdict.state));
  return verdict;
}

Verdict all_accepted(const DraftChain& chain) { return {chain.tokens, 0, {}}; }

// V1 and V2: rows from `first` on, every `stride`, each coupled by reflection.
Verdict verify_by_reflection(const DraftChain& chain, std::span<const Letter> letters, int64_t first, int64_t stride, RandomSource& random) {
  const auto steps = static_cast<int64_t>(chain.steps.size());
  for (int64_t row = first; row < chain.length(); row += stride) {
    if (passes(random.accept_uniform(row / steps, row % steps), letters[static_cast<size_t>(row)].log_ratio)) continue;
    return ends_at(chain, row, [&](std::span<float> out) { reflected_state(chain, row, out); });
  }
  return all_accepted(chain);
}

// V3. The residual keeps a target path with 1 - q/p: one path for each verified token on average, a long tail where the
// two laws nearly agree. A yardstick, not for serving.
Verdict verify_paths(const DraftChain& chain, std::span<const Letter> letters, RandomSource& random, TargetPaths& paths) {
  const auto steps = static_cast<int64_t>(chain.steps.size());
  for (int64_t token = 0; token < chain.tokens; ++token) {
    double log_ratio = 0.0;
    for (int64_t k = 0; k < steps; ++k) log_ratio += letters[static_cast<size_t>(token * steps + k)].log_ratio;
    if (passes(random.accept_uniform(token, 0), log_ratio)) continue;
    return ends_at(chain, token * steps + steps - 1, [&](std::span<float> out) {
      for (uint32_t proposal = 0;; ++proposal) {
        const double of_path = paths.draw(token, proposal, out);
        if (random.residual_uniforms(token, 0, proposal)[0] < 1.0 - lenient_test(-of_path, 1.0).acceptance) return;
      }
    });
  }
  return all_accepted(chain);
}

Verdict verify_chain(const DraftChain& chain, std::span<const Letter> letters, RandomSource& random) {
  const ChainCut cut = cut_chain(letters, static_cast<int64_t>(chain.steps.size()), random);
  if (cut.letters == chain.length()) return all_accepted(chain);
  return ends_at(chain, cut.letters, [&](std::span<float> out) { residual_state(chain, cut.letters, cut.log_p, random, out); });
}

}  // namespace

// Letter k passes with h chosen such that, given the chain so far, the last passing letter is k or later with exactly
// p_k = min(1, p_{k-1} e^ℓ): what min(1, P/Q) would give each prefix by itself. The next letter of those that end here
// then has the law (p_k P - Q)₊, of mass Z, and everything else is P (proof: docs/speculation.md, Verification).
ChainCut cut_chain(std::span<const Letter> letters, int64_t steps_per_token, RandomSource& random) {
  ChainCut cut;
  double log_p = 0.0;
  for (size_t i = 0; i < letters.size(); ++i) {
    log_p = std::min(0.0, log_p + letters[i].log_ratio);
    const double h = i + 1 < letters.size() ? stop_probability(log_p, letters[i + 1].gap) : std::exp(log_p);
    const auto row = static_cast<int64_t>(i);
    if (random.accept_uniform(row / steps_per_token, row % steps_per_token) <= h) cut = {row + 1, log_p};
  }
  return cut;
}

Verdict verify(Verifier verifier, const DraftChain& chain, RandomSource& random, TargetPaths* paths) {
  if (chain.tokens == 0) return {};
  const std::vector<Letter> letters = letters_of(chain);
  const auto steps = static_cast<int64_t>(chain.steps.size());
  switch (verifier) {
    case Verifier::kTerminal:
      check(chain.target_states != nullptr, ErrorCode::kInvalidArgument, "the terminal verifier needs the target's own states");
      return verify_by_reflection(chain, letters, steps - 1, steps, random);
    case Verifier::kStepwise: return verify_by_reflection(chain, letters, 0, 1, random);
    case Verifier::kPath:
      check(paths != nullptr, ErrorCode::kInvalidArgument, "the path verifier needs target paths");
      return verify_paths(chain, letters, random, *paths);
    case Verifier::kChain: return verify_chain(chain, letters, random);
  }
  fail(ErrorCode::kInvalidArgument, "not a verifier");
}

}  // namespace ardiff::speculation
