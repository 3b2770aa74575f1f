// Proposes the next tokens of speculating sequences (docs/speculation.md, A round).
#pragma once

#include <span>
#include <vector>

#include "engine/conditions.h"
#include "engine/draft_paths.h"
#include "engine/kv_cache.h"
#include "engine/row_pool.h"
#include "engine/sequence.h"
#include "engine/token_sampler.h"
#include "model/backbone.h"
#include "model/draft_model.h"

namespace ardiff {

struct DraftRequest {
  Sequence* sequence = nullptr;                     // its newest token is counted in `emitted` and in the token pool
  const std::vector<int32_t>* block_table = nullptr;  // of its conditional row
  int64_t max_tokens = 0;                           // γ, >= 1
  int32_t first_row = 0;                            // of the paths: step k of its token j goes to first_row + j K + k
};

// Drafted tokens of one sequence, as far as the host knows them. What they were made of stays on the backend.
struct Drafts {
  int64_t tokens = 0;            // γ, or fewer where the gate stopped
  bool gate_stopped = false;
  // (tokens, draft layers): attention entropy of the row that predicts the token; NaN where nobody reads the layer.
  std::vector<float> entropy;
};

// The engine asks this; tests put other drafts in.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // In the order of the requests. Writes the drafted tokens into the sequences' rows of the token pool from `emitted` on, and their
  // paths: x before each step, the draft's guided v, and z where the sampler draws any.
  virtual std::vector<Drafts> draft(std::span<const DraftRequest> requests, const PathRecord& paths) = 0;
};

// Tokens as the model sees them: layer-normalised where the sequence asks for it, into the token pool. x: (S, D) f32, row
// i is tokens[i] of sequences[i].
class TokenStore {
 public:
  enum class Place { kContext, kPicture, kBoth };
  TokenStore(Backend& backend, Scratch& scratch, RowPool& pool) : backend_(backend), scratch_(scratch), pool_(pool) {}
  void write(const TensorView& x, std::span<const Sequence* const> sequences, std::span<const int64_t> tokens, Place place) const;

 private:
  Backend& backend_;
  Scratch& scratch_;
  RowPool& pool_;
};

// What the draft model works with; owned by the engine.
struct DraftParts {
  Backend& backend;
  Scratch& scratch;
  const DraftModel& model;
  const Linear& image_in;
  const Conditions& conditions;
  const TokenStore& store;
  const KvCache& kv;
  const RowPool& hidden;
  const RowPool& tokens;
  const TokenSampler* draft_head;  // null: there is none
  const TokenSampler* few_step;
};

class ModelDrafter final : public Drafter {
 public:
  explicit ModelDrafter(const DraftParts& parts) : p_(parts) {}
  std::vector<Drafts> draft(std::span<const DraftRequest> requests, const PathRecord& paths) override;

 private:
  struct Pair;
  struct Prediction;
  Prediction predict(const std::vector<Pair>& pairs, std::span<const DraftRequest> requests, const TensorView& earlier) const;
  // Tokens first[i] … first[i] + count - 1 of each request from the predicted rows.
  void sample(std::span<const DraftRequest> requests, std::span<const int64_t> counts, const std::vector<std::vector<int32_t>>& rows,
              const Prediction& prediction, std::span<const Drafts> earlier, const PathRecord& paths) const;
  bool stops(const DraftRequest& request, const Drafts& drafts, const float* entropy) const;

  DraftParts p_;
};

}  // namespace ardiff
