// Gaps against their closed forms: d = |Δx̂| sqrt(SNR' - SNR) of the ancestral step, D of a path of Gaussian tokens.
#include "speculation/gap.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "speculation/relaxed.h"
#include "support/toy_model.h"

namespace ardiff::test {
namespace {

using namespace speculation;

double snr(double t) { return t * t / ((1.0 - t) * (1.0 - t)); }

// The letter of one step whose draft and target differ by `difference` in velocity, in each of two numbers.
Letter letter_of(const SamplerStep& step, float difference, const std::vector<float>& z = {0.0f, 0.0f}) {
  const std::vector<SamplerStep> steps = {step};
  const std::vector<float> x = {0.3f, -1.0f}, v_q = {0.5f, 0.25f}, v_p = {0.5f + difference, 0.25f + difference};
  return letters_of({steps, 1, 2, x.data(), z.data(), v_q.data(), v_p.data()})[0];
}

// D of Gaussian tokens N(·, s0²) whose means are `shift` apart: x̂_p - x̂_q = shift / (1 + SNR s0²) at every state.
double path_gap_of_gaussians(const std::vector<SamplerStep>& steps, double s0, double shift) {
  std::vector<Letter> letters;
  for (const SamplerStep& step : steps) {
    const double t = static_cast<double>(step.t);
    const double velocity = shift / (1.0 + snr(t) * s0 * s0) / (1.0 - t);
    const std::vector<SamplerStep> one = {step};
    const std::vector<float> zero = {0.0f}, v = {static_cast<float>(velocity)};
    letters.push_back(letters_of({one, 1, 1, zero.data(), zero.data(), zero.data(), v.data()})[0]);
  }
  return path_gap(letters);
}

TEST(Gap, OfAnAncestralStep) {
  for (const auto& [t, next] : {std::pair{0.0, 0.12}, {0.4, 0.55}, {0.9, 0.95}}) {
    const double difference = 0.0625, data_difference = (1.0 - static_cast<double>(static_cast<float>(t))) * difference * std::sqrt(2.0);
    const Letter letter = letter_of(eta_step(t, next, 1.0), static_cast<float>(difference));
    EXPECT_NEAR(letter.gap / (data_difference * std::sqrt(snr(next) - snr(t))), 1.0, 1e-6) << "t " << t;
    EXPECT_NEAR(letter.log_ratio, -0.5 * letter.gap * letter.gap, 1e-12);
  }
}

TEST(Gap, LogRatioIsThatOfTheDensities) {
  const SamplerStep step = {0.5f, 0.75f, 0.5f, 0.25f};
  const std::vector<float> z = {0.7f, -1.1f};
  const Letter letter = letter_of(step, 0.25f, z);
  // Both densities at x' = m_q + γ z, with m_p - m_q = b 0.25 in each number.
  double log_ratio = 0.0;
  for (float zi : z) {
    const double from_draft = static_cast<double>(zi), from_target = from_draft - 0.5 * 0.25 / 0.25;
    log_ratio += 0.5 * (from_draft * from_draft - from_target * from_target);
  }
  EXPECT_NEAR(letter.log_ratio, log_ratio, 1e-9);
}

TEST(Gap, IsSmallestForTheAncestralNoise) {
  double best = 1e9, at = 0.0;
  for (double eta = 0.05; eta < 1.3; eta += 0.005) {
    const SamplerStep step = eta_step(0.4, 0.55, eta);
    const double gap = letter_of(step, 0.1f).gap;
    if (gap < best) best = gap, at = eta;
  }
  EXPECT_NEAR(at, 1.0, 0.02);
}

TEST(Gap, OfAPathIsTheMahalanobisDistanceOfTheTokens) {
  const double s0 = 0.35, shift = 0.2, end = 0.05, t = 1.0 - end;
  const double limit = t * shift / std::sqrt(t * t * s0 * s0 + end * end);
  const double fine = path_gap_of_gaussians(ancestral_steps(512, end), s0, shift);
  EXPECT_NEAR(fine * fine / (limit * limit), 1.0, 0.03);
  // Sampler B of the model, which adds noise in its last step too.
  for (const auto& [timesteps, time_shift] : {std::pair<int64_t, double>{8, 1.0}, {20, 1.0}, {28, 1.0}, {28, 3.2}}) {
    EXPECT_NEAR(path_gap_of_gaussians(sampler_steps({Sampler::kB, timesteps, time_shift}), s0, shift), shift / s0, 0.06) << timesteps << " timesteps";
  }
}

TEST(Gap, StatesOfTheTargetCountWhereGiven) {
  const std::vector<SamplerStep> steps = {{0.5f, 0.5f, 0.25f, 0.5f}};
  const std::vector<float> x_q = {1.0f}, x_p = {1.5f}, z = {0.0f}, v_q = {1.0f}, v_p = {3.0f};
  EXPECT_DOUBLE_EQ(letters_of({steps, 1, 1, x_q.data(), z.data(), v_q.data(), v_p.data(), x_p.data()})[0].gap, (0.5 * 0.5 + 0.25 * 2.0) / 0.5);
}

TEST(Gap, OnlyNoisySamplersAreGaussian) {
  EXPECT_TRUE(is_gaussian(sampler_steps({Sampler::kB, 8})));
  EXPECT_TRUE(is_gaussian(sampler_steps({Sampler::kCSde, 8})));
  EXPECT_FALSE(is_gaussian(sampler_steps({Sampler::kA, 8})));
  EXPECT_FALSE(is_gaussian(sampler_steps({Sampler::kCOde, 8})));
  EXPECT_FALSE(is_gaussian(sampler_steps({Sampler::kCCps, 8})));
  EXPECT_THROW(letter_of({0.5f, 1.0f, 0.5f, 0.0f}, 0.1f), Error);
}

TEST(Gap, WhatIsNotANumberIsNotAccepted) {
  const Letter letter = letter_of({0.5f, 1.0f, 0.5f, 0.1f}, NAN);
  EXPECT_EQ(letter.gap, INFINITY);
  EXPECT_EQ(letter.log_ratio, -INFINITY);
}

}  // namespace
}  // namespace ardiff::test
