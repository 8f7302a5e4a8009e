#!/bin/bash
# SPDX-License-Identifier: MIT
# tests/perf/compare.sh MODEL.gguf... - Perigee and the peer on the same files, in turns; see README.md beside this.
set -u
perigee=${PERIGEE:-$(dirname "$0")/../../build/release/bin/perigee}
peer=${PERIGEE_PEER:-}
rounds=5 threads=2 n_prompt=512 n_generate=64 depth=0
while getopts r:t:p:n:d: option; do
    case $option in
    r) rounds=$OPTARG ;; t) threads=$OPTARG ;; p) n_prompt=$OPTARG ;; n) n_generate=$OPTARG ;; d) depth=$OPTARG ;;
    *) echo "usage: compare.sh [-r ROUNDS] [-t THREADS] [-p N] [-n N] [-d DEPTH] MODEL.gguf..." >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ -x "$peer" ] || { echo "skipped: PERIGEE_PEER names no runner of the peer"; exit 77; }
[ -x "$perigee" ] || { echo "no $perigee: build the preset release, or set PERIGEE" >&2; exit 1; }
[ $# -gt 0 ] || { echo "no model given" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "load: $(cut -d' ' -f1-3 /proc/loadavg); $(nproc) processors; $threads threads, $rounds rounds"
for model in "$@"; do
    rm -f "$folder"/*
    for ((i = 0; i < rounds; i++)); do # ours and theirs alternate, so that a slow minute hits both
        "$perigee" bench -m "$model" -p "$n_prompt" -n "$n_generate" -d "$depth" -t "$threads" -r 1 --json >"$folder/ours.$i" </dev/null || exit 1
        "$peer" llama-bench -m "$model" -p "$n_prompt" -n "$n_generate" -d "$depth" -t "$threads" -r 1 -o json >"$folder/theirs.$i" 2>/dev/null </dev/null || exit 1
    done
    python3 - "$model" "$folder" "$rounds" <<'PYTHON'
import json, os, statistics, sys

model, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
ours, theirs = {"prompt": [], "generate": []}, {"prompt": [], "generate": []}
for i in range(rounds):
    with open(f"{folder}/ours.{i}") as f:
        d = json.load(f)
    ours["prompt"] += d["pp_tps"]
    ours["generate"] += d["tg_tps"]
    with open(f"{folder}/theirs.{i}") as f:
        for row in json.load(f):
            theirs["generate" if row["n_gen"] else "prompt"].append(row["avg_ts"])
print(f"\n{os.path.basename(model)}: {d['device']} ({d['isa']})")
for what in ours:
    pairs = list(zip(ours[what], theirs[what]))
    if not pairs:
        continue
    ratio = [a / b for a, b in pairs]
    print(f"  {what:9} ours {statistics.median(ours[what]):9.2f}  peer {statistics.median(theirs[what]):9.2f} tokens/s"
          f"  ratio {statistics.median(ratio):5.2f}  ({min(ratio):.2f} to {max(ratio):.2f} in {len(ratio)} rounds)")
PYTHON
done
