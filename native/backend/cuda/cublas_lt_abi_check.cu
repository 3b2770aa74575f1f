// What cublas_lt_abi.h says, beside the library's own header, where the toolkit has it. Nothing of it runs.
#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#include <cublasLt.h>

#include <type_traits>

#include "backend/cuda/cublas_lt_abi.h"

namespace ardiff::cuda::lt {
namespace {

static_assert(int{kSuccess} == CUBLAS_STATUS_SUCCESS && int{kNotInitialized} == CUBLAS_STATUS_NOT_INITIALIZED);
static_assert(int{kAllocFailed} == CUBLAS_STATUS_ALLOC_FAILED && int{kInvalidValue} == CUBLAS_STATUS_INVALID_VALUE);
static_assert(int{kExecutionFailed} == CUBLAS_STATUS_EXECUTION_FAILED && int{kNotSupported} == CUBLAS_STATUS_NOT_SUPPORTED);
static_assert(int{kFloat32} == CUDA_R_32F && int{kBFloat16} == CUDA_R_16BF && int{kCompute32F} == CUBLAS_COMPUTE_32F);
static_assert(int{kAsIs} == CUBLAS_OP_N && int{kTransposed} == CUBLAS_OP_T && uint32_t{kNoReduction} == CUBLASLT_REDUCTION_SCHEME_NONE);
static_assert(int(DescAttribute::kTransA) == CUBLASLT_MATMUL_DESC_TRANSA && int(DescAttribute::kTransB) == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(int(PreferenceAttribute::kMaxWorkspaceBytes) == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(int(PreferenceAttribute::kReductionSchemeMask) == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(int(PreferenceAttribute::kMinAlignmentA) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(int(PreferenceAttribute::kMinAlignmentB) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(int(PreferenceAttribute::kMinAlignmentC) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
static_assert(int(PreferenceAttribute::kMinAlignmentD) == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(int(AlgoAttribute::kId) == CUBLASLT_ALGO_CONFIG_ID && int(AlgoAttribute::kSplitK) == CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
static_assert(int(AlgoAttribute::kReductionScheme) == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
static_assert(int(AlgoAttribute::kTile) == CUBLASLT_ALGO_CONFIG_TILE_ID && int(AlgoAttribute::kStages) == CUBLASLT_ALGO_CONFIG_STAGES_ID);
static_assert(int(AlgoAttribute::kCustomOption) == CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION && int(AlgoAttribute::kClusterShape) == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID);
static_assert(sizeof(Algo) == sizeof(cublasLtMatmulAlgo_t) && sizeof(HeuristicResult) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(HeuristicResult, workspace_size) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(HeuristicResult, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(offsetof(HeuristicResult, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));

// Two functions that are called in the same way: as many parameters, and each is passed as a word of the same size or as a pointer.
template <typename A, typename B>
constexpr bool kSamePlace = std::is_pointer_v<A> == std::is_pointer_v<B> && sizeof(A) == sizeof(B);
template <typename A, typename B>
constexpr bool kCalledAlike = false;
template <typename A, typename... As, typename B, typename... Bs>
  requires(sizeof...(As) == sizeof...(Bs))
constexpr bool kCalledAlike<A(As...), B(Bs...)> = kSamePlace<A, B> && (kSamePlace<As, Bs> && ...);

#define ARDIFF_COMPARE(name, result, parameters) static_assert(kCalledAlike<result parameters, decltype(cublasLt##name)>, "cublasLt" #name);
ARDIFF_CUBLAS_LT_FUNCTIONS(ARDIFF_COMPARE)
#undef ARDIFF_COMPARE

}  // namespace
}  // namespace ardiff::cuda::lt
#endif
