// The flow head's own ops and its randomness.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"
#include "backend/philox.h"

namespace ardiff {

using namespace cpu;

void CpuBackend::timestep_features(const TensorView& t, const TensorView& y) {
  op_checks::timestep_features(t, y);
  const int64_t half = y.cols() / 2;
  std::vector<float>& frequencies = timestep_frequencies_[half];
  for (auto i = static_cast<int64_t>(frequencies.size()); i < half; ++i) {
    frequencies.push_back(static_cast<float>(std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half))));
  }
  for (int64_t n = 0; n < y.rows(); ++n) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = floats(t)[n] * frequencies[static_cast<size_t>(i)];
      row_floats(y, n)[i] = std::cos(angle);
      row_floats(y, n)[half + i] = std::sin(angle);
    }
  }
}

void CpuBackend::flow_step(const TensorView& x, const TensorView& v, const TensorView& row_begin, const TensorView& state,
                           const TensorView& coefficients, const TensorView& noise, const TensorView& noise_index) {
  op_checks::flow_step(x, v, row_begin, state, coefficients, noise, noise_index);
  for (int64_t i = 0; i < state.shape[0]; ++i) {
    const int64_t first = indices(row_begin)[i];
    const int64_t rows = indices(row_begin)[i + 1] - first;
    check(rows >= 1 && rows <= 3, ErrorCode::kInternal, "flow_step: sequence ", i, " has ", rows, " guidance rows");
    const float* c = row_floats(coefficients, i);
    FlowStepTask task{};
    task.x = row_floats(x, indices(state)[i]);
    task.conditional = row_floats(v, first);
    if (rows == 3) task.image_only = row_floats(v, first + 1);
    if (rows >= 2) task.unconditional = row_floats(v, first + rows - 1);
    task.a = c[0];
    task.b = c[1];
    task.gamma = c[2];
    task.cfg = c[3];
    task.cfg_img = c[4];
    task.columns = x.cols();
    if (task.gamma != 0.0f) {
      check(static_cast<bool>(noise), ErrorCode::kInternal, "flow_step: sequence ", i, " wants noise and there is none");
      task.noise = row_floats(noise, indices(noise_index)[i]);
    }
    kernels_->flow_step(task);
  }
}

void CpuBackend::philox_normal(const TensorView& keys, const TensorView& y) {
  op_checks::philox_normal(keys, y);
  constexpr int64_t kNumbersAtOnce = 64;
  pool_.run_ranges(y.rows(), 16 * y.cols(), [&](int64_t begin, int64_t end) {
    uint32_t words[kNumbersAtOnce];
    float normals[kNumbersAtOnce];
    for (int64_t m = begin; m < end; ++m) {
      const int32_t* row = indices(keys) + m * keys.row_stride;
      auto key = [&](int i) { return static_cast<uint32_t>(row[i]); };
      for (int64_t done = 0; done < y.cols(); done += kNumbersAtOnce) {
        const int64_t count = std::min(kNumbersAtOnce, y.cols() - done);
        const int64_t blocks = (count + 3) / 4;
        for (int64_t block = 0; block < blocks; ++block) {
          const PhiloxWords four = philox4x32({static_cast<uint32_t>(done / 4 + block), key(2), key(3), key(4)}, {key(0), key(1)});
          std::copy(four.begin(), four.end(), words + 4 * block);
        }
        kernels_->box_muller(words, 2 * blocks, normals);
        std::copy(normals, normals + count, row_floats(y, m) + done);
      }
    }
  });
}

}  // namespace ardiff
