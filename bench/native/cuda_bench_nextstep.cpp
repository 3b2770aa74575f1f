// NextStep-1 14B at true sizes with made-up weights: paged attention, a step of the backbone, a token of the flow head.
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "cuda_bench.h"
#include "model/backbone.h"
#include "model/flow_head.h"

namespace ardiff::bench {
namespace {

// NextStep-1 14B. As many layers as measure: the time of one is what counts, 48 are printed.
constexpr BackboneConfig kBackbone{5120, 13824, 8, 40, 8, 128, 152064, 4096, 1e-6f, 1e6f};
constexpr int64_t kModelLayers = 48;
constexpr int64_t kHeadWidth = 1536, kHeadBlocks = 12, kTokenSize = 64;
constexpr int64_t kBlockTokens = 16;

// `sequences` of `length` positions with the last `rows_each` of them as rows: 1 as in decode, 5 as where 4 drafts are verified.
struct Cached {
  Cached(Backend& backend, int64_t layers, int64_t sequences, int64_t length, int64_t rows_each = 1) {
    const int64_t blocks_each = (length + kBlockTokens - 1) / kBlockTokens, blocks = sequences * blocks_each;
    const Shape shape{blocks, kBackbone.num_kv_heads, kBlockTokens, kBackbone.head_dim};
    for (int64_t i = 0; i < layers; ++i) {
      storage.push_back(backend.make(backend.kv_dtype(), shape));
      storage.push_back(backend.make(backend.kv_dtype(), shape));
      kv.push_back({storage[storage.size() - 2], storage.back()});
    }
    // Blocks of a sequence are `sequences` apart, as when pictures grow together.
    std::vector<int32_t> table, table_row, length_of, slot, position;
    for (int64_t m = 0; m < sequences; ++m) {
      for (int64_t i = 0; i < blocks_each; ++i) table.push_back(static_cast<int32_t>(i * sequences + m));
      for (int64_t p = length - rows_each; p < length; ++p) {
        table_row.push_back(static_cast<int32_t>(m));
        length_of.push_back(static_cast<int32_t>(p + 1));
        position.push_back(static_cast<int32_t>(p));
        slot.push_back(static_cast<int32_t>((p / kBlockTokens * sequences + m) * kBlockTokens + p % kBlockTokens));
      }
    }
    tables = indices(backend, table);
    tables.view = tables.view.reshape({sequences, blocks_each});
    table_rows = indices(backend, table_row), lengths = indices(backend, length_of);
    slots = indices(backend, slot), positions = indices(backend, position);
  }
  PagedContext context() const { return {tables, table_rows, lengths}; }
  BackboneBatch batch() const { return {positions, slots, context()}; }

  std::vector<Tensor> storage;
  std::vector<KvLayer> kv;
  Tensor tables, table_rows, lengths, slots, positions;
};

double cache_bytes(int64_t rows, int64_t length) { return static_cast<double>(rows * length * kBackbone.num_kv_heads * kBackbone.head_dim * 2 * 2); }

BackboneWeights backbone_weights(Backend& backend) {
  Weights weights(backend);
  BackboneWeights out;
  const BackboneConfig& b = kBackbone;
  for (int64_t i = 0; i < b.num_layers; ++i) {
    out.layers.push_back({weights.vector(b.hidden_size), weights.linear(b.hidden_size, (b.num_heads + 2 * b.num_kv_heads) * b.head_dim),
                          weights.linear(b.num_heads * b.head_dim, b.hidden_size), weights.vector(b.hidden_size),
                          weights.linear(b.hidden_size, 2 * b.intermediate_size), weights.linear(b.intermediate_size, b.hidden_size)});
  }
  out.norm = weights.vector(b.hidden_size);
  return out;
}

struct Step {
  Step(Backend& backend, int64_t sequences, const Backbone& of, int64_t rows_each = 1)
      : cached(backend, kBackbone.num_layers, sequences, 1024, rows_each),
        scratch(backend),
        x(backend.make(DType::kF32, {sequences * rows_each, kBackbone.hidden_size})),
        backbone(of) {}
  void operator()() { backbone.forward(x, cached.batch(), cached.kv, scratch); }

  Cached cached;
  Scratch scratch;
  Tensor x;
  const Backbone& backbone;
};

FlowHeadWeights head_weights(Backend& backend) {
  Weights weights(backend);
  FlowHeadWeights out;
  out.width = kHeadWidth;
  out.token_size = kTokenSize;
  out.time_in = weights.linear(256, kHeadWidth);
  out.time_out = weights.linear(kHeadWidth, kHeadWidth);
  out.condition = weights.linear(5120, kHeadWidth);
  out.input = weights.linear(kTokenSize, kHeadWidth);
  out.modulation = weights.linear(kHeadWidth, kHeadWidth * (3 * kHeadBlocks + 2));
  for (int64_t i = 0; i < kHeadBlocks; ++i) {
    out.blocks.push_back({weights.vector(kHeadWidth), weights.vector(kHeadWidth), weights.linear(kHeadWidth, kHeadWidth), weights.linear(kHeadWidth, kHeadWidth)});
  }
  out.output = weights.linear(kHeadWidth, kTokenSize);
  return out;
}

}  // namespace

void attention(Context& c) {
  std::printf("\n## Paged attention, one position a row, 40 heads on 8 of 128, bf16 cache\n\n| rows | context | us | GB/s | %% of read |\n|---|---|---|---|---|\n");
  for (int64_t rows : {1, 2, 8, 32}) {
    for (int64_t length : {128, 1024, 4096}) {
      const int64_t copies = std::max<int64_t>(1, kColdBytes / static_cast<int64_t>(cache_bytes(rows, length)));
      const Cached cached(c.backend, std::min<int64_t>(copies, 32), rows, length);
      const Tensor q = c.backend.make(DType::kF32, {rows, 5120}), out = c.backend.make(DType::kBF16, {rows, 5120});
      size_t next = 0;
      const double time = seconds(c.backend, c.probe, [&] { c.backend.paged_attention(q, cached.kv[next++ % cached.kv.size()], cached.context(), out); });
      std::printf("| %ld | %ld | %.1f | %.0f | %.0f |\n", rows, length, time * 1e6, cache_bytes(rows, length) / time / 1e9,
                  100 * cache_bytes(rows, length) / time / c.bandwidth.read);
    }
  }
}

void decode_shares(Context& c) {
  std::unique_ptr<Backbone> backbone;  // made on the backend that counts
  for (const auto& [sequences, rows_each] : {std::pair{2, 1}, {16, 1}, {32, 1}, {2, 5}, {16, 5}, {32, 5}}) {
    const std::string what = std::to_string(sequences) + " sequences of " + std::to_string(rows_each) + " rows";
    print_shares(c, "14B, " + std::to_string(kBackbone.num_layers) + " layers, " + what, [&](Backend& backend) {
      backbone = std::make_unique<Backbone>(backend, kBackbone, backbone_weights(backend));
      return Step(backend, sequences, *backbone, rows_each);
    });
  }
}

void decode(Context& c) {
  std::printf("\n## Backbone of 14B, one step, context 1024 (%ld layers measured, %ld printed)\n\n", kBackbone.num_layers, kModelLayers);
  std::printf("Floor: weights, and the cache of every sequence, once at the bandwidth of reading. Guidance makes two sequences of a picture.\n");
  std::printf("Host: until a step is enqueued. Launches: of a step op by op; as a graph it is one.\n\n");
  const double begin = now();
  const Backbone plain(c.backend, kBackbone, backbone_weights(c.backend));
  std::vector<std::byte> bytes(c.probe.view.bytes());
  c.backend.download(c.probe, bytes.data());
  const double layer_weights = 2.0 * (5120.0 * 7168 + 5120.0 * 5120 + 5120.0 * 27648 + 13824.0 * 5120);
  std::printf("Weights went up and into their layout at %.2f GB/s.\n\n", layer_weights * static_cast<double>(kBackbone.num_layers) / (now() - begin) / 1e9);
  const Backbone graphs(c.graphs, kBackbone, backbone_weights(c.graphs));
  const double scale = static_cast<double>(kModelLayers) / static_cast<double>(kBackbone.num_layers);
  // Prints all but the end of the line; seconds of the graph.
  const auto measured = [&](int64_t sequences, int64_t rows_each) {
    const Compared found = compare(c, [&](Backend& backend) { return Step(backend, sequences, &backend == &c.graphs ? graphs : plain, rows_each); });
    const double floor = static_cast<double>(kModelLayers) * (layer_weights + cache_bytes(sequences, 1024)) / c.bandwidth.read;
    std::printf("| %ld | %.2f | %.2f | %.2f | %.2f | %.0f | %.2f | %.2f | %.2f |", sequences * rows_each, found.plain.device * scale * 1e3,
                found.plain.host * scale * 1e3, found.graph.device * scale * 1e3, found.graph.host * scale * 1e3,
                static_cast<double>(found.launches) * scale, floor * 1e3, floor / (found.plain.device * scale), floor / (found.graph.device * scale));
    return found.graph.device;
  };
  const char* const columns = "rows | ms | host ms | graph: ms | host ms | launches | floor ms | floor / time | of the graph |";
  std::printf("| %s\n|---|---|---|---|---|---|---|---|---|\n", columns);
  std::map<int64_t, double> decoded;
  for (int64_t rows : {1, 2, 8, 10, 16, 32, 80, 160}) {
    decoded[rows] = measured(rows, 1);
    std::printf("\n");
  }
  std::printf("\nVerification of 4 drafts: 5 rows of each sequence, beside its 1 in a decode step (of the graphs).\n\n");
  std::printf("| sequences | %s beside decode |\n|---|---|---|---|---|---|---|---|---|---|---|\n", columns);
  for (int64_t sequences : {2, 8, 16, 32}) {
    std::printf("| %ld ", sequences);
    const double verified = measured(sequences, 5);
    std::printf(" %.2f |\n", verified / decoded[sequences]);
  }
}

namespace {

// One token of `pictures` pictures with guidance: modulations of all timesteps, then a velocity and a sampler step each.
class Token {
 public:
  Token(Backend& backend, const FlowHead& head, int64_t pictures, int64_t timesteps)
      : b_(backend), head_(head), rows_(2 * pictures), timesteps_(timesteps), scratch_(backend) {
    tau_ = b_.make(DType::kF32, {timesteps, kHeadWidth}), condition_ = b_.make(DType::kF32, {rows_, kHeadWidth});
    modulation_ = b_.make(DType::kF32, {timesteps * rows_, head.modulation_size()});
    x_ = b_.make(DType::kF32, {pictures, kTokenSize}), v_ = b_.make(DType::kF32, {rows_, kTokenSize});
    coefficients_ = b_.make(DType::kF32, {pictures, 5});
    std::vector<int32_t> times, conditions, x_rows;
    for (int64_t i = 0; i < timesteps * rows_; ++i) {
      times.push_back(static_cast<int32_t>(i / rows_));
      conditions.push_back(static_cast<int32_t>(i % rows_));
    }
    for (int64_t i = 0; i < rows_; ++i) x_rows.push_back(static_cast<int32_t>(i / 2));
    time_index_ = indices(b_, times), condition_index_ = indices(b_, conditions), x_row_ = indices(b_, x_rows);
    begins_ = indices(b_, counting(pictures + 1, 2)), own_ = indices(b_, counting(pictures));
  }

  void operator()() {
    StretchKey key(owner_);  // nothing of it ever moves
    scratch_.add_place(key);
    b_.run_stretch(key, [&] {
      head_.modulate(tau_, time_index_, condition_, condition_index_, modulation_, scratch_);
      for (int64_t n = 0; n < timesteps_; ++n) {
        head_.velocity(x_, x_row_, modulation_.view.row_slice(n * rows_, (n + 1) * rows_), v_, scratch_);
        b_.flow_step(x_, v_, begins_, own_, coefficients_, {}, own_);
      }
    });
  }

 private:
  Backend& b_;
  const FlowHead& head_;
  int64_t rows_, timesteps_;
  Scratch scratch_;
  StretchOwner owner_;
  Tensor tau_, condition_, modulation_, x_, v_, coefficients_, time_index_, condition_index_, x_row_, begins_, own_;
};

}  // namespace

void head(Context& c) {
  std::printf("\n## Flow head of 14B, one token (modulations, velocities, sampler steps)\n\n");
  std::printf("| pictures | timesteps | ms | host ms | graph: ms | host ms | launches |\n|---|---|---|---|---|---|---|\n");
  const FlowHead plain(c.backend, head_weights(c.backend)), graphs(c.graphs, head_weights(c.graphs));
  for (int64_t pictures : {1, 4, 16}) {
    for (int64_t timesteps : {28, 2}) {
      const Compared found = compare(c, [&](Backend& backend) { return Token(backend, &backend == &c.graphs ? graphs : plain, pictures, timesteps); });
      std::printf("| %ld | %ld | %.3f | %.3f | %.3f | %.3f | %ld |\n", pictures, timesteps, found.plain.device * 1e3, found.plain.host * 1e3,
                  found.graph.device * 1e3, found.graph.host * 1e3, found.launches);
    }
  }
  Token token(c.graphs, graphs, 1, 28);
  token();  // its own work memory is there
  std::vector<std::byte> bytes(c.graphs_probe.view.bytes());
  const auto replay = [&] {
    const double begin = now();
    token();
    c.graphs.download(c.graphs_probe, bytes.data());
    return now() - begin;
  };
  token();
  c.graphs.download(c.graphs_probe, bytes.data());
  const size_t free_before = free_device_memory();
  Token another(c.graphs, graphs, 1, 28);
  another();
  c.graphs.download(c.graphs_probe, bytes.data());
  const size_t free_plain = free_device_memory();
  const double begin = now();
  another();
  c.graphs.download(c.graphs_probe, bytes.data());
  const double recorded = now() - begin;
  const size_t free_recorded = free_device_memory();
  const StretchCounts kept = c.graphs.stretch_counts();
  std::printf("\nA graph of %ld launches: recorded, made and run once in %.2f ms, then %.2f ms; %.2f MB of device memory (its tensors %.2f MB). All graphs that "
      "are kept, %ld launches: %.2f MB, %.1f KiB a launch.\n",
              kept.last_ops, recorded * 1e3, replay() * 1e3, static_cast<double>(free_plain - free_recorded) / 1e6,
              static_cast<double>(free_before - free_plain) / 1e6, kept.kept_ops, static_cast<double>(kept.kept_bytes) / 1e6,
              static_cast<double>(kept.kept_bytes) / 1024 / static_cast<double>(std::max<int64_t>(kept.kept_ops, 1)));
}

}  // namespace ardiff::bench
