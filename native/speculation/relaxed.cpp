#include "speculation/relaxed.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace ardiff::speculation {

namespace {

double square(double x) { return x * x; }

double squared_distance(std::span<const float> a, std::span<const float> b) {
  check(a.size() == b.size(), ErrorCode::kInternal, "vectors of ", a.size(), " and ", b.size(), " numbers cannot be compared");
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += square(static_cast<double>(a[i]) - static_cast<double>(b[i]));
  return sum;
}

}  // namespace

double path_gap(std::span<const Letter> letters) {
  double sum = 0.0;
  for (const Letter& letter : letters) sum += square(letter.gap);
  return std::sqrt(sum);
}

double jump_gap(double t, std::span<const float> target_velocity, std::span<const float> draft_velocity) {
  return jump_distance(t, squared_distance(target_velocity, draft_velocity), static_cast<int64_t>(target_velocity.size()));
}

double largest_jump_gap(std::span<const double> t, int64_t width, const float* target_velocity, const float* draft_velocity) {
  double largest = 0.0;
  const auto size = static_cast<size_t>(width);
  for (size_t step = 0; step < t.size(); ++step) {
    const double gap = jump_gap(t[step], {target_velocity + step * size, size}, {draft_velocity + step * size, size});
    if (std::isnan(gap)) return gap;
    largest = std::max(largest, gap);
  }
  return largest;
}

double feature_gap(std::span<const float> target, std::span<const float> draft, int64_t rows) {
  const size_t width = target.size() / static_cast<size_t>(rows);
  double sum = 0.0;
  for (size_t begin = 0; begin < static_cast<size_t>(rows) * width; begin += width) {
    const auto c = target.subspan(begin, width);
    double squares = 0.0;
    for (float value : c) squares += square(static_cast<double>(value));
    sum += std::sqrt(squared_distance(draft.subspan(begin, width), c) / squares);
  }
  return sum / static_cast<double>(rows);
}

double token_gap(std::span<const float> target, std::span<const float> draft) {
  return std::sqrt(squared_distance(target, draft) / static_cast<double>(target.size()));
}

int64_t accepted_prefix(std::span<const double> statistics, double tolerance) {
  const auto end = std::find_if(statistics.begin(), statistics.end(), [tolerance](double value) { return !(value <= tolerance); });
  return end - statistics.begin();
}

LenientTest lenient_test(double log_ratio, double lenience) {
  check(lenience > 0.0 && lenience <= 1.0, ErrorCode::kInvalidArgument, "lenience ", lenience, " is outside (0, 1]");
  const double acceptance = std::exp(std::min(0.0, log_ratio - std::log(lenience)));
  return {acceptance, acceptance - std::exp(std::min(0.0, log_ratio))};
}

}  // namespace ardiff::speculation
