// Verification: a block of threads per sequence does all of it, from velocities to the state that the next token goes on with.
//
//   a thread per step    its letter, or what a jump is off by: sums over the D numbers in their order, as on the host
//   a thread per draft   its statistic
//   one thread           log p of every letter in a row; what follows the drafts that stay
//   a thread per letter  its test, by a number of its own; the last that passes counts
//   a thread per number  the next token's state
//
// In float64 and compiled without fused multiply-adds (cuda.cmake), so letters are those of the other backends to the bit. Nothing
// depends on who else is in the batch.
#include <cmath>
#include <limits>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/op_checks.h"
#include "speculation/philox_counters.h"
#include "speculation/relaxed.h"
#include "speculation/verify.h"

namespace ardiff {

using namespace cuda;

namespace {

using Words = DraftedSequences;
using speculation::Letter;

constexpr int64_t kMostSequences = 65535;  // blocks go on from there

struct VerifyTask {
  const float* states;
  const float* noise;
  const float* draft_velocity;
  const float* target_velocity;
  const float* next;
  int64_t width;
  const int32_t* words;
  const double* tolerance;
  const uint32_t* attempts;
  const SamplerStep* steps;
  int64_t sequences;
  int32_t* outcome;
  double* statistic;
  float* pending;
  Letter* letters;  // a row of the paths each; log_ratio becomes log p
  double* vectors;  // (sequences, 2, width): direction of the gap, noise
};

// One sequence of it.
struct Drafted {
  const int32_t* words;
  int64_t first_row, drafts, steps;
  const SamplerStep* step;
  const uint32_t* attempts;
  Letter* letters;
  double* statistic;
  float* pending;
  Judge judge;
  __device__ int64_t rows() const { return drafts * steps; }
  __device__ speculation::PhiloxCounters numbers(int64_t row) const {
    const int64_t token = row / steps;
    return {{static_cast<uint32_t>(words[Words::kSeedLow]), static_cast<uint32_t>(words[Words::kSeedHigh])},
            static_cast<uint32_t>(words[Words::kImageToken] + token), attempts[token], static_cast<uint32_t>(row % steps)};
  }
};

__device__ Drafted drafted(const VerifyTask& v, int64_t i) {
  const int32_t* words = v.words + i * Words::kWords;
  return {words,
          words[Words::kFirstRow],
          words[Words::kDrafts],
          words[Words::kSteps],
          v.steps + words[Words::kFirstStep],
          v.attempts + words[Words::kFirstDraft],
          v.letters + words[Words::kFirstRow],
          v.statistic + words[Words::kFirstDraft],
          v.pending + words[Words::kPending] * v.width,
          static_cast<Judge>(words[Words::kJudge])};
}

// Δ of one number; host: speculation::gap_vector.
__device__ double gap_of(const VerifyTask& v, const SamplerStep& step, int64_t at) {
  const double b = static_cast<double>(step.b), gamma = static_cast<double>(step.gamma);
  return b * (static_cast<double>(v.target_velocity[at]) - static_cast<double>(v.draft_velocity[at])) / gamma;
}

__device__ Letter letter(const VerifyTask& v, const SamplerStep& step, int64_t row) {
  double squares = 0.0, along = 0.0;
  for (int64_t at = row * v.width; at < (row + 1) * v.width; ++at) {
    const double delta = gap_of(v, step, at);
    squares += delta * delta;
    along += delta * static_cast<double>(v.noise[at]);
  }
  return speculation::letter_of(squares, along);
}

__device__ Letter jump(const VerifyTask& v, const SamplerStep& step, int64_t row) {
  double squares = 0.0;
  for (int64_t at = row * v.width; at < (row + 1) * v.width; ++at) {
    const double difference = static_cast<double>(v.target_velocity[at]) - static_cast<double>(v.draft_velocity[at]);
    squares += difference * difference;
  }
  return {speculation::jump_distance(static_cast<double>(step.t), squares, v.width), 0.0};
}

// The root of the squares' sum, or the largest; what is not a number stays so.
__device__ double statistic_of(const Drafted& d, int64_t draft) {
  const Letter* letters = d.letters + draft * d.steps;
  double sum = 0.0, largest = 0.0;
  for (int64_t k = 0; k < d.steps; ++k) {
    const double gap = letters[k].gap;
    sum += gap * gap;
    largest = std::isnan(gap) || std::isnan(largest) ? std::numeric_limits<double>::quiet_NaN() : max(largest, gap);
  }
  return d.judge == Judge::kJump ? largest : sqrt(sum);
}

__device__ int64_t accepted_prefix(const Drafted& d, double tolerance) {
  int64_t accepted = 0;
  while (accepted < d.drafts && d.statistic[accepted] <= tolerance) ++accepted;
  return accepted;
}

// Log p of every letter; host: speculation::cut_chain.
__device__ void accumulate(const Drafted& d) {
  double log_p = 0.0;
  for (int64_t row = 0; row < d.rows(); ++row) d.letters[row].log_ratio = log_p = min(0.0, log_p + d.letters[row].log_ratio);
}

// How many leading letters stay, by what this thread has tested.
__device__ int last_passed(const Drafted& d) {
  int last = 0;
  for (int64_t row = threadIdx.x; row < d.rows(); row += kBlock) {
    const double log_p = d.letters[row].log_ratio;
    const double h = row + 1 < d.rows() ? speculation::stop_probability(log_p, d.letters[row + 1].gap) : exp(log_p);
    if (d.numbers(row).accept_uniform() <= h) last = static_cast<int>(row) + 1;
  }
  return last;
}

// Of all threads; free again on return.
__device__ int largest_of_block(int value, int* of_threads) {
  of_threads[threadIdx.x] = value;
  for (int half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) of_threads[threadIdx.x] = max(of_threads[threadIdx.x], of_threads[threadIdx.x + half]);
  }
  __syncthreads();
  const int result = of_threads[0];
  __syncthreads();
  return result;
}

struct Correction {
  double gap;     // not finite: the direction has no meaning
  double change;  // of the noise along it
};

// The direction and the noise are there; host: speculation::residual_state.
__device__ Correction correct(const Drafted& d, int64_t row, double log_p, double* direction, const double* noise, int64_t width) {
  double squares = 0.0, now = 0.0;
  for (int64_t i = 0; i < width; ++i) squares += direction[i] * direction[i];
  const double gap = sqrt(squares);
  if (!std::isfinite(gap)) return {gap, 0.0};
  for (int64_t i = 0; i < width; ++i) {
    direction[i] /= gap;
    now += direction[i] * noise[i];
  }
  const speculation::PhiloxCounters numbers = d.numbers(row);
  const double s = speculation::residual_coordinate(log_p, gap, [&](uint32_t proposal) { return numbers.residual_uniforms(proposal); });
  return {gap, s - now};
}

// The state behind step `row` of the sequence, the first that does not stay; all threads of the block.
__device__ void write_residual(const VerifyTask& v, const Drafted& d, int64_t row, double* direction, double* noise, Correction* shared) {
  const SamplerStep step = d.step[row % d.steps];
  const int64_t at = (d.first_row + row) * v.width;
  const speculation::PhiloxCounters numbers = d.numbers(row);
  for (int64_t i = threadIdx.x; i < v.width; i += kBlock) direction[i] = gap_of(v, step, at + i);
  for (int64_t begin = 4 * threadIdx.x; begin < v.width; begin += 4 * kBlock) {
    const auto normals = numbers.orthogonal_normals(static_cast<uint32_t>(begin / 4));
    for (int64_t i = begin; i < min(begin + 4, v.width); ++i) noise[i] = normals[static_cast<size_t>(i - begin)];
  }
  __syncthreads();
  const double log_p = row == 0 ? 0.0 : d.letters[row - 1].log_ratio;
  if (threadIdx.x == 0) *shared = correct(d, row, log_p, direction, noise, v.width);
  __syncthreads();
  const bool corrected = std::isfinite(shared->gap);
  const float* velocity = corrected ? v.draft_velocity : v.target_velocity;
  for (int64_t i = threadIdx.x; i < v.width; i += kBlock) {
    const double mean = static_cast<double>(step.a) * static_cast<double>(v.states[at + i]) + static_cast<double>(step.b) * static_cast<double>(velocity[at + i]);
    const double z = corrected ? noise[i] + shared->change * direction[i] : noise[i];
    d.pending[i] = static_cast<float>(mean + static_cast<double>(step.gamma) * z);
  }
  __syncthreads();  // the next sequence's numbers go where these were
}

__global__ void __launch_bounds__(kBlock) verify_drafts_kernel(VerifyTask v) {
  __shared__ int of_threads[kBlock];
  __shared__ Correction correction;
  for (int64_t sequence = blockIdx.x; sequence < v.sequences; sequence += gridDim.x) {
    const Drafted d = drafted(v, sequence);
    for (int64_t row = threadIdx.x; row < d.rows(); row += kBlock) {
      const SamplerStep& step = d.step[row % d.steps];
      d.letters[row] = d.judge == Judge::kJump ? jump(v, step, d.first_row + row) : letter(v, step, d.first_row + row);
    }
    __syncthreads();
    for (int64_t draft = threadIdx.x; draft < d.drafts; draft += kBlock) d.statistic[draft] = statistic_of(d, draft);
    __syncthreads();
    int64_t accepted = 0, next_step = 0;
    if (d.judge == Judge::kChain) {
      if (threadIdx.x == 0) accumulate(d);
      __syncthreads();
      const int64_t cut = largest_of_block(last_passed(d), of_threads);
      accepted = cut / d.steps;
      if (cut < d.rows()) {
        next_step = cut % d.steps + 1;
        double* direction = v.vectors + sequence * 2 * v.width;
        write_residual(v, d, cut, direction, direction + v.width, &correction);
      }
    } else {
      accepted = accepted_prefix(d, v.tolerance[sequence]);
      if (d.words[Words::kFinished] > accepted) {
        next_step = 1;
        const float* next = v.next + (d.first_row + accepted) * v.width;
        for (int64_t i = threadIdx.x; i < v.width; i += kBlock) d.pending[i] = next[i];
      }
    }
    if (threadIdx.x == 0) {
      v.outcome[2 * sequence] = static_cast<int32_t>(accepted);
      v.outcome[2 * sequence + 1] = static_cast<int32_t>(next_step);
    }
  }
}

}  // namespace

void CudaBackend::verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) {
  op_checks::verify_drafts(paths, sequences, verdicts);
  static_assert(sizeof(SamplerStep) == 4 * sizeof(float));
  VerifyTask v{};
  v.states = floats(paths.states);
  v.noise = floats(paths.noise);
  v.draft_velocity = floats(paths.draft_velocity);
  v.target_velocity = floats(paths.target_velocity);
  v.next = floats(paths.next);
  v.width = paths.target_velocity.cols();
  v.words = indices(sequences.words);
  v.tolerance = elements<const double>(sequences.tolerance);
  v.attempts = elements<const uint32_t>(sequences.attempts);
  v.steps = elements<const SamplerStep>(sequences.steps);
  v.sequences = sequences.words.rows();
  v.outcome = elements<int32_t>(verdicts.outcome);
  v.statistic = elements<double>(verdicts.statistic);
  v.pending = floats(verdicts.pending);
  if (v.sequences == 0) return;
  const int64_t rows = paths.target_velocity.rows();
  static_assert(sizeof(Letter) == 2 * sizeof(double));
  auto* work = workspace_.get<double>(2 * rows + 2 * v.sequences * v.width);
  v.letters = reinterpret_cast<Letter*>(work);
  v.vectors = work + 2 * rows;
  verify_drafts_kernel<<<static_cast<unsigned>(std::min(v.sequences, kMostSequences)), kBlock, 0, stream_>>>(v);
  check_launch("verify_drafts");
}

}  // namespace ardiff
