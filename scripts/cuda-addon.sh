#!/usr/bin/env bash
# The addon with the cuda backend in it, and its test: it loads where there is no driver and says which devices there are.
# Linked of what is compiled already: the addon of build/ (npm run build:native), the kernels of build-cuda (target engine_cuda),
# and the one file of the engine that is another with them. "cmake-js build --CDWITH_CUDA=ON" makes the same from nothing.
#   scripts/cuda-addon.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$PWD/build-cuda/fast_ardiff.node
toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
cudart=$(find -L "$toolkit" -name libcudart_static.a 2>/dev/null | head -n 1 || true)
mapfile -t addon < <(find build -path '*fast_ardiff.dir*' -name '*.o')
mapfile -t kernels < <(find build-cuda -path '*engine_cuda.dir*' -name '*.o')
mapfile -t libraries < <(readelf -d build/Release/fast_ardiff.node | sed -n 's/.*(NEEDED).*\[\(.*\)\]/-l:\1/p')
"${CXX:-c++}" -std=c++20 -O2 -fPIC -DARDIFF_WITH_CPU=1 -DARDIFF_WITH_CUDA=1 -Inative -c native/backend/registry.cpp -o build-cuda/registry.o
"${CXX:-c++}" -shared -o "$out" "${addon[@]}" build-cuda/registry.o "${kernels[@]}" "$(find build -name libengine.a)" "$cudart" "${libraries[@]}" -ldl -lrt
ARDIFF_CUDA_ADDON=$out npx vitest run test/boundary/cuda-addon.test.ts
