#!/usr/bin/env bash
# Makes a clone ready to run: system packages, npm packages, the native addon, the compiled TypeScript, the page.
# Run by `npm start` and `npm test`; does nothing (in well under a second) when nothing has changed.
# Each part leaves a stamp inside what it makes, so deleting a product is enough to have it made again.
#
#   bash scripts/setup.sh [--tests]     --tests: also what the native tests need
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

tests=no
for argument in "$@"; do
  case $argument in
    --tests) tests=yes ;;
    *) fail "unknown argument $argument (known: --tests)" ;;
  esac
done

# Name, size and modification time of every file below the given paths: cheap, and a touched file only costs an
# incremental build.
fingerprint() { find "$@" -type f -printf '%p %s %T@\n' 2>/dev/null | LC_ALL=C sort | sha256sum | cut -d' ' -f1; }
is_current() { [[ -f $1 && $(<"$1") == "$2" ]]; }

# Two starts at once must not build in the same folder.
if command -v flock >/dev/null; then
  mkdir -p build
  exec 9>build/.setup.lock
  flock 9
fi

# ---- Node ----
command -v node >/dev/null || fail 'Node.js 20.19 or newer is needed: https://nodejs.org'
node_version=$(node -p 'process.versions.node')
IFS=. read -r node_major node_minor _ <<<"$node_version"
(( node_major > 20 || (node_major == 20 && node_minor >= 19) )) || fail "Node.js 20.19 or newer is needed, this is $node_version"

# ---- system packages ----
compiler=${CXX:-g++}

has_header() { printf '#include <%s>\n' "$1" | "$compiler" -std=c++20 -E -x c++ - >/dev/null 2>&1; }

missing_packages() {
  command -v cmake >/dev/null || echo cmake
  command -v ninja >/dev/null || command -v make >/dev/null || echo ninja-build
  if command -v "$compiler" >/dev/null; then
    has_header nlohmann/json.hpp || echo nlohmann-json3-dev
    has_header dnnl.hpp || echo libdnnl-dev
    [[ $tests == no ]] || has_header gtest/gtest.h || echo libgtest-dev
  else
    echo g++ nlohmann-json3-dev libdnnl-dev
    [[ $tests == no ]] || echo libgtest-dev
  fi
}

ensure_system_packages() {
  local missing
  missing=$(missing_packages | tr '\n' ' ')
  missing=${missing% }
  if [[ -n $missing ]]; then
    command -v apt-get >/dev/null || fail "these packages are missing (Debian names): $missing"
    [[ $(id -u) == 0 ]] || fail "these packages are missing; install them with:  sudo apt-get install -y $missing"
    say "installing $missing"
    local log=build/apt.log
    mkdir -p build
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of package names
    { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1 ||
      { tail -n 20 "$log" >&2; fail "apt-get could not install $missing (log: $log)"; }
  fi
  if [[ $compiler == g++ ]]; then
    local version
    version=$(g++ -dumpversion)
    (( ${version%%.*} >= 11 )) || fail "g++ 11 or newer is needed for C++20, this is $version (or set CXX)"
  fi
}

# ---- npm packages ----
lock_hash=$(sha256sum <package-lock.json | cut -d" " -f1)
if ! is_current node_modules/.setup-stamp "$lock_hash"; then
  say 'installing npm packages'
  # The build needs the development packages whatever NODE_ENV says.
  npm ci --include=dev --no-audit --no-fund --loglevel=error --update-notifier=false >&2
  echo "$lock_hash" >node_modules/.setup-stamp
fi

# ---- native addon ----
addon=build/Release/fast_ardiff.node
native_hash=$(fingerprint native CMakeLists.txt package-lock.json)
if [[ ! -f $addon ]] || ! is_current build/.setup-stamp "$native_hash"; then
  ensure_system_packages
  # A folder that was moved or copied has a cache that names its old place.
  if [[ -f build/CMakeCache.txt ]] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" build/CMakeCache.txt; then
    find build -mindepth 1 -maxdepth 1 ! -name .setup.lock -exec rm -rf {} +
  fi
  say 'building the native engine'
  npx --no-install cmake-js build --target fast_ardiff >build/native.log 2>&1 ||
    { tail -n 40 build/native.log >&2; fail 'the native build failed (log: build/native.log)'; }
  [[ -f $addon ]] || fail "the native build left no $addon (log: build/native.log)"
  echo "$native_hash" >build/.setup-stamp
elif [[ $tests == yes && ! -f build/.setup-tests ]]; then
  ensure_system_packages
fi
[[ $tests == no ]] || touch build/.setup-tests

# ---- TypeScript ----
ts_hash=$(fingerprint src tsconfig.json tsconfig.build.json package-lock.json)
if ! is_current dist/.setup-stamp "$ts_hash"; then
  say 'compiling TypeScript'
  rm -rf dist
  npx --no-install tsc -p tsconfig.build.json >&2 || fail 'the TypeScript build failed'
  echo "$ts_hash" >dist/.setup-stamp
fi

# ---- the page ----
web_hash=$(fingerprint web/index.html web/src web/vite.config.ts web/tsconfig.json package-lock.json)
if ! is_current web/dist/.setup-stamp "$web_hash"; then
  say 'building the page'
  npx --no-install vite build web --logLevel warn >&2 || fail 'the build of the page failed'
  echo "$web_hash" >web/dist/.setup-stamp
fi
