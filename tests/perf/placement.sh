#!/bin/bash
# SPDX-License-Identifier: MIT
# tests/perf/placement.sh [MODEL.gguf] - is the speed that perigee explain predicts for a model on two devices the one that
# perigee bench measures?  The devices are twins (tests/plugin/twin.c): they compute by the cpu plugin and keep the pace of the
# bandwidths they declare, which are chosen so that a token takes about 80 ms: slow beside the computing, long beside a sleep.
# Both use a context of 25 tokens, because keys and values take memory too.
# PERIGEE names the program and TWIN the plugin; default: build/dev.  Exit status 1: off by more than 15 %.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
perigee=${PERIGEE:-$here/build/dev/bin/perigee}
twin=${TWIN:-$here/build/dev/tests/plugin/twin.so}
model=${1:-$here/examples/demo-model/perigee-demo.gguf}
base=$(ls "$(dirname "$perigee")"/../lib*/perigee/0/plugins/cpu.so "$(dirname "$perigee")"/../lib*/*/perigee/0/plugins/cpu.so 2>/dev/null | head -1)
bytes=$("$perigee" explain "$model" --device cpu --json --ctx 25 | python3 -c 'import json, sys
j = json.load(sys.stdin)
print(j["bytes_per_token"], j["memory"]["weights"] + j["memory"]["kv"], j["memory"]["arena"])')
read -r token held arena <<<"$bytes"
echo "load $(cut -d' ' -f1-3 </proc/loadavg); $model"
echo "memory and speed of the first, speed of the second | predicted | measured, median and spread | measured / predicted"
status=0
for way in "0.3 8 1" "0.6 4 1" "0.6 1 1" "0.6 1 0"; do
    read -r share faster own <<<"$way"
    devices=$(python3 -c '
import sys
token, held, arena, share, faster, own = map(float, sys.argv[1:])
slow = token / 0.08 / 1e9 * (1 - share + share / faster)
extra = ",own=1" if own else ""
print(f"name=a,pace=1,mem={held * share + arena:.0f},gbps={slow * faster:.6g}{extra};name=b,pace=1,gbps={slow:.6g}{extra}")
' "$token" "$held" "$arena" "$share" "$faster" "$own")
    set -- --device a,b --plugin "$twin" --set "twin.base=$base" --set "twin.devices=$devices"
    "$perigee" explain "$model" "$@" --json --ctx 25 >"${TMPDIR:-/tmp}/placement.$$.explain"
    "$perigee" bench -m "$model" "$@" -p 16 -n 24 -r 5 --json >"${TMPDIR:-/tmp}/placement.$$.bench"
    python3 - "$way" "${TMPDIR:-/tmp}/placement.$$".* <<'PYTHON' || status=1
import json, statistics, sys
bench, explain = (json.load(open(p)) for p in sys.argv[2:])
tps, want = sorted(bench["tg_tps"]), explain["predicted_tg_tps"]
assert explain["device"] == "a,b", explain["device"]
ratio = statistics.median(tps) / want
print(f"{sys.argv[1]} | {want:.2f} | {statistics.median(tps):.2f} ({tps[0]:.2f} to {tps[-1]:.2f}) | {ratio:.3f}")
sys.exit(abs(ratio - 1) > 0.15)
PYTHON
    rm -f "${TMPDIR:-/tmp}/placement.$$".*
done
exit $status
