# SPDX-License-Identifier: MIT
# The kernels of kernels-cl as PoCL compiles them on processors of each kind: without AVX, with AVX2, with AVX-512.  Some of their
# text is for one of these alone, and a machine has only one; no warnings, which PoCL would print to the user.
. "$(dirname "$0")/harness.sh"
command -v clang >/dev/null || { echo "skipped: no clang"; exit 77; }
[ -z "${SANITIZE:-}" ] || { echo "skipped: looks at the kernels, not at us"; exit 77; }
kernels=$SOURCE_DIR/kernels-cl
compile() { # FILE LEVEL...
    clang -x cl -cl-std=CL1.2 -Xclang -finclude-default-header -target x86_64-linux-gnu -Werror -Wno-unused-command-line-argument \
        -I"$kernels" -DWANT_FMA=1 -DSHAPE=0 -DSHUFFLE=0 -DINTEGERS="$integers" -DTOKENS=1 -DTYPE="$type" -DDK=64 -DDV=64 -DHEADS=2 \
        -DACT=1 -DKIND=0 -DPAIRS=0 -DNORMS=0 -DEXPERTS=64 -DLIST=64 -S -emit-llvm -o /dev/null "$@" >"$tmp/out" 2>&1
}
for level in "-mno-avx" "-mavx2 -mfma -mf16c" "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq"; do
    for file in "$kernels"/*.cl; do
        types=8 # Q8_0
        integers=0
        case $file in
        */linear*.cl | */gate_up_glu.cl) types="2 8 12 14" integers=1 ;; # Q4_0, Q8_0, Q4_K, Q6_K
        */heads.cl | */kv_append.cl) types=1 ;; # F16
        esac
        for type in $types; do
            # shellcheck disable=SC2086 # options
            compile "$file" $level || fail "$(basename "$file"), TYPE=$type, $level: $(head -n 5 "$tmp/out")"
            n_check=$((n_check + 1))
        done
    done
done

# ---- it finds what it is there for ----
printf '#if defined(__AVX2__) && !defined(__AVX512BW__)\nint half;\n#endif\n' >"$tmp/planted.cl"
type=8 integers=0
compile "$tmp/planted.cl" -mavx2 && fail "a planted mistake was not found"
compile "$tmp/planted.cl" -mno-avx || fail "the planted file does not compile without AVX2: $(head -n 5 "$tmp/out")"
finish
