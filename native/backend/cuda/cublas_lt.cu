#include "backend/cuda/cublas_lt.h"

#include <array>
#include <span>

#include "backend/cuda/device.h"

namespace ardiff::cuda {

using namespace lt;

namespace {

constexpr int kCandidates = 32;
constexpr uint32_t kAlignment = 16;
// Small, odd and large: tiles that are not full, and more of them than a device holds at once.
constexpr int64_t kRowsToTake[] = {1, 17, 64, 300, 4096, 65536};

// A descriptor of the library, destroyed with its owner.
template <typename T, Status (*Library::*kDestroy)(T)>
class Owned {
 public:
  explicit Owned(const Library& library) : library_(library) {}
  ~Owned() {
    if (it != nullptr) (void)(library_.*kDestroy)(it);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  T it = nullptr;

 private:
  const Library& library_;
};

// The library's matrices lie column by column: a matrix of ours, row by row, is its transposed one there. So the product is
// Dᵀ (columns, rows) = W Xᵀ of Wᵀ (depth, columns), transposed, and Xᵀ (depth, rows).
class Layouts {
 public:
  Layouts(const Library& library, int64_t depth, int64_t columns, int64_t rows, int64_t x_stride, int64_t sums_stride)
      : weight_(library), x_(library), sums_(library) {
    create(library, weight_.it, kBFloat16, depth, columns, depth);
    create(library, x_.it, kBFloat16, depth, rows, x_stride);
    create(library, sums_.it, kFloat32, columns, rows, sums_stride);
  }
  MatrixLayout weight() const { return weight_.it; }
  MatrixLayout x() const { return x_.it; }
  MatrixLayout sums() const { return sums_.it; }

 private:
  static void create(const Library& library, MatrixLayout& out, DataType type, int64_t rows, int64_t columns, int64_t stride) {
    library.check(library.MatrixLayoutCreate(&out, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), stride), "describe a matrix");
  }
  using Layout = Owned<MatrixLayout, &Library::MatrixLayoutDestroy>;
  Layout weight_, x_, sums_;
};

Layouts packed(const Library& library, int64_t depth, int64_t columns, int64_t rows) {
  return {library, depth, columns, rows, depth, round_up(columns, 4)};
}

}  // namespace

CublasLt::CublasLt(const std::string& path) : library_(load_library(path)) {
  const Library& l = *library_;
  try {
    l.check(l.Create(&handle_), "create a handle");
    l.check(l.MatmulDescCreate(&product_, kCompute32F, kFloat32), "describe a product");
    for (const auto& [which, operation] : {std::pair{DescAttribute::kTransA, kTransposed}, {DescAttribute::kTransB, kAsIs}}) {
      const int32_t value = operation;
      l.check(l.MatmulDescSetAttribute(product_, which, &value, sizeof value), "describe a product");
    }
  } catch (...) {
    if (product_ != nullptr) (void)l.MatmulDescDestroy(product_);
    if (handle_ != nullptr) (void)l.Destroy(handle_);
    throw;
  }
}

CublasLt::~CublasLt() {
  (void)library_->MatmulDescDestroy(product_);
  (void)library_->Destroy(handle_);
}

const Algo& CublasLt::algorithm(int64_t depth, int64_t columns, const Steady& steady) {
  if (const auto known = algorithms_.find({depth, columns}); known != algorithms_.end()) return known->second;
  const Library& l = *library_;
  Owned<Preference, &Library::MatmulPreferenceDestroy> preference(l);
  l.check(l.MatmulPreferenceCreate(&preference.it), "describe what is preferred");
  const auto prefer = [&](PreferenceAttribute which, auto value) {
    l.check(l.MatmulPreferenceSetAttribute(preference.it, which, &value, sizeof value), "describe what is preferred");
  };
  prefer(PreferenceAttribute::kMaxWorkspaceBytes, uint64_t{0});
  prefer(PreferenceAttribute::kReductionSchemeMask, uint32_t{kNoReduction});
  for (const auto which : {PreferenceAttribute::kMinAlignmentA, PreferenceAttribute::kMinAlignmentB, PreferenceAttribute::kMinAlignmentC,
                           PreferenceAttribute::kMinAlignmentD}) {
    prefer(which, kAlignment);
  }
  const Layouts layouts = packed(l, depth, columns, kCanonicalRows);
  std::array<HeuristicResult, kCandidates> candidates{};
  int found = 0;
  const Status status = l.MatmulAlgoGetHeuristic(handle_, product_, layouts.weight(), layouts.x(), layouts.sums(), layouts.sums(), preference.it,
                                                 kCandidates, candidates.data(), &found);
  if (status != kNotSupported) l.check(status, "choose an algorithm");  // that is the word for: none
  for (const HeuristicResult& candidate : std::span(candidates).first(static_cast<size_t>(found))) {
    const Algo& algo = candidate.algo;
    if (candidate.state != kSuccess || candidate.workspace_size != 0 || !sums_in_one_piece(algo)) continue;
    if (!takes_any_rows(algo, depth, columns) || !steady(algo)) continue;
    return algorithms_.emplace(std::pair{depth, columns}, algo).first->second;
  }
  fail(ErrorCode::kInvalidArgument, "cuBLASLt ", version(), " (ARDIFF_CUDA_BLASLT) has no algorithm for weights of ", columns, " x ", depth,
       " that gives a row the same bits in every batch, of ", found, " that it names");
}

bool CublasLt::sums_in_one_piece(const Algo& algorithm) const {
  int32_t split = 0;
  uint32_t reduction = 0;
  size_t written = 0;
  const Library& l = *library_;
  l.check(l.MatmulAlgoConfigGetAttribute(&algorithm, AlgoAttribute::kSplitK, &split, sizeof split, &written), "ask an algorithm");
  l.check(l.MatmulAlgoConfigGetAttribute(&algorithm, AlgoAttribute::kReductionScheme, &reduction, sizeof reduction, &written), "ask an algorithm");
  return split <= 1 && reduction == kNoReduction;
}

bool CublasLt::takes_any_rows(const Algo& algorithm, int64_t depth, int64_t columns) const {
  const Library& l = *library_;
  for (const int64_t rows : kRowsToTake) {
    const Layouts layouts = packed(l, depth, columns, rows);
    HeuristicResult result{};
    const Status status = l.MatmulAlgoCheck(handle_, product_, layouts.weight(), layouts.x(), layouts.sums(), layouts.sums(), &algorithm, &result);
    if (status != kSuccess || result.workspace_size != 0) return false;
  }
  return true;
}

void CublasLt::multiply(const LtTask& t, const Algo& algorithm, cudaStream_t stream) const {
  const Layouts layouts(*library_, t.depth, t.columns, t.rows, t.x_stride, t.sums_stride);
  const float one = 1.0f, zero = 0.0f;
  library_->check(library_->Matmul(handle_, product_, &one, t.weight, layouts.weight(), t.x, layouts.x(), &zero, t.sums, layouts.sums(), t.sums,
                                   layouts.sums(), &algorithm, nullptr, 0, stream),
                  "multiply");
}

}  // namespace ardiff::cuda
