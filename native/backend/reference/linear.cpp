#include <vector>

#include "backend/host_memory.h"
#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {
namespace {

// weight is kept transposed, (in, out), so that the inner loop runs over outputs.
struct ReferenceLinear final : Linear {
  using Linear::Linear;
  std::vector<float> weight;
  std::vector<float> bias;
};

float apply_epilogue(const Epilogue& epilogue, const TensorView& y, int64_t m, int64_t n, float r) {
  switch (epilogue.kind) {
    case Epilogue::Kind::kStore: return r;
    case Epilogue::Kind::kSilu: return reference::silu(r);
    case Epilogue::Kind::kGelu: return reference::gelu(r);
    case Epilogue::Kind::kAdd: return reference::load(y, m, n) + r;
    case Epilogue::Kind::kGatedAdd: {
      const int64_t row = epilogue.gate_rows ? reference::indices(epilogue.gate_rows)[m] : m;
      return reference::load(y, m, n) + reference::load(epilogue.gate, row, n) * r;
    }
  }
  return r;
}

}  // namespace

std::unique_ptr<Linear> ReferenceBackend::prepare_linear(std::span<const LinearPart> parts) {
  op_checks::prepare_linear(parts);
  const int64_t in = parts[0].weight.shape[1];
  int64_t out = 0;
  for (const LinearPart& part : parts) out += part.weight.shape[0];
  auto prepared = std::make_unique<ReferenceLinear>(in, out);
  prepared->weight.resize(static_cast<size_t>(in * out));
  prepared->bias.resize(static_cast<size_t>(out), 0.0f);
  std::vector<float> row(static_cast<size_t>(in));
  int64_t n = 0;
  for (const LinearPart& part : parts) {
    const int64_t rows = part.weight.shape[0];
    if (part.bias) read_f32(part.bias, 0, rows, prepared->bias.data() + n);
    for (int64_t r = 0; r < rows; ++r, ++n) {
      read_f32(part.weight, r * in, in, row.data());
      for (int64_t k = 0; k < in; ++k) prepared->weight[static_cast<size_t>(k * out + n)] = row[static_cast<size_t>(k)];
    }
  }
  return prepared;
}

void ReferenceBackend::linear(const TensorView& x, const Linear& w, const TensorView& y, const Epilogue& epilogue) {
  op_checks::linear(x, w, y, epilogue);
  const auto& prepared = dynamic_cast<const ReferenceLinear&>(w);
  const int64_t out = w.out_features;
  std::vector<float> r(static_cast<size_t>(out));
  for (int64_t m = 0; m < x.rows(); ++m) {
    std::fill(r.begin(), r.end(), 0.0f);
    for (int64_t k = 0; k < w.in_features; ++k) {
      const float value = reference::load(x, m, k);
      const float* column = prepared.weight.data() + k * out;
      for (int64_t n = 0; n < out; ++n) r[static_cast<size_t>(n)] += value * column[n];
    }
    for (int64_t n = 0; n < out; ++n) {
      const auto i = static_cast<size_t>(n);
      reference::store(y, m, n, apply_epilogue(epilogue, y, m, n, r[i] + prepared.bias[i]));
    }
  }
}

}  // namespace ardiff
