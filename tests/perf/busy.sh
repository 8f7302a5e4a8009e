#!/bin/bash
# SPDX-License-Identifier: MIT
# tests/perf/busy.sh MODEL.gguf - decode beside busy loops, and two processes at once; ours and the peer's.
#
#   PERIGEE_PEER=/path/to/peer tests/perf/busy.sh [-r ROUNDS] [-t THREADS] [-n N] [-w SECONDS] MODEL.gguf
#
# Prints tokens per second, the median of ROUNDS (3) runs of N (32) tokens with THREADS (2) threads: alone, beside one and
# beside two busy loops, and of each of two processes at once.  A run that takes longer than SECONDS (60), loading included, is
# ended and counts as N / SECONDS, with `<` before a median that is such a bound.  Without PERIGEE_PEER ours only.  PERIGEE names
# the program (default: build/release/bin/perigee).  Exit status: 0, 1 when a run failed, 2 wrong usage.
set -u
perigee=${PERIGEE:-$(dirname "$0")/../../build/release/bin/perigee}
peer=${PERIGEE_PEER:-}
rounds=3 threads=2 n=32 limit=60
usage() { echo "usage: busy.sh [-r ROUNDS] [-t THREADS] [-n N] [-w SECONDS] MODEL.gguf" >&2; exit 2; }
while getopts r:t:n:w: option; do
    case $option in
    r) rounds=$OPTARG ;; t) threads=$OPTARG ;; n) n=$OPTARG ;; w) limit=$OPTARG ;; *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 1 ] || usage
for value in "$rounds" "$threads" "$n" "$limit"; do
    [[ $value =~ ^[1-9][0-9]*$ ]] || { echo "busy.sh: '$value': a whole number from 1 on is expected" >&2; usage; }
done
[ -x "$perigee" ] || { echo "no $perigee: build the preset release, or set PERIGEE" >&2; exit 1; }
model=$1 folder=$(mktemp -d) loops=()
stop_loops() { [ ${#loops[@]} -eq 0 ] || { kill "${loops[@]}" && wait "${loops[@]}"; } 2>/dev/null; loops=(); }
trap 'stop_loops; rm -rf "$folder"' EXIT
start_loops() { local i; for ((i = 0; i < $1; i++)); do (while :; do :; done) & loops+=($!); done; }
# limited FILTER COMMAND...: what jq's FILTER finds in the output; N / SECONDS and `<` when the time is over
limited() {
    local filter=$1 status
    shift
    timeout -k 2 "$limit" "$@" 2>/dev/null </dev/null | jq "$filter" 2>/dev/null
    status=${PIPESTATUS[0]}
    [ "$status" -ne 124 ] && [ "$status" -ne 137 ] || awk "BEGIN {printf \"%.2f<\\n\", $n / $limit}"
}
ours() { limited '.tg_tps[0]' "$perigee" bench -m "$model" -p 0 -n "$n" -t "$threads" -r 1 --json; }
theirs() { limited '.[0].avg_ts' "$peer" llama-bench -m "$model" -p 0 -n "$n" -t "$threads" -r 1 -o json; }
median() { sort -g "$1" | awk '{v[NR] = $1} END {if (!NR) exit 1; m = v[int((NR + 1) / 2)]; printf "%s%.1f", m ~ /</ ? "<" : "", m}'; }
measure() { # who, number of processes at once
    local r i process
    rm -f "$folder"/*
    for ((r = 0; r < rounds; r++)); do
        process=()
        for ((i = 0; i < $2; i++)); do "$1" >"$folder/$i.$r" & process+=($!); done
        wait "${process[@]}"
    done
    for ((i = 0; i < $2; i++)); do
        cat "$folder/$i".* >"$folder/all.$i"
        [ "$(grep -c '^[0-9]' "$folder/all.$i")" -eq "$rounds" ] || { echo "a run of $1 failed" >&2; exit 1; }
        printf ' %8s' "$(median "$folder/all.$i")"
    done
}
echo "load: $(cut -d' ' -f1-3 /proc/loadavg); $(nproc) processors; $threads threads, median of $rounds; tokens/s"
for who in ours ${peer:+theirs}; do
    for busy in 0 1 2; do
        start_loops "$busy"
        printf '%-7s %d busy loops ' "$who" "$busy"; measure "$who" 1; echo
        stop_loops
    done
    printf '%-7s two at once  ' "$who"; measure "$who" 2; echo
done
