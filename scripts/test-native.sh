#!/usr/bin/env bash
# The native tests (gtest, one ctest entry per file), in a build of their own.
#
#   bash scripts/test-native.sh [BUILD_DIR] [cmake options ...]      default: build-tests
#   CTEST_OPTIONS="-LE statistical"     which of them, as ctest's own options
#
# Each test program leaves its gtest report in BUILD_DIR/reports/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=${1:-build-tests}
shift || true
generator=()
if [[ ! -f $build/CMakeCache.txt ]] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
jobs=$(nproc)

mkdir -p "$build"
rm -rf "$build/reports"
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DARDIFF_TESTS=ON "$@" >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log" >&2; exit 1; }
cmake --build "$build" --parallel "$jobs" >"$build/build.log" 2>&1 ||
  { grep -nE 'error|Error|FAILED' -A 5 "$build/build.log" | head -n 60 >&2; exit 1; }
GTEST_OUTPUT="json:$PWD/$build/reports/" ctest --test-dir "$build" --parallel "$jobs" --output-on-failure --no-tests=error ${CTEST_OPTIONS:-} \
  --output-junit "$PWD/$build/ctest.xml"
