// Which part of a drafted chain may stay, and what continues it, such that the emitted tokens have exactly the target's
// law (docs/speculation.md, Verification). Four verifiers behind one function; the engine uses kChain, the others are
// what it is tested against.
//
//   kTerminal  V1: all noise but the last step's is shared by draft and target, the last step is coupled
//   kStepwise  V2: each step is coupled by reflection; ends at the first rejection
//   kPath      V3: one test a token with the ratio of whole paths; its residual draws target paths
//   kChain     V4: block verification over all steps of all tokens, the last accepted prefix counts
#pragma once

#include <vector>

#include "speculation/gap.h"
#include "speculation/residual.h"
#include "speculation/random_source.h"

namespace ardiff::speculation {

enum class Verifier { kTerminal, kStepwise, kPath, kChain };

struct Verdict {
  // Drafts that stay, a prefix of the chain.
  int64_t accepted_tokens = 0;
  // The step the next token goes on with: 0 = it starts from fresh noise (every draft was accepted; the bonus token),
  // 1 … K = `state` is its x after that many steps, K = it is finished.
  int64_t next_step = 0;
  std::vector<float> state;  // D numbers, empty where next_step = 0
};

// Target paths for V3's residual, as fresh as they are asked for.
class TargetPaths {
 public:
  virtual ~TargetPaths() = default;
  // Draws one path of the chain's token with the target, conditioned on the tokens before it. Writes x after the last
  // step and returns log p/q of the path: the sum of Δ·z + d²/2 with Δ at its own states and z its own noise.
  virtual double draw(int64_t token, uint32_t proposal, std::span<float> end) = 0;
};

// `paths` is asked by kPath only, and needed there. Throws kInvalidArgument for a sampler with a noiseless step.
// chain.tokens = 0 gives {0, 0, {}}.
Verdict verify(Verifier verifier, const DraftChain& chain, RandomSource& random, TargetPaths* paths = nullptr);

// kChain: h of a letter that has another behind it. log_p: log p after it; next_gap: that of the other.
ARDIFF_HD inline double stop_probability(double log_p, double next_gap) {
  const double mass = residual_mass(log_p, next_gap);
  const double whole = mass - std::expm1(log_p);  // Z + 1 - p
  return whole > 0.0 ? mass / whole : 1.0;
}

// kChain on the letters alone: τ, how many leading letters stay (0 … letters.size()), and log p_τ.
struct ChainCut {
  int64_t letters = 0;
  double log_p = 0;
};
ChainCut cut_chain(std::span<const Letter> letters, int64_t steps_per_token, RandomSource& random);

}  // namespace ardiff::speculation
