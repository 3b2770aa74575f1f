// The law of a whole picture drawn with exact speculation is that of mode off, through every part of the engine: drafts,
// attempts, corrected states that are finished later, features of tokens that were kept. Small pictures, many of them.
#include <map>

#include "support/speculation_fixture.h"

namespace ardiff {
namespace {

using namespace testing_support;

constexpr int64_t kTokens = 3;

class SpeculationLaw : public SpeculationTest {
 protected:
  // Numbers of a picture's tokens, one vector per number, over `count` pictures of as many seeds from `first` on.
  std::vector<std::vector<double>> draw(const SequenceSpec& like, int64_t count, uint64_t first) {
    constexpr int64_t kTogether = 40;
    const int64_t width = kTokens * engine_.info().token_size;
    std::vector<std::vector<double>> out(static_cast<size_t>(width));
    for (int64_t begin = 0; begin < count; begin += kTogether) {
      std::vector<SequenceSpec> specs;
      for (int64_t i = begin; i < std::min(count, begin + kTogether); ++i) {
        specs.push_back(like);
        specs.back().id = static_cast<uint32_t>(i - begin + 1);
        specs.back().seed = first + static_cast<uint64_t>(i);
      }
      Studio studio(engine_);
      studio.begin(specs);
      while (!studio.is_done()) studio.decode(kTokens);
      for (const SequenceSpec& spec : specs) {
        const Drawn drawn = studio.finish(spec.id);
        kept_ += drawn.kept();
        drafted_ += drawn.drafted();
        for (int64_t i = 0; i < width; ++i) out[static_cast<size_t>(i)].push_back(static_cast<double>(drawn.tokens[static_cast<size_t>(i)]));
      }
    }
    return out;
  }
  // Every number of every token, each token's sum, and how neighbouring tokens go together: products of the same number in
  // two tokens.
  double p_value(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) const {
    std::vector<double> p;
    const auto d = static_cast<size_t>(engine_.info().token_size);
    for (size_t i = 0; i < a.size(); ++i) p.push_back(test::ks_two_sample_p(a[i], b[i]));
    const auto products = [d](const std::vector<std::vector<double>>& columns, size_t i) {
      std::vector<double> out;
      for (size_t n = 0; n < columns[i].size(); ++n) out.push_back(columns[i][n] * columns[i + d][n]);
      return out;
    };
    for (size_t i = 0; i + d < a.size(); ++i) p.push_back(test::ks_two_sample_p(products(a, i), products(b, i)));
    const auto sum = [d](const std::vector<std::vector<double>>& columns, size_t token) {
      std::vector<double> out(columns[0].size(), 0.0);
      for (size_t i = token * d; i < (token + 1) * d; ++i) {
        for (size_t n = 0; n < out.size(); ++n) out[n] += columns[i][n];
      }
      return out;
    };
    for (size_t token = 0; token < static_cast<size_t>(kTokens); ++token) p.push_back(test::ks_two_sample_p(sum(a, token), sum(b, token)));
    return test::bonferroni(p);
  }
  static SequenceSpec tiny() {
    SequenceSpec spec = plain_picture(2, "a", 0);  // not normalised: token numbers as drawn
    spec.grid_height = 1;
    spec.grid_width = kTokens;
    spec.use_norm = false;
    return spec;
  }

  int64_t kept_ = 0, drafted_ = 0;
};

TEST_P(SpeculationLaw, ExactPicturesHaveTheLawOfModeOff) {
  const int64_t count = test::samples(6000);
  const auto plain = draw(tiny(), count, 1'000'000);
  for (const Drafting drafting : {Drafting::kSequential, Drafting::kParallel}) {
    kept_ = drafted_ = 0;
    const auto exact = draw(speculating(tiny(), SpeculationMode::kExact, 2, 0, drafting), count, 2'000'000);
    EXPECT_GT(kept_, drafted_ / 20) << "of " << drafted_ << " drafts";
    EXPECT_LT(kept_, drafted_ - drafted_ / 20);
    const double p = p_value(plain, exact);
    std::printf("  %ld of %ld drafts kept, p = %.3g\n", static_cast<long>(kept_), static_cast<long>(drafted_), p);
    EXPECT_GT(p, test::kPass);
  }
  // The test sees what is not exact: the draft's own law, and a tolerance that lets too much through.
  const double caught = p_value(plain, draw(speculating(tiny(), SpeculationMode::kRelaxed, 2, 1e30), count, 3'000'000));
  std::printf("  every draft kept: p = %.3g\n", caught);
  EXPECT_LT(caught, test::kCaught);
}

INSTANTIATE_TEST_SUITE_P(Backends, SpeculationLaw, testing::ValuesIn(settings()), setting_name);

}  // namespace
}  // namespace ardiff
