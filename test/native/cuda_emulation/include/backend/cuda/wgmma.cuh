// native/backend/cuda/wgmma.cuh on the host. Products are made when a wait asks for them or, shuffled, at any time from when they were
// asked for: operands that change too early, come too late, and sums that are read too early show. Of the four warps of a warpgroup each
// makes its own rows; that all ask for the same is not looked at, nor are fences.
#pragma once

#include <cuda_bf16.h>

#include <deque>
#include <vector>

#include "backend/cuda/mma.cuh"
#include "backend/cuda/wgmma_operand.cuh"

namespace ardiff::cuda {

// What a descriptor says.
struct EmulatedOperand {
  uint32_t begin, across_depth, across_rows;
  bool swizzled;

  explicit EmulatedOperand(uint64_t descriptor)
      : begin(static_cast<uint32_t>(descriptor & 0x3fff) << 4),
        across_depth(static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        across_rows(static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4),
        swizzled(descriptor >> 62 == 1) {
    if (!swizzled && descriptor >> 62 != 0) emulation::stop("a swizzle that is not emulated");
    if ((descriptor >> 49 & 7) != 0) emulation::stop("a base offset that is not emulated");
  }
  // 8 numbers of depth, the first or second of 16.
  [[nodiscard]] const uint16_t* piece(int row, int half) const {
    const auto r = static_cast<uint32_t>(row), h = static_cast<uint32_t>(half);
    uint32_t at = begin + r / 8 * across_rows;
    at += swizzled ? r % 8 * 128 + h * 16 : r % 8 * 16 + h * across_depth;
    if (swizzled) at ^= (at >> 7 & 7u) << 4;
    return reinterpret_cast<const uint16_t*>(emulation::shared_at(emulation::block_of_cluster(), at, 16));
  }
};

struct AskedProduct {
  float* sums;
  int count;
  const uint4* a_registers;  // null: a in shared memory
  uint64_t a, b;
  bool adds;
  bool made;
};

struct AskedProducts {
  uint64_t launch = 0;
  uint3 block{};
  uint64_t asked = 0;
  size_t open = 0;            // at the end, not committed
  std::deque<size_t> groups;  // how many each has
  std::deque<AskedProduct> all;
};

inline AskedProducts& products_of(int thread) {
  static AskedProducts of_threads[emulation::kMostThreads];
  return of_threads[thread];
}
inline AskedProducts& own_products() {
  AskedProducts& own = products_of(emulation::thread());
  if (own.launch != emulation::launch_number() || own.block.x != blockIdx.x || own.block.y != blockIdx.y || own.block.z != blockIdx.z) {
    own = {emulation::launch_number(), blockIdx, 0, 0, {}, {}};
  }
  return own;
}

inline float bf16_number(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// This lane's part of the i-th of the products that its warp has asked for.
inline void make_product(size_t i) {
  const int lane = emulation::lane(), first_lane = emulation::thread() - lane;
  AskedProduct& own = own_products().all[i];
  if (own.made) return;
  own.made = true;
  float a[2][16];  // rows lane / 4 and 8 more
  for (int r = 0; r < 2; ++r) {
    for (int k = 0; k < 16; ++k) {
      if (own.a_registers != nullptr) {
        const uint4& of = *products_of(first_lane + lane / 4 * 4 + k % 8 / 2).all[i].a_registers;
        const uint32_t words[4] = {of.x, of.y, of.z, of.w};
        a[r][k] = half_of(words[k / 8 * 2 + r], k % 2);
      } else {
        a[r][k] = bf16_number(EmulatedOperand(own.a).piece(emulation::thread() / 32 % 4 * 16 + lane / 4 + 8 * r, k / 8)[k % 8]);
      }
    }
  }
  const EmulatedOperand b(own.b);
  for (int j = 0; j < own.count / 4; ++j) {
    for (int c = 0; c < 2; ++c) {
      const int column = 8 * j + lane % 4 * 2 + c;
      const uint16_t* const pieces[2] = {b.piece(column, 0), b.piece(column, 1)};
      for (int r = 0; r < 2; ++r) {
        float& sum = own.sums[4 * j + 2 * r + c];
        float total = own.adds ? sum : 0.0f;
        for (int k = 0; k < 16; ++k) total = std::fma(a[r][k], bf16_number(pieces[k / 8][k % 8]), total);
        sum = total;
      }
    }
  }
}

// The first `count` of those that are left, by all lanes together.
inline void make_products(size_t count) {
  emulation::sync_warp();
  for (size_t i = 0; i < count; ++i) make_product(i);
  emulation::sync_warp();
}

inline void begin_products() { emulation::sync_warp(); }

inline void commit_products() {
  AskedProducts& own = own_products();
  own.groups.push_back(own.open);
  own.open = 0;
}

template <int kPending>
void wait_products() {
  AskedProducts& own = own_products();
  if (own.open != 0) emulation::stop("a wait for products that are not committed");
  size_t count = 0;
  std::deque<size_t> left = own.groups;
  for (; left.size() > kPending; left.pop_front()) count += left.front();
  make_products(count);
  own.groups = std::move(left);
  own.all.erase(own.all.begin(), own.all.begin() + static_cast<std::ptrdiff_t>(count));
}

template <int kCount>
void keep_in_order(float (&)[kCount]) {}
inline void keep_in_order(uint4&) {}

inline void publish_to_products() {}

inline void ask_for_product(const AskedProduct& product) {
  AskedProducts& own = own_products();
  own.all.push_back(product);
  ++own.open;
  if (emulation::is_early(own.asked++ * 64 + static_cast<uint64_t>(emulation::thread() / 32))) make_products(own.all.size());
}

template <int kSums>
void multiply_async(float (&sums)[kSums], const uint4& a, uint64_t b, int adds) {
  ask_for_product({sums, kSums, &a, 0, b, adds != 0, false});
}
template <int kSums>
void multiply_async(float (&sums)[kSums], uint64_t a, uint64_t b, int adds) {
  ask_for_product({sums, kSums, nullptr, a, b, adds != 0, false});
}

}  // namespace ardiff::cuda
