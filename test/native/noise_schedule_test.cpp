// Sampler tables against the worked numbers of the specification (nextstep.md 7.4, 7.5).
#include "model/noise_schedule.h"

#include <gtest/gtest.h>

#include <array>

#include "expect_error.h"
#include "model/guidance.h"

namespace ardiff {
namespace {

std::vector<SamplerStep> steps(Sampler sampler, int64_t n, double shift = 1.0) {
  return sampler_steps({.sampler = sampler, .timesteps = n, .shift = shift, .level = 0.8});
}

TEST(NoiseSchedule, GridA) {
  const auto plain = steps(Sampler::kA, 5), shifted = steps(Sampler::kA, 5, 3.2);
  const std::array<double, 5> t{0, .24, .48, .72, .96}, s{0, .0898204, .2238806, .4455445, .8823529};
  for (size_t k = 0; k < 5; ++k) {
    EXPECT_NEAR(plain[k].t, t[k], 1e-7);
    EXPECT_NEAR(shifted[k].t, s[k], 1e-7);
  }
  EXPECT_FLOAT_EQ(plain[4].b, 0.04f);
  EXPECT_EQ(plain[4].gamma, 0.0f) << "the last step is deterministic";
}

TEST(NoiseSchedule, GridB) {
  const auto shifted = steps(Sampler::kB, 5, 3.2);
  const std::array<double, 5> s{0, .0724638, .1724138, .3191490, .5555556};
  for (size_t k = 0; k < 5; ++k) EXPECT_NEAR(shifted[k].t, s[k], 1e-7);
}

TEST(NoiseSchedule, SamplerBCoefficients) {
  const auto table = steps(Sampler::kB, 4);
  const std::array<std::array<double, 3>, 4> expected{{{.75, .25, .7071068}, {.75, .3125, .6123724}, {.75, .375, .5}, {.75, .4375, .3535534}}};
  for (size_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(table[k].a, expected[k][0], 1e-6);
    EXPECT_NEAR(table[k].b, expected[k][1], 1e-6);
    EXPECT_NEAR(table[k].gamma, expected[k][2], 1e-6);
  }
}

// The specification lists coefficients of e = x - t v and d = x + (1 - t) v.
void expect_estimates(const std::vector<SamplerStep>& table, const std::array<std::array<double, 3>, 4>& expected) {
  for (size_t k = 0; k < 4; ++k) {
    const double t = table[k].t, e = expected[k][0], d = expected[k][1];
    EXPECT_NEAR(table[k].a, e + d, 1e-6) << k;
    EXPECT_NEAR(table[k].b, d * (1 - t) - e * t, 1e-6) << k;
    EXPECT_NEAR(table[k].gamma, expected[k][2], 1e-6) << k;
  }
}

TEST(NoiseSchedule, SamplerCCoefficients) {
  expect_estimates(steps(Sampler::kCSde, 4), {{{.43, .25, .8}, {.18, .5, .6928203}, {.09, .75, .4}, {-.1066667, 1, .2309401}}});
  expect_estimates(steps(Sampler::kCCps, 4), {{{.2317626, .25, .7132924}, {.1545085, .5, .4755283}, {.0772543, .75, .2377641}, {0, 1, 0}}});
  expect_estimates(steps(Sampler::kCOde, 4), {{{.75, .25, 0}, {.5, .5, 0}, {.25, .75, 0}, {0, 1, 0}}});
}

// From noise to data, whichever of the two is 1; nothing random in between.
TEST(NoiseSchedule, JumpsOfBothDirectionsOfTime) {
  const auto up = sampler_steps(few_step_sampler(4)), down = sampler_steps(few_step_sampler(4, Sampler::kPassJumps));
  for (size_t k = 0; k < 4; ++k) {
    const float t = 0.25f * static_cast<float>(k);
    EXPECT_EQ(up[k].t, t);
    EXPECT_EQ(down[k].t, 1.0f - t);
    for (const SamplerStep& step : {up[k], down[k]}) EXPECT_EQ(step.a, 1.0f);
    EXPECT_EQ(up[k].b, 0.25f);
    EXPECT_EQ(down[k].b, -0.25f);
    EXPECT_EQ(down[k].gamma, 0.0f);
  }
  EXPECT_EQ(noise_draws(few_step_sampler(4, Sampler::kPassJumps)), 1);
}

TEST(NoiseSchedule, RefusesSettingsOutOfRange) {
  expect_error([] { steps(Sampler::kB, 0); }, ErrorCode::kInvalidArgument, "timesteps 0");
  expect_error([] { steps(Sampler::kA, 1); }, ErrorCode::kInvalidArgument, "timesteps 1");
  expect_error([] { steps(Sampler::kB, 5, 0.0); }, ErrorCode::kInvalidArgument, "shift");
  expect_error([] { sampler_steps({.level = 1.5}); }, ErrorCode::kInvalidArgument, "level");
  expect_error([] { parse_sampler("D"); }, ErrorCode::kInvalidArgument, "'D'");
}

TEST(Guidance, Schedules) {
  EXPECT_FLOAT_EQ(guidance_at(GuidanceSchedule::kConstant, 7.5, 3, 16), 7.5f);
  EXPECT_FLOAT_EQ(guidance_at(GuidanceSchedule::kLinear, 7.5, 0, 16), 7.5f);
  EXPECT_FLOAT_EQ(guidance_at(GuidanceSchedule::kLinear, 7.5, 8, 16), 4.25f);
  EXPECT_FLOAT_EQ(guidance_at(GuidanceSchedule::kLinearIncreasing, 7.5, 0, 16), 3.75f);
  EXPECT_FLOAT_EQ(guidance_at(GuidanceSchedule::kLinearIncreasing, 7.5, 12, 16), 5.875f);
}

}  // namespace
}  // namespace ardiff
