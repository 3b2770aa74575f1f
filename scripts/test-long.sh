#!/usr/bin/env bash
# The slow checks, before a capability is called done: clang-tidy over native/, the fuzz targets, the statistical tests of
# speculation with ten times the samples, the e2e tests again and again, the page in a real browser, test/long/: a real Prometheus
# on a real server, and the cuda backend: compiled for the architectures that CI leaves out, and on the host in emulation its op
# tests, then goldens and engines without graphs and with them.
# Needs clang, clang-tidy and the sanitizer runtime (Debian: clang-14 clang-tidy-14 libclang-rt-14-dev), chromium, prometheus and nvcc.
#
#   npm run test:long [-- tidy fuzz statistics e2e browser long cuda]        FUZZ_SECONDS (60), E2E_ROUNDS (5)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh --tests || exit 1

parts=("$@")
(( ${#parts[@]} )) || parts=(tidy fuzz statistics e2e browser long cuda)
passed=0
failed=0

tool() { command -v "$1" || command -v "$1-14" || command -v "$1-16" || { echo "$1 is not installed" >&2; return 1; }; }

check() {
  local name=$1
  shift
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name" >&2; fi
}

tidy() {
  local clang_tidy
  clang_tidy=$(tool clang-tidy) || return 1
  # clang brings no omp.h of its own and cannot read gcc's; what is used of it is declared here.
  mkdir -p build-tidy/include
  echo 'extern "C" { void omp_set_num_threads(int); int omp_get_max_threads(); }' >build-tidy/include/omp.h
  # The commands of files by themselves, the addon's included; nothing is built.
  npx --no-install cmake-js configure --out build-tidy --CDCMAKE_UNITY_BUILD=OFF >/dev/null || return 1
  git ls-files 'native/*.cpp' | xargs -P "$(nproc)" -I {} bash -c \
    '"$1" --quiet -p build-tidy --extra-arg=-isystem$PWD/build-tidy/include "$2" 2>/dev/null' _ "$clang_tidy" {}
}

# seed TARGET FOLDER: valid inputs, so that the fuzzer does not have to find the format first.
seed() {
  local header='{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]}}  '
  case $1 in
    safetensors_fuzz)
      { printf '%b' "\x$(printf %02x ${#header})\0\0\0\0\0\0\0"; printf '%s0123456789abcdef' "$header"; } >"$2/valid" ;;
    accelerator_fuzz) # each of its files without an edit
      for header in 0 1 2; do printf '%b' "\x0$header" >"$2/whole-$header"; done ;;
  esac
}

fuzz() {
  local clang target status=0
  clang=$(tool clang++) || return 1
  cmake -S . -B build-fuzz -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$clang" -DARDIFF_FUZZ=ON \
    -DARDIFF_SANITIZE=address,undefined -DWITH_ONEDNN=OFF >/dev/null &&
    cmake --build build-fuzz --parallel "$(nproc)" || return 1
  for target in build-fuzz/test/native/*_fuzz; do
    mkdir -p "$target.corpus"
    seed "$(basename "$target")" "$target.corpus"
    "$target" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 -artifact_prefix="$target." "$target.corpus" || status=1
  done
  return $status
}

# Only those of test/native/speculation/ with the long counts.
statistics() {
  bash scripts/test-native.sh --build-only &&
    ARDIFF_LONG_TESTS=1 ctest --test-dir build -L "speculation|statistical" --output-on-failure --no-tests=error
}

e2e() {
  local round
  for (( round = 1; round <= ${E2E_ROUNDS:-5}; round++ )); do
    echo "e2e round $round"
    npx --no-install vitest run test/e2e || return 1
  done
}

# Skips itself, with a line that says so, where there is no Chromium.
browser() { npx --no-install vitest run --config vitest.browser.config.ts; }

long() {
  tool prometheus >/dev/null || return 1
  npx --no-install vitest run --config vitest.long.config.ts
}

cuda() {
  cmake -S . -B build-cuda-long -DCMAKE_BUILD_TYPE=Release -DWITH_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=86-real;89-real" >/dev/null &&
    cmake --build build-cuda-long --target engine --parallel "$(nproc)" >/dev/null &&
    CTEST_OPTIONS='-R ^(op_|cuda_|attention_entropy|philox)' bash scripts/test-native.sh build-cuda-emulation -DWITH_ONEDNN=OFF -DCUDA_EMULATION=ON ||
    return 1
  local graphs
  for graphs in 0 1; do
    ARDIFF_EXPECT_CUDA=1 ARDIFF_CUDA_GRAPHS=$graphs ctest --test-dir build-cuda-emulation --parallel "$(nproc)" --output-on-failure --no-tests=error \
      -R '^(golden|engine|speculation_engine|transdiff_engine|transdiff_acceleration)_test$' || return 1
  done
}

for part in "${parts[@]}"; do
  case $part in
    tidy | fuzz | statistics | e2e | browser | long | cuda) check "$part" "$part" ;;
    *) echo "unknown part $part (known: tidy fuzz statistics e2e browser long cuda)" >&2; exit 2 ;;
  esac
done
printf '%d passed, %d failed\n' "$passed" "$failed"
(( failed == 0 ))
