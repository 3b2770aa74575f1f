#include "backend/cuda/cublas_lt.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/device.h"

namespace ardiff::cuda {

using namespace lt;

namespace {

constexpr int kCandidates = 32;
constexpr uint32_t kAlignment = 16;
// Small, odd and large: tiles that are not full, and more of them than a device holds at once.
constexpr int64_t kRowsToTake[] = {1, 17, 64, 300, CublasLt::kCanonicalRows, 4096, 65536};
// What the library names for many rows need not take few. The first that gives one decides.
constexpr int64_t kRowsToAskFor[] = {CublasLt::kCanonicalRows, 4096, 64, 1};

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

bool same(const Algo& one, const Algo& other) { return std::memcmp(&one, &other, sizeof one) == 0; }

}  // namespace

CublasLt::CublasLt(const std::string& path, bool required) : required_(required), library_(load_library(path)) {
  void* workspace = nullptr;
  check_cuda(cudaMalloc(&workspace, kWorkspaceBytes), "allocate cuBLASLt's workspace");
  workspace_.reset(workspace);
  // What lies there at first is not documented to matter; this way it is the same in every run.
  check_cuda(cudaMemsetAsync(workspace, 0, kWorkspaceBytes, nullptr), "clear memory");
  check_cuda(cudaStreamSynchronize(nullptr), "clear memory");
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

std::vector<HeuristicResult> CublasLt::candidates(int64_t depth, int64_t columns, int64_t rows) const {
  const Library& l = *library_;
  Owned<Preference, &Library::MatmulPreferenceDestroy> preference(l);
  l.check(l.MatmulPreferenceCreate(&preference.it), "describe what is preferred");
  const auto prefer = [&](PreferenceAttribute which, auto value) {
    l.check(l.MatmulPreferenceSetAttribute(preference.it, which, &value, sizeof value), "describe what is preferred");
  };
  prefer(PreferenceAttribute::kMaxWorkspaceBytes, uint64_t{kWorkspaceBytes});
  prefer(PreferenceAttribute::kReductionSchemeMask, uint32_t{kNoReduction});
  for (const auto which : {PreferenceAttribute::kMinAlignmentA, PreferenceAttribute::kMinAlignmentB, PreferenceAttribute::kMinAlignmentC,
                           PreferenceAttribute::kMinAlignmentD}) {
    prefer(which, kAlignment);
  }
  const Layouts layouts = packed(l, depth, columns, rows);
  std::vector<HeuristicResult> named(kCandidates);
  int found = 0;
  const Status status = l.MatmulAlgoGetHeuristic(handle_, product_, layouts.weight(), layouts.x(), layouts.sums(), layouts.sums(), preference.it,
                                                 kCandidates, named.data(), &found);
  if (status == kNotSupported) return {};  // the word for: none
  l.check(status, "choose an algorithm");
  named.resize(static_cast<size_t>(found));
  return named;
}

const LtAlgorithms& CublasLt::algorithms(int64_t depth, int64_t columns, const Steady& steady) {
  if (const auto known = algorithms_.find({depth, columns}); known != algorithms_.end()) return known->second;
  LtAlgorithms found{canonical(depth, columns, steady), {}};
  for (size_t i = 0; i < found.of_many.size(); ++i) found.of_many[i] = of_many(depth, columns, LtAlgorithms::kMany[i].asked, found.canonical, steady);
  return algorithms_.emplace(std::pair{depth, columns}, found).first->second;
}

Algo CublasLt::of_many(int64_t depth, int64_t columns, int64_t rows, const Algo& canonical, const Steady& steady) const {
  for (const HeuristicResult& candidate : candidates(depth, columns, rows)) {
    if (same(candidate.algo, canonical) || !judge(candidate, depth, columns, &canonical, steady)) return candidate.algo;
  }
  return canonical;
}

Algo CublasLt::canonical(int64_t depth, int64_t columns, const Steady& steady) const {
  std::vector<Algo> seen;
  struct Refused {
    int count = 0;
    std::string last;
  };
  std::map<std::string, Refused> refused;  // of each rule
  for (const int64_t rows : kRowsToAskFor) {
    for (const HeuristicResult& candidate : candidates(depth, columns, rows)) {
      const Algo& algo = candidate.algo;
      if (std::any_of(seen.begin(), seen.end(), [&](const Algo& other) { return same(other, algo); })) continue;
      seen.push_back(algo);
      const std::optional<Refusal> refusal = judge(candidate, depth, columns, nullptr, steady);
      if (!refusal) return algo;
      Refused& of_rule = refused[refusal->rule];
      ++of_rule.count;
      of_rule.last = settings(algo) + ": " + refusal->said;
    }
  }
  std::string why;
  for (const auto& [rule, of_rule] : refused) why += "; " + std::to_string(of_rule.count) + " " + rule + ", the last " + of_rule.last;
  fail(ErrorCode::kInvalidArgument, "cuBLASLt ", version(), " (ARDIFF_CUDA_BLASLT) has no algorithm for weights of ", columns, " x ", depth,
       " that gives a row the same bits in every batch, of ", seen.size(), " that it names", why);
}

std::optional<CublasLt::Refusal> CublasLt::judge(const HeuristicResult& candidate, int64_t depth, int64_t columns, const Algo* canonical,
                                                 const Steady& steady) const {
  if (candidate.state != kSuccess) return Refusal{"not to be used", library_->GetStatusName(candidate.state)};
  if (candidate.workspace_size > kWorkspaceBytes) return Refusal{"with a large workspace", std::to_string(candidate.workspace_size) + " bytes"};
  if (std::string parts = parts_of_sums(candidate.algo); !parts.empty()) return Refusal{"with parts of the depth", std::move(parts)};
  if (std::string rows = rows_not_taken(candidate.algo, depth, columns); !rows.empty()) return Refusal{"not for all numbers of rows", std::move(rows)};
  if (!steady(candidate.algo, canonical)) return Refusal{"with other bits in another batch", "seen with the layer's weights"};
  return std::nullopt;
}

// Empty: none.
std::string CublasLt::parts_of_sums(const Algo& algorithm) const {
  int32_t split = 0;
  uint32_t reduction = 0;
  size_t written = 0;
  const Library& l = *library_;
  l.check(l.MatmulAlgoConfigGetAttribute(&algorithm, AlgoAttribute::kSplitK, &split, sizeof split, &written), "ask an algorithm");
  l.check(l.MatmulAlgoConfigGetAttribute(&algorithm, AlgoAttribute::kReductionScheme, &reduction, sizeof reduction, &written), "ask an algorithm");
  if (split <= 1 && reduction == kNoReduction) return "";
  return "split-K " + std::to_string(split) + ", reduction scheme " + std::to_string(reduction);
}

// Empty: it takes all that are asked for.
std::string CublasLt::rows_not_taken(const Algo& algorithm, int64_t depth, int64_t columns) const {
  const Library& l = *library_;
  std::string out;
  for (const int64_t rows : kRowsToTake) {
    const Layouts layouts = packed(l, depth, columns, rows);
    HeuristicResult result{};
    const Status status = l.MatmulAlgoCheck(handle_, product_, layouts.weight(), layouts.x(), layouts.sums(), layouts.sums(), &algorithm, &result);
    if (status == kSuccess && result.workspace_size <= kWorkspaceBytes) continue;
    out += (out.empty() ? "" : ", ") + std::to_string(rows) + " rows ";
    out += status != kSuccess ? l.GetStatusName(status) : std::to_string(result.workspace_size) + " bytes of workspace";
  }
  return out;
}

// As numbers of the library's enumerations; what it does not tell of this one is left out.
std::string CublasLt::settings(const Algo& algorithm) const {
  const auto told = [&](const char* name, AlgoAttribute which, auto value) {
    size_t written = 0;
    const bool known = library_->MatmulAlgoConfigGetAttribute(&algorithm, which, &value, sizeof value, &written) == kSuccess;
    return known ? std::string(name) + std::to_string(value) : "";
  };
  return told("algorithm ", AlgoAttribute::kId, int32_t{}) + told(" tile ", AlgoAttribute::kTile, uint32_t{}) +
         told(" stages ", AlgoAttribute::kStages, uint32_t{}) + told(" cluster ", AlgoAttribute::kClusterShape, uint16_t{}) +
         told(" option ", AlgoAttribute::kCustomOption, uint32_t{});
}

void CublasLt::multiply(const LtTask& t, const Algo& algorithm, cudaStream_t stream) const {
  const Layouts layouts(*library_, t.depth, t.columns, t.rows, t.x_stride, t.sums_stride);
  const float one = 1.0f, zero = 0.0f;
  library_->check(library_->Matmul(handle_, product_, &one, t.weight, layouts.weight(), t.x, layouts.x(), &zero, t.sums, layouts.sums(), t.sums,
                                   layouts.sums(), &algorithm, workspace_.get(), kWorkspaceBytes, stream),
                  "multiply");
}

}  // namespace ardiff::cuda
