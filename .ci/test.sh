#!/bin/bash
# SPDX-License-Identifier: MIT
# .ci/test.sh PRESET [JOBS] [CTEST_OPTION...] - run the tests of build/PRESET; the report for skips.py is left there.
# TEST_TIMEOUT: seconds a test may take before it counts as hanging (900: on a busy machine a sanitized one took 200).
set -eu
cd "$(dirname "$0")/.."
preset=$1
jobs=${2:-$(nproc)}
shift $(($# < 2 ? $# : 2))
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
# The presets run the same OpenCL kernels; PoCL compiles each once for all (a check of its own: 8 s, and 0.8 s the second time).
export POCL_CACHE_DIR=${POCL_CACHE_DIR:-$PWD/build/pocl}
ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure --timeout "${TEST_TIMEOUT:-900}" --no-tests=error \
    --output-junit tests.xml --test-output-size-passed 1000000 "$@"
