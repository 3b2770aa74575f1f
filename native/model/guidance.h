// The guidance scale of each image token (nextstep.md 6.3). Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/error.h"

namespace ardiff {

enum class GuidanceSchedule { kConstant, kLinear, kLinearIncreasing };

inline GuidanceSchedule parse_guidance_schedule(const std::string& name) {
  if (name == "constant") return GuidanceSchedule::kConstant;
  if (name == "linear") return GuidanceSchedule::kLinear;
  if (name == "linear-increasing") return GuidanceSchedule::kLinearIncreasing;
  fail(ErrorCode::kInvalidArgument, "guidance schedule '", name, "' is not one of constant, linear, linear-increasing");
}

// Scale used for token n of count.
inline float guidance_at(GuidanceSchedule schedule, double scale, int64_t n, int64_t count) {
  const double total = static_cast<double>(count);
  switch (schedule) {
    case GuidanceSchedule::kConstant: return static_cast<float>(scale);
    case GuidanceSchedule::kLinear: return static_cast<float>(1.0 + (scale - 1.0) * static_cast<double>(count - n) / total);
    case GuidanceSchedule::kLinearIncreasing:
      return static_cast<float>(std::max(scale / 2.0, 1.0 + (scale - 1.0) * static_cast<double>(n) / total));
  }
  return static_cast<float>(scale);
}

}  // namespace ardiff
