// A libcublasLt for the emulation: the functions that native/backend/cuda/cublas_lt.cu loads, as strict as the library's documentation
// (https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api) about the sizes of attributes, layouts, types and alignments. Numbers
// are written here as they stand there, not taken from the backend's header, so that an error in one is not an error in both. Products
// are plain sums on the host, in an order that the algorithm says.
//
// FAKE_CUBLASLT, looked at in every call, makes it misbehave:
//   fail-create, fail-multiply, no-memory, refuses   a call answers with an error; refuses: no algorithm
//   parts                 names algorithms first that add parts of the depth, or want a large workspace, against what was asked for
//   unsteady              names one first whose sums depend on the number of rows, then one, of other sums, that takes no more than 4096
//   only-unsteady         names no other
//   only-unsteady-many    names one whose sums are others from 1000 rows on
//   only-grows            names one that wants a large workspace from 4096 rows on
//   none-fits             names all of these and none that could be used
//   twin                  names for 2048 rows and more one with other sums, and one with the same
//   few-first             names what takes no more than 4096 rows, for 512 rows, and the one that could be used for others alone
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "emulated_stream.h"

namespace {

enum : int { kSuccess = 0, kNotInitialized = 1, kAllocFailed = 3, kInvalidValue = 7, kExecutionFailed = 13, kNotSupported = 15 };
constexpr int kBFloat16 = 14, kFloat32 = 0;  // cudaDataType

struct Desc {
  int compute, scale;
  int32_t transposed[2] = {0, 0};
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = 7;             // all of them
  uint32_t alignment[4] = {256, 256, 256, 256};
};
enum Id : uint64_t { kSteady = 1, kUnsteady, kFewRows, kSplit, kReduces, kWorkspace, kGrows, kUnsteadyMany, kOtherBits, kTwin };
struct Algo {
  uint64_t magic, id, rest[6];
};
struct Result {
  Algo algo;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
constexpr uint64_t kMagic = 0x1f4c0b1a5;

// What may be used wants 4 bytes from 300 rows on, as an H100's kernels do for wide layers: a counter of rows, as theirs is of tiles.
size_t wanted_workspace(uint64_t id, uint64_t rows) {
  if (id == kWorkspace || (id == kGrows && rows >= 4096)) return 1024;
  return rows >= 300 ? 4 : 0;
}

std::map<std::string, int>& counts() {
  static std::map<std::string, int> all;
  return all;
}

std::string mode() {
  const char* const text = std::getenv("FAKE_CUBLASLT");
  return text != nullptr ? text : "";
}

template <typename T>
int set(T& value, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof value) return kInvalidValue;
  std::memcpy(&value, from, bytes);
  return kSuccess;
}

// Dᵀ = W Xᵀ, that is of columns: a (depth, columns) transposed, b (depth, rows), d (columns, rows).
bool fits(const Desc* desc, const Layout* a, const Layout* b, const Layout* c, const Layout* d) {
  const bool types = desc->compute == 68 && desc->scale == kFloat32 && a->type == kBFloat16 && b->type == kBFloat16 && c->type == kFloat32 && d->type == kFloat32;
  const bool shapes = desc->transposed[0] == 1 && desc->transposed[1] == 0 && a->rows == b->rows && a->columns == d->rows && b->columns == d->columns &&
                      c->rows == d->rows && c->columns == d->columns;
  for (const Layout* one : {a, b, d}) {
    const int64_t bytes = one->type == kBFloat16 ? 2 : 4;
    if (one->stride < static_cast<int64_t>(one->rows) || one->stride * bytes % 16 != 0) return false;
  }
  return types && shapes;
}

bool aligned(const void* pointer, uintptr_t to = 16) { return reinterpret_cast<uintptr_t>(pointer) % to == 0; }

float value(const void* matrix, int64_t at) {
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(matrix)[at]) << 16;
  float out = 0;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

std::vector<Id> named(uint64_t rows) {
  const std::string how = mode();
  if (how == "few-first") return rows == 512 ? std::vector{kFewRows} : std::vector{kFewRows, kSteady};
  if (how == "twin" && rows >= 2048) return {kOtherBits, kTwin};
  if (how == "parts") return {kSplit, kReduces, kWorkspace, kSteady};
  if (how == "unsteady") return {kUnsteady, kFewRows, kSteady};
  if (how == "only-unsteady") return {kUnsteady};
  if (how == "only-unsteady-many") return {kUnsteadyMany};
  if (how == "only-grows") return {kGrows};
  if (how == "none-fits") return {kSplit, kReduces, kWorkspace, kUnsteady, kFewRows};
  return {kSteady};
}

}  // namespace

extern "C" {

// For tests: how often a function was called; forgets.
int fake_cublas_lt_calls(const char* name) { return std::exchange(counts()[name], 0); }

size_t cublasLtGetVersion() { return 130203; }
const char* cublasLtGetStatusName(int status) {
  switch (status) {
    case kNotInitialized: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case kAllocFailed: return "CUBLAS_STATUS_ALLOC_FAILED";
    case kInvalidValue: return "CUBLAS_STATUS_INVALID_VALUE";
    case kExecutionFailed: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case kNotSupported: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_SUCCESS";
  }
}
int cublasLtCreate(void** handle) {
  if (mode() == "fail-create") return kNotInitialized;
  ++counts()["create"];
  *handle = new int(0);
  return kSuccess;
}
int cublasLtDestroy(void* handle) {
  ++counts()["destroy"];
  delete static_cast<int*>(handle);
  return kSuccess;
}

int cublasLtMatmulDescCreate(Desc** out, int compute, int scale) { return *out = new Desc{compute, scale}, kSuccess; }
int cublasLtMatmulDescDestroy(Desc* desc) { return delete desc, kSuccess; }
int cublasLtMatmulDescSetAttribute(Desc* desc, int which, const void* from, size_t bytes) {
  return which == 3 || which == 4 ? set(desc->transposed[which - 3], from, bytes) : kInvalidValue;
}
int cublasLtMatrixLayoutCreate(Layout** out, int type, uint64_t rows, uint64_t columns, int64_t stride) {
  return *out = new Layout{type, rows, columns, stride}, kSuccess;
}
int cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, kSuccess; }
int cublasLtMatmulPreferenceCreate(Preference** out) { return *out = new Preference, kSuccess; }
int cublasLtMatmulPreferenceDestroy(Preference* preference) { return delete preference, kSuccess; }
int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int which, const void* from, size_t bytes) {
  switch (which) {
    case 1: return set(preference->workspace, from, bytes);
    case 3: return set(preference->reductions, from, bytes);
    case 5: case 6: case 7: case 8: return set(preference->alignment[which - 5], from, bytes);
    default: return kInvalidValue;
  }
}

int cublasLtMatmulAlgoGetHeuristic(void*, Desc* desc, Layout* a, Layout* b, Layout* c, Layout* d, Preference* preference, int wanted, Result* out, int* found) {
  ++counts()["choose"];
  *found = 0;
  if (mode() == "refuses") return kNotSupported;
  for (const uint32_t alignment : preference->alignment) {
    if (alignment != 16) return kInvalidValue;  // what is not said would be taken to be 256
  }
  if (preference->workspace != 256 || preference->reductions != 0 || !fits(desc, a, b, c, d)) return kInvalidValue;
  for (const Id id : named(b->columns)) {
    if (*found == wanted) break;
    out[(*found)++] = {{kMagic, id, {}}, wanted_workspace(id, b->columns), kSuccess, 1.0f, {}};
  }
  return kSuccess;
}
int cublasLtMatmulAlgoCheck(void*, Desc* desc, Layout* a, Layout* b, Layout* c, Layout* d, const Algo* algo, Result* out) {
  if (algo->magic != kMagic || !fits(desc, a, b, c, d)) return kInvalidValue;
  if (algo->id == kFewRows && b->columns > 4096) return kNotSupported;
  *out = {*algo, wanted_workspace(algo->id, b->columns), kSuccess, 1.0f, {}};
  return kSuccess;
}
int cublasLtMatmulAlgoConfigGetAttribute(const Algo* algo, int which, void* to, size_t bytes, size_t* written) {
  if (bytes != (which == 7 || which == 8 ? 2 : 4)) return kInvalidValue;
  int32_t answer = 0;
  switch (which) {
    case 0: answer = static_cast<int32_t>(algo->id); break;
    case 1: answer = 20; break;
    case 2: answer = algo->id == kSplit ? 2 : 1; break;
    case 3: answer = algo->id == kReduces ? 2 : 0; break;
    case 6: answer = 15; break;
    case 8: answer = 3; break;
    default: return kInvalidValue;  // as the library says of what an algorithm does not have
  }
  std::memcpy(to, &answer, bytes);  // little-endian
  *written = bytes;
  return kSuccess;
}

int cublasLtMatmul(void*, Desc* desc, const void* alpha, const void* a, Layout* a_layout, const void* b, Layout* b_layout, const void* beta, const void* c,
                   Layout* c_layout, void* d, Layout* d_layout, const Algo* algo, void* workspace, size_t workspace_size, emulation_stream* stream) {
  ++counts()["multiply"];
  if (mode() == "fail-multiply") return kExecutionFailed;
  if (mode() == "no-memory") return kAllocFailed;
  float scale = 0, kept = 1;
  std::memcpy(&scale, alpha, sizeof scale);
  std::memcpy(&kept, beta, sizeof kept);
  if (!fits(desc, a_layout, b_layout, c_layout, d_layout) || !aligned(a) || !aligned(b) || !aligned(d) || c != d || algo->magic != kMagic ||
      scale != 1.0f || kept != 0.0f || algo->id == kSplit || algo->id == kReduces || algo->id == kWorkspace) {
    return kInvalidValue;
  }
  const size_t wanted = wanted_workspace(algo->id, b_layout->columns);
  if (wanted > workspace_size || (workspace_size > 0 && (workspace == nullptr || !aligned(workspace, 256)))) return kInvalidValue;
  if (wanted > 0) ++counts()["count rows"];
  if (algo->id == kTwin) ++counts()["multiply by twin"];
  stream->enqueue([=, la = *a_layout, lb = *b_layout, ld = *d_layout, id = algo->id] {
    const auto depth = static_cast<int64_t>(la.rows);
    const bool backwards = id == kFewRows || id == kOtherBits || (id == kUnsteady && lb.columns < 100) || (id == kUnsteadyMany && lb.columns >= 1000);
    uint32_t own = 0;
    // Begins and ends as zero: where another writes into it, or nobody cleared it, rows are missing.
    uint32_t& next = wanted > 0 ? *static_cast<uint32_t*>(workspace) : own;
    for (int64_t m = next++; m < static_cast<int64_t>(ld.columns); m = next++) {
      for (int64_t n = 0; n < static_cast<int64_t>(ld.rows); ++n) {
        float sum = 0.0f;
        for (int64_t i = 0; i < depth; ++i) {
          const int64_t k = backwards ? depth - 1 - i : i;
          sum = std::fma(value(a, n * la.stride + k), value(b, m * lb.stride + k), sum);
        }
        static_cast<float*>(d)[m * ld.stride + n] = sum;
      }
    }
    next = 0;
  });
  return kSuccess;
}

}  // extern "C"
