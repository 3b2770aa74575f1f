#include "engine/conditions.h"

#include <cmath>

namespace ardiff {

namespace {

// The fixed table of nextstep.md 6.4: row i * G + j = [sin(j w), cos(j w), sin(i w), cos(i w)], each part H/4 long.
std::vector<float> gen_pos_embed(int64_t grid, int64_t hidden) {
  const int64_t quarter = hidden / 4;
  std::vector<float> table(static_cast<size_t>(grid * grid * hidden), 0.0f);
  for (int64_t i = 0; i < grid; ++i) {
    for (int64_t j = 0; j < grid; ++j) {
      float* row = table.data() + (i * grid + j) * hidden;
      for (int64_t k = 0; k < quarter; ++k) {
        const double omega = std::pow(10000.0, -static_cast<double>(k) / static_cast<double>(quarter));
        row[k] = static_cast<float>(std::sin(static_cast<double>(j) * omega));
        row[quarter + k] = static_cast<float>(std::cos(static_cast<double>(j) * omega));
        row[2 * quarter + k] = static_cast<float>(std::sin(static_cast<double>(i) * omega));
        row[3 * quarter + k] = static_cast<float>(std::cos(static_cast<double>(i) * omega));
      }
    }
  }
  return table;
}

}  // namespace

Conditions::Conditions(Backend& backend, Scratch& scratch, const NextStepConfig& config, const Linear& image_out)
    : backend_(backend), scratch_(scratch), image_out_(image_out) {
  if (!config.image.use_gen_pos_embed) return;
  const int64_t grid = config.image.base_image_grid;
  position_table_ = backend_.make(DType::kF32, {grid * grid, config.backbone.hidden_size});
  backend_.upload(position_table_.view, gen_pos_embed(grid, config.backbone.hidden_size).data());
}

TensorView Conditions::embed(const TensorView& hidden, const std::vector<int32_t>& tokens, const FlowHead& head) const {
  const int64_t r = hidden.rows(), h = hidden.cols();
  const TensorView out = scratch_.take(DType::kF32, {r, head.width()});
  const Scratch::Frame frame(scratch_);
  const TensorView condition = scratch_.take(backend_.activation_dtype(), {r, h});
  if (position_table_) {
    const int64_t entries = position_table_.view.rows();
    for (const int32_t n : tokens) {
      check(n < entries, ErrorCode::kInvalidArgument, "image token ", n, " lies outside the model's position table of ", entries);
    }
    const TensorView embed = scratch_.take(DType::kF32, {r, h});
    backend_.gather_rows(position_table_, scratch_.index(tokens), embed);
    backend_.add(hidden, embed, hidden);
  }
  backend_.linear(hidden, image_out_, condition, Epilogue::store());
  head.embed_condition(condition, out);
  return out;
}

}  // namespace ardiff
