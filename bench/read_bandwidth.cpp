// Read bandwidth of main memory: every thread sums its own half of a buffer far larger than the caches.
//   read_bandwidth THREADS MEGABYTES ROUNDS      prints one figure per round, bytes per second
// Stays open: for each line on standard input it measures ROUNDS times and prints one line.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

using Vector = uint64_t __attribute__((vector_size(64)));

// Four streams at once, which one core's prefetchers keep fuller than one.
uint64_t sum(const Vector* begin, size_t count) {
  constexpr size_t kStreams = 4;
  const size_t part = count / kStreams;
  Vector sums[kStreams]{};
  for (size_t i = 0; i < part; ++i) {
    for (size_t s = 0; s < kStreams; ++s) sums[s] += begin[s * part + i];
  }
  const Vector total = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t result = 0;
  for (int i = 0; i < 8; ++i) result += total[i];
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const size_t bytes = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 512) << 20;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 5;
  const size_t part = bytes / sizeof(Vector) / threads;
  auto* buffer = static_cast<Vector*>(std::aligned_alloc(64, part * threads * sizeof(Vector)));
  if (buffer == nullptr) return 1;
  for (size_t i = 0; i < part * threads; ++i) buffer[i] = Vector{i, 1, 2, 3, 4, 5, 6, 7};
  volatile uint64_t sink = 0;
  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    std::string answer;
    for (int round = 0; round < rounds; ++round) {
      std::vector<uint64_t> sums(threads);
      std::vector<std::thread> pool;
      const auto begin = std::chrono::steady_clock::now();
      for (int t = 0; t < threads; ++t) pool.emplace_back([&, t] { sums[t] = sum(buffer + t * part, part); });
      for (auto& thread : pool) thread.join();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      for (const uint64_t value : sums) sink = sink + value;
      answer += (round ? " " : "") + std::to_string(static_cast<double>(part * threads * sizeof(Vector)) / seconds);
    }
    std::printf("%s\n", answer.c_str());
    std::fflush(stdout);
  }
  std::free(buffer);
}
