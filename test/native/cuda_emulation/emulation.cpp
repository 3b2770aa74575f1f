#include "emulation.h"

#include <sys/mman.h>

#include <random>
#include <vector>

#include "dependencies.h"
#include "shared_memory.h"

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
constexpr unsigned kMostBlocksYZ = 65535;

enum class State { kReady, kAtWarp, kAtSome, kAtBlock, kAtCluster, kAtPredecessor, kUntil, kDone };

struct Fiber {
  void* stack_pointer;
  State state;
  bool has_waited;  // for the predecessor
  unsigned block;   // of the cluster
  uint3 index;
  uint64_t value;                   // brought to an exchange
  size_t some;                      // kAtSome: how many are to come
  std::function<bool()> condition;  // kUntil
};

using Work = std::function<void()>;

std::vector<Fiber> fibers;  // of the cluster that runs, block by block
std::vector<std::byte*> stacks;
std::vector<size_t> left_of_block;  // threads that have not ended
std::vector<Work> waiting_work;
size_t block_threads;
uint3 first_block;  // of the cluster
const std::function<void()>* job;
void* scheduler;
size_t current;
uint64_t launches = 0;
bool dependent_launch = false;    // of the launch that runs
bool predecessor_is_here = true;  // for the cluster that runs
bool shuffled = false;
uint64_t seed = 0;

void enter() {
  (*job)();
  if (!fibers[current].has_waited) stop("a thread of a dependent launch ends and has not waited for its predecessor");
  fibers[current].state = State::kDone;
  --left_of_block[fibers[current].block];
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

void start_cluster(const Shape& shape) {
  clear_shared();
  waiting_work.clear();
  left_of_block.assign(shape.cluster, block_threads);
  predecessor_is_here = !dependent_launch;
  for (size_t i = 0; i < fibers.size(); ++i) {
    Fiber& fiber = fibers[i];
    const auto n = static_cast<unsigned>(i % block_threads);
    fiber.state = State::kReady;
    fiber.has_waited = !dependent_launch;
    fiber.block = static_cast<unsigned>(i / block_threads);
    fiber.index = {n % shape.block.x, n / shape.block.x % shape.block.y, n / shape.block.x / shape.block.y};
    void** top = reinterpret_cast<void**>(stacks[i] + kStackBytes);
    *--top = nullptr;  // so that the stack is aligned as at a call
    *--top = reinterpret_cast<void*>(&enter);
    for (size_t r = 0; r < kSavedRegisters; ++r) *--top = nullptr;
    fiber.stack_pointer = top;
  }
}

size_t count(size_t begin, size_t end, State state) {
  return static_cast<size_t>(std::count_if(fibers.begin() + static_cast<std::ptrdiff_t>(begin),
                                           fibers.begin() + static_cast<std::ptrdiff_t>(end),
                                           [&](const Fiber& fiber) { return fiber.state == state; }));
}
size_t count(State state) { return count(0, fibers.size(), state); }

void go_on(size_t begin, size_t end, State state) {
  for (size_t i = begin; i < end; ++i) {
    if (fibers[i].state == state) fibers[i].state = State::kReady;
  }
}

// Lets warps go on whose lanes have all come. A lane that waits for others, or has not had its turn, may yet come.
void release_warps() {
  for (size_t begin = 0; begin < fibers.size(); begin += kWarp) {
    const size_t end = std::min(begin + kWarp, fibers.size()), waiting = count(begin, end, State::kAtWarp);
    if (waiting == 0) continue;
    const size_t to_come = count(begin, end, State::kUntil) + count(begin, end, State::kReady) + count(begin, end, State::kAtPredecessor);
    if (waiting + to_come != end - begin) stop("a shuffle that not all lanes of a warp reach");
    if (to_come == 0) go_on(begin, end, State::kAtWarp);
  }
}

void release_blocks() {
  for (size_t begin = 0; begin < fibers.size(); begin += block_threads) {
    const size_t end = begin + block_threads;
    if (count(begin, end, State::kAtBlock) == block_threads) go_on(begin, end, State::kAtBlock);
    size_t expected = 0;
    for (size_t i = begin; i < end; ++i) {
      if (fibers[i].state != State::kAtSome) continue;
      if (expected != 0 && fibers[i].some != expected) stop("a barrier of some threads that expect others");
      expected = fibers[i].some;
    }
    if (expected != 0 && count(begin, end, State::kAtSome) == expected) go_on(begin, end, State::kAtSome);
  }
  if (count(State::kAtCluster) == fibers.size()) go_on(0, fibers.size(), State::kAtCluster);
}

void look_at_conditions() {
  for (Fiber& fiber : fibers) {
    if (fiber.state == State::kUntil && fiber.condition()) fiber.state = State::kReady;
  }
}

// Some of what the device does by itself: the first of it or, shuffled, any.
void do_some_work(std::mt19937& random) {
  const size_t some = shuffled ? 1 + random() % waiting_work.size() : (waiting_work.size() + 7) / 8;
  if (shuffled) std::shuffle(waiting_work.begin(), waiting_work.end(), random);
  const std::vector<Work> now(std::make_move_iterator(waiting_work.begin()),
                              std::make_move_iterator(waiting_work.begin() + static_cast<std::ptrdiff_t>(some)));
  waiting_work.erase(waiting_work.begin(), waiting_work.begin() + static_cast<std::ptrdiff_t>(some));
  for (const Work& work : now) work();
}

[[noreturn]] void stop_as_nobody_goes_on() {
  if (count(State::kUntil) != 0) stop("a wait that nobody ends");
  if (count(State::kAtBlock) != 0) stop("__syncthreads that not all threads reach");
  if (count(State::kAtCluster) != 0) stop("a barrier of the cluster that not all threads reach");
  if (count(State::kAtSome) != 0) stop("a barrier of some threads that not as many reach");
  stop("a shuffle that not all lanes of a warp reach");
}

// Shuffled: threads in any order, and warps held back by the toss of a coin, so that some run ahead as far as barriers let them.
void run_cluster(std::vector<size_t>& order, std::mt19937& random) {
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
      blockIdx = {first_block.x + fibers[i].block, first_block.y, first_block.z};
      emulation_switch(&scheduler, fibers[i].stack_pointer);
    }
    look_at_conditions();
    release_warps();
    release_blocks();
    if (count(State::kReady) != 0) {
      if (shuffled && !waiting_work.empty() && random() % 4 == 0) do_some_work(random);
    } else if (!waiting_work.empty()) {
      do_some_work(random);
      look_at_conditions();
    } else if (!predecessor_is_here && count(State::kAtPredecessor) != 0) {
      // A device does not ask for it; here the predecessor's results arrive for all threads of a cluster at once, as late as they may.
      predecessor_arrives();
      predecessor_is_here = true;
      go_on(0, fibers.size(), State::kAtPredecessor);
    } else if (count(State::kDone) == fibers.size()) {
      return;
    } else {
      stop_as_nobody_goes_on();
    }
  }
}

}  // namespace

void stop(const char* why) {
  std::fprintf(stderr, "CUDA emulation: %s (launch %lu, block %u %u %u)\n", why, static_cast<unsigned long>(launches), blockIdx.x,
               blockIdx.y, blockIdx.z);
  std::abort();
}

uint64_t launch_number() { return launches; }

int thread() { return static_cast<int>(current); }

unsigned block_of_cluster() { return fibers[current].block; }

void sync_threads() { wait(State::kAtBlock); }

void sync_warp() { wait(State::kAtWarp); }

void sync_cluster() { wait(State::kAtCluster); }

void sync_some(int threads) {
  fibers[current].some = static_cast<size_t>(threads);
  wait(State::kAtSome);
}

void wait_until(std::function<bool()> condition) {
  if (condition()) return;
  fibers[current].condition = std::move(condition);
  wait(State::kUntil);
}

bool has_ended(unsigned block) { return left_of_block[block] == 0; }

void later(std::function<void()> work) { waiting_work.push_back(std::move(work)); }

bool is_early(uint64_t key) {
  if (!shuffled) return false;
  uint64_t mixed = (key + seed * 0x9e3779b97f4a7c15u + launches) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ mixed >> 31) * 0x94d049bb133111ebu;
  return (mixed >> 40 & 1) != 0;
}

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
  if (!predecessor_is_here) wait(State::kAtPredecessor);
}

void let_successor_begin() {
  if (!fibers[current].has_waited) stop("a successor may begin before its predecessor's predecessor has ended");
}

// CUDA_EMULATION_SEED: not set or 0, the threads run in order; else in an order of its own.
void run(const Shape& shape, const std::function<void()>& body) {
  static const char* const given = std::getenv("CUDA_EMULATION_SEED");
  const dim3 &grid = shape.grid, &block = shape.block;
  ++launches;
  seed = given != nullptr ? static_cast<uint64_t>(std::atoi(given)) : 0;
  shuffled = seed != 0;
  dependent_launch = shape.dependent;
  begin_launch();
  gridDim = grid;
  blockDim = block;
  blockIdx = {0, 0, 0};
  block_threads = size_t{block.x} * block.y * block.z;
  const size_t threads = block_threads * shape.cluster;
  if (threads == 0 || block_threads > kMostBlockThreads || shape.cluster > kMostCluster) stop("a block or cluster too large or empty");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > kMostBlocksYZ || grid.z > kMostBlocksYZ) stop("a grid too large or empty");
  if (grid.x % shape.cluster != 0) stop("a grid that is not of whole clusters");
  if (shape.cluster > 1 && block_threads % kWarp != 0) stop("a cluster of blocks that are not of whole warps");
  begin_shared(shape.cluster, shape.shared_bytes);
  job = &body;
  while (stacks.size() < threads) stacks.push_back(new_stack());
  fibers.resize(threads);
  std::mt19937 random(static_cast<unsigned>(seed));
  std::vector<size_t> order(threads);
  for (size_t i = 0; i < threads; ++i) order[i] = i;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; x += shape.cluster) {
        first_block = blockIdx = {x, y, z};
        start_cluster(shape);
        if (shape.dependent) predecessor_is_under_way();
        run_cluster(order, random);
      }
    }
  }
  end_launch();
}

}  // namespace emulation
