#include "backend/pricing_backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace ardiff {

namespace {

// Devices hand out memory in pages: large pieces take whole ones, small ones share.
constexpr size_t kPage = size_t{2} << 20, kSmall = size_t{1} << 20, kSmallUnit = 256;

int64_t charged(size_t bytes) {
  const size_t unit = bytes >= kSmall ? kPage : kSmallUnit;
  return static_cast<int64_t>((std::max<size_t>(bytes, 1) + unit - 1) / unit * unit);
}

// (in, out) of the parts together.
std::pair<int64_t, int64_t> features(std::span<const LinearPart> parts) {
  int64_t out = 0;
  for (const LinearPart& part : parts) out += part.weight.shape[0];
  return {parts[0].weight.shape[1], out};
}

struct PricedLinear final : Linear {
  PricedLinear(int64_t in, int64_t out, Storage memory) : Linear(in, out), storage(std::move(memory)) {}
  Storage storage;
};

struct PricedConv2d final : Conv2d {
  PricedConv2d(int64_t in, int64_t out, int64_t kernel, ConvPadding pad, Storage memory)
      : Conv2d(in, out, kernel, pad), storage(std::move(memory)) {}
  Storage storage;
};

}  // namespace

Storage PricingBackend::allocate(size_t bytes) {
  const size_t size = std::max<size_t>(bytes, 1);
  void* const memory = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check(memory != MAP_FAILED, ErrorCode::kOutOfMemory, "out of memory: no addresses for ", bytes, " bytes");
  const int64_t charge = charged(bytes);
  count_->live += charge;
  count_->most = std::max(count_->most, count_->live);
  return {static_cast<std::byte*>(memory), [count = count_, size, charge](std::byte* pointer) {
            munmap(pointer, size);
            count->live -= charge;
          }};
}

void PricingBackend::download(const TensorView& src, void* dst) {
  if (src.bytes() != 0) std::memset(dst, 0, src.bytes());
}

std::unique_ptr<Linear> PricingBackend::prepare_linear(std::span<const LinearPart> parts) {
  const auto [in, out] = features(parts);
  return std::make_unique<PricedLinear>(in, out, allocate(linear_bytes(in, out)));
}

std::unique_ptr<Linear> PricingBackend::prepare_picture_linear(std::span<const LinearPart> parts) {
  const auto [in, out] = features(parts);
  return std::make_unique<PricedLinear>(in, out, allocate(picture_linear_bytes(in, out)));
}

std::unique_ptr<Conv2d> PricingBackend::prepare_conv2d(const HostTensor& weight, const HostTensor&, ConvPadding padding) {
  const int64_t out = weight.shape[0], in = weight.shape[1], kernel = weight.shape[2];
  return std::make_unique<PricedConv2d>(in, out, kernel, padding, allocate(conv2d_bytes(in, out, kernel)));
}

// Three inputs of the shape of q, packed.
void PricingBackend::dense_attention(const TensorView& q, const TensorView&, const TensorView&, float, const TensorView&) {
  largest_input_ = std::max(largest_input_, 3 * q.shape.size() * static_cast<int64_t>(dtype_size(activation_dtype())));
}

void PricingBackend::see_input(const TensorView& x) {
  largest_input_ = std::max(largest_input_, x.shape.size() * static_cast<int64_t>(dtype_size(activation_dtype())));
}

}  // namespace ardiff
