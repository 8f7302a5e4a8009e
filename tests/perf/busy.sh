#!/bin/bash
# SPDX-License-Identifier: MIT
# tests/perf/busy.sh MODEL.gguf - decode beside busy loops, and two processes at once; ours and the peer's.
#
#   PERIGEE_PEER=/path/to/peer tests/perf/busy.sh [-r ROUNDS] [-t THREADS] [-n N] MODEL.gguf
#
# Prints tokens per second, the median of ROUNDS (3) runs of N (32) tokens with THREADS (2) threads: alone, beside one and
# beside two busy loops, and of each of two processes at once.  Without PERIGEE_PEER ours only.  PERIGEE names the program
# (default: build/release/bin/perigee).  Exit status: 0, 1 when a run failed, 2 wrong usage.
set -u
perigee=${PERIGEE:-$(dirname "$0")/../../build/release/bin/perigee}
peer=${PERIGEE_PEER:-}
rounds=3 threads=2 n=32
usage() { echo "usage: busy.sh [-r ROUNDS] [-t THREADS] [-n N] MODEL.gguf" >&2; exit 2; }
while getopts r:t:n: option; do
    case $option in
    r) rounds=$OPTARG ;; t) threads=$OPTARG ;; n) n=$OPTARG ;; *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 1 ] || usage
[ -x "$perigee" ] || { echo "no $perigee: build the preset release, or set PERIGEE" >&2; exit 1; }
model=$1 folder=$(mktemp -d) loops=()
stop_loops() { [ ${#loops[@]} -eq 0 ] || { kill "${loops[@]}" && wait "${loops[@]}"; } 2>/dev/null; loops=(); }
trap 'stop_loops; rm -rf "$folder"' EXIT
start_loops() { local i; for ((i = 0; i < $1; i++)); do (while :; do :; done) & loops+=($!); done; }
ours() { "$perigee" bench -m "$model" -p 0 -n "$n" -t "$threads" -r 1 --json </dev/null | jq '.tg_tps[0]'; }
theirs() { "$peer" llama-bench -m "$model" -p 0 -n "$n" -t "$threads" -r 1 -o json 2>/dev/null </dev/null | jq '.[0].avg_ts'; }
median() { sort -g "$1" | awk '{v[NR] = $1} END {if (!NR) exit 1; printf "%.1f", v[int((NR + 1) / 2)]}'; }
measure() { # who, number of processes at once
    local r i process failed=0
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
