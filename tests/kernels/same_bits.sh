#!/bin/sh
# SPDX-License-Identifier: MIT
# same_bits.sh HERE THERE LEVELS EMULATOR... - kernel_bits of this processor (HERE) and of another (THERE, started by
# EMULATOR): the other has exactly LEVELS ("best ... scalar"), gives the same list on each of them, and refuses by name
# a level that it lacks and one of this processor.
set -eu
here=$1 there=$2 levels=$3
shift 3
all="neoni8mm neondot neon scalar"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# refused COMMAND...: it fails; what it says is in $tmp/err
refused() {
    if "$@" >"$tmp/out" 2>"$tmp/err"; then fail "no error from: $*"; fi
}

found=$("$@" "$there" --levels)
[ "$found" = "$levels " ] || fail "levels found: $found; expected: $levels"
for level in $all; do
    case " $levels " in *" $level "*) continue ;; esac
    refused "$@" "$there" "$level"
    grep -q "cpu.isa: \"$level\" is not for this processor; available: $(echo "$levels" | sed 's/ /, /g'), reference" \
        "$tmp/err" || fail "$level: $(cat "$tmp/err")"
done
refused "$@" "$there" avx2
grep -q 'cpu.isa: "avx2" is a level of x86-64, this is aarch64; available: ' "$tmp/err" || fail "$(cat "$tmp/err")"
refused "$here" neon
grep -q 'cpu.isa: "neon" is a level of aarch64, this is x86-64; available: ' "$tmp/err" || fail "$(cat "$tmp/err")"

"$here" scalar >"$tmp/here"
lines=$(wc -l <"$tmp/here")
[ "$lines" -ge 200 ] || fail "only $lines cases"
for level in $levels; do
    "$@" "$there" "$level" >"$tmp/there"
    if ! diff "$tmp/here" "$tmp/there" >"$tmp/diff"; then
        head -n 20 "$tmp/diff"
        fail "$level: bits differ from those of this processor (<)"
    fi
    echo "$level: $lines cases, the same bits as here"
done
