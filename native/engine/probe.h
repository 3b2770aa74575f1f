// What a probe gets and gives: parts of a model on given inputs, for golden cases and calibration. Shapes of every kind:
// ProbeRequest of src/engine/native-types.ts.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backend/scratch.h"
#include "engine/step_plan.h"

namespace ardiff {

// Float32 tensor in host memory.
struct HostArray {
  std::vector<float> data;
  std::vector<int64_t> shape;
};
using HostArrays = std::map<std::string, HostArray>;

struct ProbeRequest {
  std::string kind;
  HostArrays tensors;
  SequenceSpec settings = {};  // sampler settings of params, for kinds "sampler" and "class_to_latent"
  uint32_t sequence = 0;       // params.sequence, for kind "tokens"
  int64_t parallel = 0;        // params.parallel and firstKey, for kind "draft"
  int64_t first_key = 0;

  // Throws kInvalidArgument.
  const HostArray& tensor(const char* name) const {
    const auto found = tensors.find(name);
    check(found != tensors.end(), ErrorCode::kInvalidArgument, "probe ", kind, " needs the tensor ", name);
    return found->second;
  }
};

// The i-th of `rank` dimensions. Throws kInvalidArgument for another rank.
inline int64_t probe_dim(const HostArray& array, const char* name, size_t i, size_t rank) {
  check(array.shape.size() == rank, ErrorCode::kInvalidArgument, name, " has rank ", array.shape.size(), ", expected ", rank);
  return array.shape[i];
}

// The array on the backend, in the scratch; throws kInvalidArgument where its size is not the shape's.
TensorView upload_array(Backend& backend, Scratch& scratch, const HostArray& array, const char* name, const Shape& shape);
HostArray download_array(Backend& backend, const TensorView& view, std::vector<int64_t> shape);

class Vae;
// latent (B, C, h, w) -> picture (B, 3, H, W) in about [-1, 1]; pixels (B, 3, H, W) -> posterior mean (B, C, h, w).
HostArray probe_vae_decode(Backend& backend, Scratch& scratch, const Vae& vae, const HostArray& latent);
HostArray probe_vae_encode(Backend& backend, Scratch& scratch, const Vae& vae, const HostArray& pixels);

}  // namespace ardiff
