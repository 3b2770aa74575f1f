// The body of every kernels_<isa>.cpp: all kernels in one anonymous namespace, gathered in one table named
// ARDIFF_KERNELS. The including file defines ARDIFF_KERNELS, ARDIFF_ISA_NAME and the ARDIFF_SIMD_* of its flags.
#include "backend/cpu/kernels.h"

#if defined(ARDIFF_SIMD_AVX512) || defined(ARDIFF_SIMD_AVX2)
#include <immintrin.h>
#endif

namespace ardiff::cpu {
namespace {

#include "backend/cpu/simd-inl.h"
#include "backend/cpu/gemm-inl.h"
#include "backend/cpu/rows-inl.h"
#include "backend/cpu/attention-inl.h"
#include "backend/cpu/tiled_attention-inl.h"
#include "backend/cpu/random-inl.h"
#include "backend/cpu/image-inl.h"
#include "backend/cpu/winograd-inl.h"

}  // namespace

const Kernels ARDIFF_KERNELS = {
    .isa = ARDIFF_ISA_NAME,
    .panel_columns = kPanelColumns,
    .gemm_f32 = gemm<F32Product>,
#if defined(ARDIFF_SIMD_BF16)
    .gemm_bf16 = gemm<Bf16Product>,
#else
    .gemm_bf16 = nullptr,
#endif
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .silu_mul = silu_mul,
    .silu_add = silu_add,
    .add = add,
    .store = store_row,
    .load_bf16 = load_bf16,
    .epilogue = epilogue,
    .softmax_row = softmax_row,
    .scale_row = scale_row,
    .rotate = rotate,
    .attention = attention,
    .tiled_attention_f32 = tiled_attention<F32Product>,
#if defined(ARDIFF_SIMD_BF16)
    .tiled_attention_bf16 = tiled_attention<Bf16Product>,
#else
    .tiled_attention_bf16 = nullptr,
#endif
    .attention_entropy = attention_entropy,
    .flow_step = flow_step,
    .box_muller = box_muller,
    .channel_sums = channel_sums,
    .channel_squares = channel_squares,
    .scale_shift = scale_shift,
#if defined(ARDIFF_SIMD_BF16)
    .winograd = winograd,
#else
    .winograd = nullptr,
#endif
    .to_rgb8 = to_rgb8,
};

}  // namespace ardiff::cpu
