#!/bin/bash
# SPDX-License-Identifier: MIT
# .ci/build.sh PRESET [JOBS] [CMAKE_OPTION...] - configure and build a preset of CMakePresets.json into build/PRESET.
# BUILD_TARGETS: what to build (everything).
set -eu
cd "$(dirname "$0")/.."
preset=$1
jobs=${2:-$(nproc)}
shift $(($# < 2 ? $# : 2))
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake --preset "$preset" "${launcher[@]}" "$@"
# shellcheck disable=SC2086 # a list of words
cmake --build --preset "$preset" -j "$jobs" ${BUILD_TARGETS:+--target $BUILD_TARGETS}
