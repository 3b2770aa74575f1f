// Products of layers whose rows come in whole pictures (Ops::prepare_picture_linear) by cuBLASLt: sums in float32, which our kernels
// finish. Off unless it is asked for; docs/cuda.md, cuBLASLt, says why it may be used there and nowhere else.
//
// Every shape of weights has a canonical algorithm, whatever the number of rows: the library's first choice for kCanonicalRows rows, or
// else for other numbers of rows, among those that sum a result in one piece (no parts of the depth apart, no workspace in which such parts
// could meet), that the library takes for every other number of rows as well, and whose rows have been seen to keep their bits in batches
// of all kinds. Where there are many more rows another one may stand in for it, by the same rules, whose bits have been seen to be the
// canonical one's.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/cublas_lt_library.h"

namespace ardiff::cuda {

// Rows of bfloat16 times weights of bfloat16: sums (rows, columns), rows sums_stride floats apart.
struct LtTask {
  const void* x;
  int64_t x_stride;  // elements; x and rows begin at whole 16 bytes
  int64_t rows;
  int64_t depth;
  int64_t columns;
  const void* weight;  // (columns, depth)
  float* sums;
  int64_t sums_stride;  // floats, a multiple of 4
};

// What a shape of weights is multiplied by: bits do not depend on the number of rows.
struct LtAlgorithms {
  lt::Algo canonical;
  std::array<lt::Algo, 2> of_many;  // of more rows than kMany[i].above; the canonical one where no other has its bits
  struct Many {
    int64_t above, asked;  // rows; those that the library is asked about
  };
  static constexpr std::array<Many, 2> kMany = {{{1024, 2048}, {4096, 8192}}};

  const lt::Algo& of(int64_t rows) const { return rows <= kMany[0].above ? canonical : of_many[rows <= kMany[1].above ? 0 : 1]; }
};

class CublasLt {
 public:
  static constexpr int64_t kCanonicalRows = 512;
  // Of device memory, for all products. Hopper's kernels want 4 bytes where there are more tiles than fit at once: a counter, from which
  // their scheduler takes the next tile. The sums of the smallest tile of their products, 64 x 8 floats, are 2048 bytes: parts of such sums
  // cannot meet in 256. (Counters for parts that meet in the result itself could lie there: a reduction scheme, which is asked about.)
  static constexpr size_t kWorkspaceBytes = 256;

  // path: as load_library takes it. The current device's. required: a shape that it has no algorithm for is an error, and not left to
  // our kernels.
  CublasLt(const std::string& path, bool required);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  std::string version() const { return library_->version(); }
  bool required() const { return required_; }

  // The algorithms of a shape; `steady` says of a candidate whether rows keep their bits with it, and whether those are the bits of
  // `canonical` if that is not null; it is not asked again once a shape has its algorithms. Throws kInvalidArgument where there is none,
  // with how many candidates each rule turned down.
  using Steady = std::function<bool(const lt::Algo& candidate, const lt::Algo* canonical)>;
  const LtAlgorithms& algorithms(int64_t depth, int64_t columns, const Steady& steady);

  // On one stream only, since products share the workspace. A graph that takes the product up uses it too: *this must outlive it.
  void multiply(const LtTask& task, const lt::Algo& algorithm, cudaStream_t stream) const;

 private:
  // Why a candidate is not taken: the rule, and what the library said.
  struct Refusal {
    const char* rule;
    std::string said;
  };
  std::vector<lt::HeuristicResult> candidates(int64_t depth, int64_t columns, int64_t rows) const;
  lt::Algo canonical(int64_t depth, int64_t columns, const Steady& steady) const;
  lt::Algo of_many(int64_t depth, int64_t columns, int64_t rows, const lt::Algo& canonical, const Steady& steady) const;
  std::optional<Refusal> judge(const lt::HeuristicResult& candidate, int64_t depth, int64_t columns, const lt::Algo* canonical,
                               const Steady& steady) const;
  std::string parts_of_sums(const lt::Algo& algorithm) const;
  std::string rows_not_taken(const lt::Algo& algorithm, int64_t depth, int64_t columns) const;
  std::string settings(const lt::Algo& algorithm) const;

  bool required_;
  struct Free {
    void operator()(void* memory) const { (void)cudaFree(memory); }
  };

  std::shared_ptr<const lt::Library> library_;
  std::unique_ptr<void, Free> workspace_;  // kWorkspaceBytes
  lt::Handle handle_ = nullptr;
  lt::MatmulDesc product_ = nullptr;
  std::map<std::pair<int64_t, int64_t>, LtAlgorithms> algorithms_;  // of depth, columns
};

}  // namespace ardiff::cuda
