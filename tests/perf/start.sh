#!/bin/bash
# SPDX-License-Identifier: MIT
# tests/perf/start.sh MODEL.gguf - time from start to the first token, and peak memory; ours and the peer's.
#
#   PERIGEE_PEER=/path/to/peer tests/perf/start.sh [-r ROUNDS] [-t THREADS] MODEL.gguf
#
# A start is a whole process that continues "Hello" by one token: wall seconds and its peak resident MiB, file pages
# included.  Before the first start the file's pages are dropped from memory (dd's nocache, which drops only pages that
# nobody maps); the later ones find them there.  Prints the first start and the median of ROUNDS (3) more.  Without
# PERIGEE_PEER ours only.  PERIGEE names the program (default: build/release/bin/perigee).  PERIGEE_PYTHON: python3.
# Exit status: 0, 1 when a run failed, 2 wrong usage.
set -u
perigee=${PERIGEE:-$(dirname "$0")/../../build/release/bin/perigee}
peer=${PERIGEE_PEER:-}
rounds=3 threads=2
usage() { echo "usage: start.sh [-r ROUNDS] [-t THREADS] MODEL.gguf" >&2; exit 2; }
while getopts r:t: option; do
    case $option in
    r) rounds=$OPTARG ;; t) threads=$OPTARG ;; *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 1 ] || usage
[ -x "$perigee" ] || { echo "no $perigee: build the preset release, or set PERIGEE" >&2; exit 1; }
model=$1 folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
start() { # prints seconds and MiB
    "${PERIGEE_PYTHON:-python3}" -c 'import resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.monotonic() - start
print(f"{seconds:.3f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f}")
sys.exit(code != 0)' "$@"
}
median() { sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
measure() { # name, command...
    local name=$1 i
    shift
    dd if="$model" of=/dev/null iflag=nocache count=0 status=none
    for ((i = 0; i <= rounds; i++)); do
        start "$@" >>"$folder/$name" || { echo "a run of $name failed: $*" >&2; exit 1; }
    done
    printf '%-7s first %8s s   later %8s s   peak %6s MiB\n' "$name" "$(awk 'NR == 1 {print $1}' "$folder/$name")" \
        "$(awk 'NR > 1 {print $1}' "$folder/$name" | median)" "$(awk '{print $2}' "$folder/$name" | median)"
}
echo "load: $(cut -d' ' -f1-3 /proc/loadavg); $(nproc) processors; $threads threads; $(du -m "$model" | cut -f1) MiB file"
measure ours "$perigee" run "$model" --raw -n 1 -t "$threads" -q Hello
[ -z "$peer" ] || measure theirs "$peer" llama-completion -m "$model" -p Hello -n 1 -t "$threads" -no-cnv --no-warmup
