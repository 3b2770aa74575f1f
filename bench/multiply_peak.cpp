// Arithmetic peak of the processor for the engine's matrix products: multiply-adds between registers, nothing else.
//   multiply_peak THREADS bfloat16|float32
// Stays open: for each line on standard input it measures and prints one figure, floating-point operations per second
// (a multiply-add counts as two).
#include <immintrin.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

// Enough independent sums that none waits for itself: latency (4 to 6 cycles) times two per cycle, with room.
constexpr int kSums = 20;
constexpr long kRounds = 2'000'000;

#if defined(__AVX512F__)
using Vector = __m512;
constexpr int kLanes = 16;
Vector set(float value) { return _mm512_set1_ps(value); }
Vector multiply_add(Vector a, Vector b, Vector sum) { return _mm512_fmadd_ps(a, b, sum); }
float first(Vector v) { return _mm512_cvtss_f32(v); }
#elif defined(__AVX2__) && defined(__FMA__)
using Vector = __m256;
constexpr int kLanes = 8;
Vector set(float value) { return _mm256_set1_ps(value); }
Vector multiply_add(Vector a, Vector b, Vector sum) { return _mm256_fmadd_ps(a, b, sum); }
float first(Vector v) { return _mm256_cvtss_f32(v); }
#else
#error "needs AVX2 with FMA, or AVX-512"
#endif

#if defined(__AVX512BF16__)
constexpr bool kHasBf16 = true;
Vector multiply_add_bf16(Vector a, Vector b, Vector sum) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#else
constexpr bool kHasBf16 = false;
Vector multiply_add_bf16(Vector a, Vector b, Vector sum) { return multiply_add(a, b, sum); }
#endif

template <Vector Operation(Vector, Vector, Vector)>
float run() {
  Vector sums[kSums];
  for (Vector& sum : sums) sum = set(0.0f);
  Vector a = set(1e-3f), b = set(1e-3f);
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 32
    for (Vector& sum : sums) sum = Operation(a, b, sum);
    // The compiler must not see that every round is the same.
    asm volatile("" : "+v"(a), "+v"(b));
  }
  float out = 0;
  for (const Vector& sum : sums) out += first(sum);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const bool bf16 = argc > 2 && std::strcmp(argv[2], "bfloat16") == 0;
  if (bf16 && !kHasBf16) return 1;
  const double operations = 2.0 * kLanes * (bf16 ? 2 : 1) * kSums * static_cast<double>(kRounds) * threads;
  volatile float sink = 0;
  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    std::vector<float> results(static_cast<size_t>(threads));
    std::vector<std::thread> pool;
    const auto begin = std::chrono::steady_clock::now();
    for (float& result : results) pool.emplace_back([&result, bf16] { result = bf16 ? run<multiply_add_bf16>() : run<multiply_add>(); });
    for (std::thread& thread : pool) thread.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (const float result : results) sink = sink + result;
    std::printf("%.6g\n", operations / seconds);
    std::fflush(stdout);
  }
}
