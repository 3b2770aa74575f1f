// The table of SIMD kernels, one instance per instruction set. The kernels-<isa>.cpp files compile the same
// *-inl.h sources with different target flags; isa.cpp picks one table at run time.
//
// Nothing here may be an inline function or template: the files that include this header are compiled for
// different processors, and the linker would keep one arbitrary copy of a shared inline function.
//
// One row, one result: every kernel computes a row from that row alone, lane by lane, tails with the same
// vector code as full vectors, so a result never depends on how many rows are processed together.
#pragma once

#include <stdint.h>

namespace ardiff::cpu {

enum class EpilogueKind : int { kStore, kSilu, kGelu, kAdd, kGatedAdd };  // as Epilogue::Kind of ops.h

// y = epilogue(x Wᵀ + bias) for all `rows` and the panels [panel_begin, panel_end).
// Every output element is one chain of multiply-adds over ascending depth starting from 0, whatever the tile
// it is computed in: rows, panels and threads may be split in any way without changing a bit.
//
// Panels: Kernels::panel_columns outputs each, the last one padded with zero weights.
//   f32:  panel[k][column]            bf16: panel[k / 2][column][k % 2], depth padded to even
struct GemmTask {
  const void* x;       // f32 or bf16 as the kernel wants; rows readable up to the padded depth
  int64_t x_stride;    // elements
  int64_t rows;
  const void* panels;
  int64_t depth;       // padded
  int64_t columns;     // outputs in all, not padded
  int64_t panel_begin;
  int64_t panel_end;
  const float* bias;   // padded to whole panels
  EpilogueKind kind;
  void* y;
  int64_t y_stride;
  bool y_bf16;
  const float* gate;
  int64_t gate_stride;
  const int32_t* gate_rows;  // null: row m has row m of gate
  float* partial;      // kGemmBlockRows * panel_columns floats of this thread, for depths past one block
};

constexpr int64_t kGemmBlockRows = 96;

// Tiles of 2x2 outputs of one picture's 3x3 convolution (winograd-inl.h, winograd.h).
constexpr int64_t kWinogradPoints = 16;
constexpr int64_t kWinogradTiles = 24;  // at most in one task: two blocks of rows for the products

struct WinogradTask {
  const uint16_t* x;      // (height, width, in) bf16; upsampled: (height / 2, width / 2, in), doubled both ways
  int64_t height;
  int64_t width;
  int64_t in;             // whole groups of 32
  int64_t out;
  bool upsampled;
  const void* weights;    // 16 points, each bf16 panels of depth `in`
  const float* bias;      // padded to whole panels
  float* y;               // (height, width, out)
  bool adds;
  int64_t tile_begin;     // counted row by row
  int64_t tile_end;
  uint16_t* inputs;       // of this thread: 16 points of kWinogradTiles * in, input_stride apart
  int64_t input_stride;
  float* products;        // of this thread: 16 * kWinogradTiles * panel_columns
};

// Attention of the query heads that share one kv head, of rows that share their cached positions.
struct AttentionTask {
  int rows;                 // entropy: always one
  const float* q;           // rows of heads * head_dim
  int64_t q_stride;
  int heads;
  int head_dim;
  float scale;
  const void* keys;         // this layer's cache, offset to the kv head
  const void* values;
  bool kv_bf16;
  int64_t block_stride;     // elements from block to block
  int block_tokens;
  const int32_t* blocks;    // of these rows
  const int32_t* lengths;   // row m sees the positions [0, lengths[m])
  int first;                // entropy: positions seen are [first, length)
  int length;
  float* scores;            // rows * heads * score_stride
  int64_t score_stride;     // length rounded up to 16
  void* out;                // rows of heads * head_dim
  int64_t out_stride;       // elements
  bool out_bf16;
};

// Working memory of one task of tiled attention, each aligned to 64 bytes; n positions padded to whole panels, e the product's element.
struct TiledAttentionMemory {
  void* keys;       // panels of n columns, head_dim deep
  void* values;     // panels of head_dim columns, n deep
  void* queries;    // kMostTileRows * padded head_dim of e
  float* scores;    // kMostTileRows * n
  void* weights;    // kMostTileRows * n of e
};

constexpr int64_t kMostTileRows = 12;

// One sequence of a sampler step; image_only and unconditional are null where there is no such row.
struct FlowStepTask {
  float* x;
  const float* conditional;
  const float* image_only;
  const float* unconditional;
  const float* noise;       // null: none
  float a, b, gamma, cfg, cfg_img;
  int64_t columns;
};

struct Kernels {
  const char* isa;
  int64_t panel_columns;
  void (*gemm_f32)(const GemmTask& task);
  void (*gemm_bf16)(const GemmTask& task);  // null where the instruction set has no bf16 products

  // Rows. w, b, shift, scale may be null where ops.h lets them be absent.
  void (*rms_norm)(const float* x, const float* w, float eps, int64_t n, void* y, bool y_bf16);
  void (*layer_norm)(const float* x, const float* w, const float* b, const float* shift, const float* scale, float eps, int64_t n, void* y,
                     bool y_bf16);
  void (*silu_mul)(const float* gate, const float* up, int64_t n, void* y, bool y_bf16);
  void (*silu_add)(const float* a, const float* b, int64_t n, void* y, bool y_bf16);
  void (*add)(const float* a, const float* b, int64_t n, float* y);
  void (*store)(const float* x, int64_t n, void* y, bool y_bf16);
  void (*load_bf16)(const uint16_t* x, int64_t n, float* y);
  // Result row r (bias not yet in it) through the epilogue into y; what gemm does, for products made elsewhere.
  void (*epilogue)(const float* r, const float* bias, EpilogueKind kind, const float* gate, int64_t n, void* y, bool y_bf16);
  // x * factor, exp(x - largest) in place; returns the sum.
  float (*softmax_row)(float* x, float factor, int64_t n);
  void (*scale_row)(const float* x, float factor, int64_t n, void* y, bool y_bf16);

  // y = rotated x: [x1 c - x2 s, x2 c + x1 s], half = head_dim / 2.
  void (*rotate)(const float* x, const float* cos, const float* sin, int64_t half, void* y, bool y_bf16);
  void (*attention)(const AttentionTask& task);
  // Attention of rows that all see `length` positions. keys and values in the product's dtype.
  void (*tiled_attention_f32)(const AttentionTask& task, const TiledAttentionMemory& memory);
  void (*tiled_attention_bf16)(const AttentionTask& task, const TiledAttentionMemory& memory);  // null as gemm_bf16 is
  // Sum over the heads of the entropy of their softmax weights, in nats; values and out are not used.
  float (*attention_entropy)(const AttentionTask& task);
  void (*flow_step)(const FlowStepTask& task);
  // Normals (radius by the first word, angle by the second) of `pairs` pairs of random words.
  void (*box_muller)(const uint32_t* words, int64_t pairs, float* normals);

  // Group norm over `pixels` of `channels`: sums over pixels per channel of (x - mean) and its square.
  void (*channel_sums)(const float* x, int64_t pixels, int64_t channels, float* sums);
  void (*channel_squares)(const float* x, const float* mean, int64_t pixels, int64_t channels, float* sums);
  // y = (x - mean) * scale + shift, then silu if asked.
  void (*scale_shift)(const float* x, const float* mean, const float* scale, const float* shift, int64_t pixels, int64_t channels, bool silu,
                      void* y, bool y_bf16);
  void (*winograd)(const WinogradTask& task);  // null where the instruction set has no bf16 products
  void (*to_rgb8)(const float* x, int64_t n, uint8_t* y);
};

extern const Kernels kKernelsGeneric;
#if defined(__x86_64__)
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;
extern const Kernels kKernelsAvx512Bf16;
#endif

}  // namespace ardiff::cpu
