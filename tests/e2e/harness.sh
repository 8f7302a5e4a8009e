# SPDX-License-Identifier: MIT
# harness.sh - sourced by every test here: runs the program, compares, counts.
#
#   run [STATUS] ARG...   run perigee, expecting that exit status (0 without it); $out and $err hold what it said
#   has TEXT FRAGMENT     FRAGMENT occurs in TEXT
#   is FOUND EXPECTED
#   finish                exit with the outcome
# PERIGEE, SOURCE_DIR, BINARY_DIR, LIBDIR, CC and SANITIZE come from CMakeLists.txt.
set -u
: "${PERIGEE:?run through ctest}" "${SOURCE_DIR:?}"
n_check=0
n_failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache XDG_DATA_HOME=$tmp/data
unset PERIGEE_PLUGIN_PATH PERIGEE_CPU_ISA PERIGEE_DEVICE PERIGEE_PLACE
# The same test on another device (CMakeLists.txt, label device): what names none itself runs there.
if [ -n "${PERI_TEST_DEVICE:-}" ]; then
    "$PERIGEE" devices --json 2>/dev/null | grep -q "\"plugin\": \"${PERI_TEST_DEVICE%%:*}\"" ||
        { echo "skipped: no device $PERI_TEST_DEVICE"; exit 77; }
    export PERIGEE_DEVICE=$PERI_TEST_DEVICE
fi
demo=$SOURCE_DIR/examples/demo-model/perigee-demo.gguf

fail() {
    n_failed=$((n_failed + 1))
    printf 'FAILED: line %s: %s\n' "${BASH_LINENO[1]}" "$1"
}

run() {
    local expected=0 status
    case $1 in [0-9]*) expected=$1; shift ;; esac
    "$PERIGEE" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    status=$?
    # The leak sanitizer's own tracer dies now and then among the threads of an OpenCL driver, which says nothing of the program.
    if grep -q "LeakSanitizer has encountered a fatal error" "$tmp/err"; then
        echo "once more without the leak sanitizer, whose tracer died: perigee $*"
        ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 "$PERIGEE" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
        status=$?
    fi
    out=$(tr -d '\0' <"$tmp/out")
    err=$(tr -d '\0' <"$tmp/err")
    n_check=$((n_check + 1))
    [ "$status" -eq "$expected" ] || fail "perigee $*: exit status $status, expected $expected: $err"
}

has() {
    n_check=$((n_check + 1))
    case $1 in *"$2"*) ;; *) fail "found '$(printf %s "$1" | head -c 400)', expected in it '$2'" ;; esac
}

is() {
    n_check=$((n_check + 1))
    [ "$1" = "$2" ] || fail "found '$1', expected '$2'"
}

need_demo() {
    [ -f "$demo" ] && return
    echo "skipped: examples/demo-model/perigee-demo.gguf is not there"
    exit 77
}

finish() {
    echo "$n_check checks, $n_failed failed"
    [ "$n_check" -gt 0 ] && [ "$n_failed" -eq 0 ]
    exit
}
