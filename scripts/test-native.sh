#!/usr/bin/env bash
# The native tests (one gtest program, a ctest entry per file). By default in the addon's own build, so that its engine is not compiled twice;
# with a folder and options, in a build of their own.
#
#   bash scripts/test-native.sh [--build-only] [BUILD_DIR] [cmake options ...]      default: build
#   CTEST_OPTIONS="-LE statistical"     which of them, as ctest's own options
#
# Each entry leaves its gtest report in BUILD_DIR/reports/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build_only=no
if [[ ${1:-} == --build-only ]]; then
  build_only=yes
  shift
fi
build=${1:-build}
shift || true
generator=()
if [[ $build == build ]]; then
  bash scripts/setup.sh --tests
elif [[ ! -f $build/CMakeCache.txt ]] && command -v ninja >/dev/null; then
  generator=(-G Ninja)
fi
jobs=$(nproc)

mkdir -p "$build"
rm -rf "$build/reports"
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DARDIFF_TESTS=ON "$@" >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log" >&2; exit 1; }
cmake --build "$build" --parallel "$jobs" --target native_tests >"$build/build.log" 2>&1 ||
  { grep -nE 'error|Error|FAILED' -A 5 "$build/build.log" | head -n 60 >&2; exit 1; }
[[ $build_only == no ]] || exit 0
ctest --test-dir "$build" --parallel "$jobs" --output-on-failure --no-tests=error ${CTEST_OPTIONS:-} \
  --output-junit "$PWD/$build/ctest.xml"
