// The part of cuBLASLt's C interface that cublas_lt.cu calls, declared here so that the backend compiles without the library's header
// and loads on machines without the library. Values are those of the cuBLAS documentation, "Using the cuBLASLt API"
// (https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api), the same in its versions 12 and 13; cublas_lt_abi_check.cu compares
// them with the header of a toolkit that has it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace ardiff::cuda::lt {

enum Status : int { kSuccess = 0, kNotInitialized = 1, kAllocFailed = 3, kInvalidValue = 7, kExecutionFailed = 13, kNotSupported = 15 };
enum DataType : int { kFloat32 = 0, kBFloat16 = 14 };  // cudaDataType
enum ComputeType : int { kCompute32F = 68 };           // cublasComputeType_t
enum Operation : int { kAsIs = 0, kTransposed = 1 };   // cublasOperation_t
enum ReductionScheme : uint32_t { kNoReduction = 0 };  // also as a mask: no other

enum class DescAttribute : int { kTransA = 3, kTransB = 4 };  // int32 both
enum class PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,    // uint64
  kReductionSchemeMask = 3,  // uint32
  kMinAlignmentA = 5,        // uint32 bytes, and so the three others
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8,
};
enum class AlgoAttribute : int {
  kId = 0,               // int32, and so all four bytes of those without a word
  kTile = 1,
  kSplitK = 2,
  kReductionScheme = 3,  // uint32
  kCustomOption = 5,
  kStages = 6,
  kClusterShape = 8,  // uint16
};

// Of the library; only pointers are passed.
using Handle = struct CublasLtContext*;
using MatmulDesc = struct CublasLtMatmulDesc*;
using MatrixLayout = struct CublasLtMatrixLayout*;  // column by column, which is what a new one says
using Preference = struct CublasLtPreference*;

// An algorithm with all its settings, to be copied and kept.
struct Algo {
  uint64_t data[8];
};
struct HeuristicResult {
  Algo algo;
  size_t workspace_size;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Algo) == 64 && sizeof(HeuristicResult) == 96 && sizeof(Status) == 4);
static_assert(offsetof(HeuristicResult, workspace_size) == 64 && offsetof(HeuristicResult, state) == 72);

// name as in the library, without "cublasLt"; result; parameters. One line each: the loader, the check and these pointers follow it.
#define ARDIFF_CUBLAS_LT_FUNCTIONS(F)                                                                                                          \
  F(GetVersion, size_t, ())                                                                                                                    \
  F(GetStatusName, const char*, (Status))                                                                                                      \
  F(Create, Status, (Handle*))                                                                                                                 \
  F(Destroy, Status, (Handle))                                                                                                                 \
  F(MatmulDescCreate, Status, (MatmulDesc*, ComputeType, DataType))                                                                            \
  F(MatmulDescDestroy, Status, (MatmulDesc))                                                                                                   \
  F(MatmulDescSetAttribute, Status, (MatmulDesc, DescAttribute, const void*, size_t))                                                          \
  F(MatrixLayoutCreate, Status, (MatrixLayout*, DataType, uint64_t rows, uint64_t columns, int64_t stride))                                    \
  F(MatrixLayoutDestroy, Status, (MatrixLayout))                                                                                               \
  F(MatmulPreferenceCreate, Status, (Preference*))                                                                                             \
  F(MatmulPreferenceDestroy, Status, (Preference))                                                                                             \
  F(MatmulPreferenceSetAttribute, Status, (Preference, PreferenceAttribute, const void*, size_t))                                              \
  F(MatmulAlgoGetHeuristic, Status,                                                                                                            \
    (Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, Preference, int wanted, HeuristicResult*, int* found)) \
  F(MatmulAlgoCheck, Status, (Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, const Algo*, HeuristicResult*)) \
  F(MatmulAlgoConfigGetAttribute, Status, (const Algo*, AlgoAttribute, void*, size_t, size_t* written))                                        \
  F(Matmul, Status,                                                                                                                            \
    (Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout, const void* b, MatrixLayout, const void* beta, const void* c,         \
     MatrixLayout, void* d, MatrixLayout, const Algo*, void* workspace, size_t workspace_size, cudaStream_t))

}  // namespace ardiff::cuda::lt
