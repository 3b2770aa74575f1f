#include "emulation.h"

#include "dependencies.h"

#include <sys/mman.h>

#include <random>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Keeps the callee-saved registers on the running stack, its pointer in *from, and goes on with the other one (System V ABI, x86-64).
extern "C" void emulation_switch(void** from, void* to);
asm(R"(
.text
.globl emulation_switch
.type emulation_switch,@function
emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulation_switch,.-emulation_switch
)");

namespace emulation {
namespace {

constexpr size_t kWarp = 32;
constexpr size_t kStackBytes = size_t{64} << 10;
constexpr size_t kSavedRegisters = 6;
constexpr size_t kMostThreads = 1024, kMostSharedBytes = 227 << 10;
constexpr unsigned kMostBlocksYZ = 65535;

enum class State { kReady, kAtBlock, kAtWarp, kAtPredecessor, kDone };

struct Fiber {
  void* stack_pointer;
  State state;
  bool has_waited;  // for the predecessor
  uint3 index;
  uint64_t value;  // brought to an exchange
};

std::vector<Fiber> fibers;
std::vector<std::byte*> stacks;
std::vector<std::byte> shared_memory;
const std::function<void()>* job;
void* scheduler;
size_t current;
uint64_t launches = 0;
bool dependent_launch = false;  // of the launch that runs

void enter() {
  (*job)();
  if (!fibers[current].has_waited) stop("a thread of a dependent launch ends and has not waited for its predecessor");
  fibers[current].state = State::kDone;
  emulation_switch(&fibers[current].stack_pointer, scheduler);
  stop("a thread goes on after its end");
}

void wait(State state) {
  Fiber& fiber = fibers[current];
  fiber.state = state;
  emulation_switch(&fiber.stack_pointer, scheduler);
}

std::byte* new_stack() {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) stop("no memory for a stack");
  return static_cast<std::byte*>(memory);
}

void start_block(dim3 block, size_t shared_bytes) {
  // Not a number wherever the kernel has written none.
  shared_memory.assign(shared_bytes + 128, std::byte{0xff});
  for (size_t i = 0; i < fibers.size(); ++i) {
    Fiber& fiber = fibers[i];
    const auto n = static_cast<unsigned>(i);
    fiber.state = State::kReady;
    fiber.has_waited = !dependent_launch;
    fiber.index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
    void** top = reinterpret_cast<void**>(stacks[i] + kStackBytes);
    *--top = nullptr;  // so that the stack is aligned as at a call
    *--top = reinterpret_cast<void*>(&enter);
    for (size_t r = 0; r < kSavedRegisters; ++r) *--top = nullptr;
    fiber.stack_pointer = top;
  }
}

size_t count(size_t begin, size_t end, State state) {
  return static_cast<size_t>(std::count_if(fibers.begin() + static_cast<std::ptrdiff_t>(begin), fibers.begin() + static_cast<std::ptrdiff_t>(end),
                                           [&](const Fiber& fiber) { return fiber.state == state; }));
}

// Lets warps go on whose lanes have all come. True if any was.
bool release_warps() {
  bool released = false;
  for (size_t begin = 0; begin < fibers.size(); begin += kWarp) {
    const size_t end = std::min(begin + kWarp, fibers.size()), waiting = count(begin, end, State::kAtWarp);
    if (waiting == 0) continue;
    if (waiting != end - begin) stop("a shuffle that not all lanes of a warp reach");
    for (size_t i = begin; i < end; ++i) fibers[i].state = State::kReady;
    released = true;
  }
  return released;
}

// Shuffled: threads in any order, and warps held back by the toss of a coin, so that some run ahead as far as barriers let them.
void run_block(std::vector<size_t>& order, std::mt19937& random, bool shuffled) {
  for (;;) {
    uint32_t held = 0;  // a bit for each warp
    if (shuffled) {
      std::shuffle(order.begin(), order.end(), random);
      held = static_cast<uint32_t>(random());
    }
    for (size_t i : order) {
      if (fibers[i].state != State::kReady || (held >> i / kWarp & 1u) != 0) continue;
      current = i;
      threadIdx = fibers[i].index;
      emulation_switch(&scheduler, fibers[i].stack_pointer);
    }
    if (release_warps() || count(0, fibers.size(), State::kReady) != 0) continue;
    if (const size_t waiting = count(0, fibers.size(), State::kAtPredecessor); waiting != 0) {
      // A device does not ask for it; here the predecessor's results arrive for all threads of a block at once.
      if (waiting != fibers.size()) stop("a wait for the predecessor that not all threads of a block reach together");
      predecessor_arrives();
      for (Fiber& fiber : fibers) fiber.state = State::kReady;
      continue;
    }
    const size_t done = count(0, fibers.size(), State::kDone);
    if (done == fibers.size()) return;
    if (done != 0) stop("__syncthreads that not all threads reach");
    for (Fiber& fiber : fibers) fiber.state = State::kReady;  // all are at the barrier
  }
}

}  // namespace

void stop(const char* why) {
  std::fprintf(stderr, "CUDA emulation: %s (launch %lu, block %u %u %u)\n", why, static_cast<unsigned long>(launches), blockIdx.x, blockIdx.y, blockIdx.z);
  std::abort();
}

uint64_t launch_number() { return launches; }

int thread() { return static_cast<int>(current); }

void sync_threads() { wait(State::kAtBlock); }

void sync_warp() { wait(State::kAtWarp); }

uint64_t exchange(uint64_t value, int source_lane) {
  const size_t me = current, other = me / kWarp * kWarp + static_cast<size_t>(source_lane);
  if (other >= fibers.size()) stop("a shuffle from a lane that is not there");
  fibers[me].value = value;
  sync_warp();
  const uint64_t out = fibers[other].value;
  sync_warp();  // nobody brings the next value before all have this one
  return out;
}

void wait_for_predecessor() {
  if (fibers[current].has_waited) return;
  fibers[current].has_waited = true;
  wait(State::kAtPredecessor);
}

void let_successor_begin() {
  if (!fibers[current].has_waited) stop("a successor may begin before its predecessor's predecessor has ended");
}

void* dynamic_shared() { return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(shared_memory.data()) + 63) / 64 * 64); }

// CUDA_EMULATION_SEED: not set or 0, the threads run in order; else in an order of its own.
void run(bool dependent, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  static const char* const seed = std::getenv("CUDA_EMULATION_SEED");
  ++launches;
  dependent_launch = dependent;
  begin_launch();
  gridDim = grid;
  blockDim = block;
  blockIdx = {0, 0, 0};
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || shared_bytes > kMostSharedBytes) stop("a block too large or empty");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > kMostBlocksYZ || grid.z > kMostBlocksYZ) stop("a grid too large or empty");
  job = &body;
  while (stacks.size() < threads) stacks.push_back(new_stack());
  fibers.resize(threads);
  std::mt19937 random(seed != nullptr ? static_cast<unsigned>(std::atoi(seed)) : 0);
  std::vector<size_t> order(threads);
  for (size_t i = 0; i < threads; ++i) order[i] = i;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        start_block(block, shared_bytes);
        if (dependent) predecessor_is_under_way();
        run_block(order, random, seed != nullptr && std::strcmp(seed, "0") != 0);
      }
    }
  }
  end_launch();
}

}  // namespace emulation
