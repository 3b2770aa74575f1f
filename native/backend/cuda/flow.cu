// The sampler's step with guidance: one thread per number of a state.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/launch.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {


struct FlowStep {
  float* x;
  int64_t x_stride;
  const float* v;
  int64_t v_stride;
  const int32_t* row_begin;
  const int32_t* state;
  const float* coefficients;  // a, b, gamma, cfg, cfg_img
  int64_t coefficient_stride;
  const float* noise;
  int64_t noise_stride;
  const int32_t* noise_index;
  int64_t sequences;
  int64_t width;
};

// The caller's sequences have 1, 2 or 3 guidance rows.
__global__ void flow_step_kernel(FlowStep s) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t item = first_item(); item < s.sequences * s.width; item += item_step()) {
    const int64_t i = item / s.width, c = item % s.width;
    const float* coefficients = s.coefficients + i * s.coefficient_stride;
    const float gamma = coefficients[2], cfg = coefficients[3], cfg_img = coefficients[4];
    const int64_t first = s.row_begin[i];
    const int rows = s.row_begin[i + 1] - s.row_begin[i];
    const float* v = s.v + first * s.v_stride + c;
    const float conditional = v[0];
    float guided = conditional;
    if (rows == 2) {
      const float unconditional = v[s.v_stride];
      guided = unconditional + cfg * (conditional - unconditional);
    } else if (rows == 3) {
      const float image_only = v[s.v_stride], unconditional = v[2 * s.v_stride];
      guided = unconditional + cfg_img * (image_only - unconditional) + cfg * (conditional - image_only);
    }
    float* x = s.x + s.state[i] * s.x_stride + c;
    float next = coefficients[0] * *x + coefficients[1] * guided;
    if (gamma != 0.0f) next += gamma * s.noise[s.noise_index[i] * s.noise_stride + c];
    *x = next;
  }
}

}  // namespace

void CudaBackend::flow_step(const TensorView& x, const TensorView& v, const TensorView& row_begin, const TensorView& state,
                            const TensorView& coefficients, const TensorView& noise, const TensorView& noise_index) {
  op_checks::flow_step(x, v, row_begin, state, coefficients, noise, noise_index);
  FlowStep s{};
  s.x = floats(x);
  s.x_stride = x.row_stride;
  s.v = floats(v);
  s.v_stride = v.row_stride;
  s.row_begin = indices(row_begin);
  s.state = indices(state);
  s.coefficients = floats(coefficients);
  s.coefficient_stride = coefficients.row_stride;
  s.noise = floats(noise);
  s.noise_stride = noise.row_stride;
  s.noise_index = indices(noise_index);
  s.sequences = state.shape[0];
  s.width = x.cols();
  const int64_t items = s.sequences * s.width;
  if (items == 0) return;
  launch_dependent(stream_, {blocks_for(items)}, "flow_step", flow_step_kernel, s);
}

}  // namespace ardiff
