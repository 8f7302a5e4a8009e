# SPDX-License-Identifier: MIT
# perigee plugin-check: usage, and our own plugins: cpu passes on every instruction set (the fast ones: plugin_levels.sh), null as far as it claims.
. "$(dirname "$0")/harness.sh"
. "$(dirname "$0")/kit.bash"
plugins=$BINARY_DIR/$LIBDIR/perigee/0/plugins

# ---- usage ----
run 1 plugin-check "$tmp/none.so"
has "$err" "none.so: no such file"
run 2 plugin-check "$base" --only luck
has "$err" 'no stage "luck"; there are load, describe'
run 2 plugin-check "$base" --op linear
has "$err" 'no operation "linear"'
run 2 plugin-check "$base" --type Q4
has "$err" 'no type "Q4"'
run 2 plugin-check
echo text >"$tmp/text.so"
run 1 plugin-check "$tmp/text.so" --only load
has "$out" "note: "

# ---- ours ----
check_levels reference scalar avx2
null="$plugins/null.so --set null.devices=name=fake0"
run plugin-check $null
has "$out" "level 0: 0 of 15 operations"
run 1 plugin-check $null --set null.supports=all --only ops --op LINEAR
has "$out" "LINEAR F32"
has "$out" "found 0, expected"
run 1 plugin-check $null --set null.supports=ADD --set null.fault=run:crash --only ops
has "$out" "ADD F32"
has "$out" "crashed (SIGILL) in run_op"
run 1 plugin-check "$plugins/null.so" --only describe
has "$out" "no device 0 to check: option null.devices names none"

# ---- one type only ----
run plugin-check "$base" --only ops --op LINEAR --type q4_k --json
python3 - "$tmp/out" <<'PYTHON' || fail "plugin-check --type"
import json, sys
j = json.load(open(sys.argv[1]))
assert 12 <= j["stages"][3]["checks"] <= 24, j["stages"][3]   # shapes with and without optional operands, one type
PYTHON

# ---- measuring: rows, a ceiling, fractions that follow from both; a time that is kept; nothing left after Ctrl-C ----
run plugin-check "$base" --bench --op LINEAR --type Q4_0 --seconds 2
has "$out" "LINEAR         Q4_0    T=1 a[4096] w[2048x4096]"
has "$out" "GMAC/s"
run plugin-check "$base" --bench --seconds 0.3 --json
python3 - "$tmp/out" <<'PYTHON' || fail "plugin-check --bench"
import json, sys
j = json.load(open(sys.argv[1]))
b, stages = j["bench"], {s["name"]: s["state"] for s in j["stages"]}
assert j["passed"] and stages.pop("bench") == "passed" and set(stages.values()) == {"skipped"}, j["stages"]
assert b["ceiling"]["gbps"] > 0 and b["ceiling"]["threads"] >= 1 and j["device"]["location"] == "host", b["ceiling"]
assert b["rows"] and b["unmeasured"], (len(b["rows"]), len(b["unmeasured"]))
for r in b["rows"]:
    assert abs(r["gbps"] - r["bytes"] / r["us"] / 1e3) < 1e-6 * r["gbps"], r
    one = r["shape"].startswith("T=1 ")
    assert ("fraction" in r) == (one or "gmacs" not in r), r
    assert "fraction" not in r or abs(r["fraction"] - r["gbps"] / b["ceiling"]["gbps"]) < 1e-6 * r["fraction"], r
first = b["rows"][0]
assert (first["op"], first["type"]) == ("LINEAR", "F32"), first
assert first["bytes"] == 4 * (4096 + 2048 * 4096 + 2048), first
assert abs(first["gmacs"] - 2048 * 4096 / first["us"] / 1e3) < 1e-6 * first["gmacs"], first
PYTHON
run plugin-check "$base" --bench --only load --op SCALE --seconds 1 --json
python3 - "$tmp/out" <<'PYTHON' || fail "plugin-check --bench --only load"
import json, sys
j = json.load(open(sys.argv[1]))
assert [s["name"] for s in j["stages"] if s["state"] == "passed"] == ["load", "bench"], j["stages"]
assert [r["op"] for r in j["bench"]["rows"]] == ["SCALE"], j["bench"]
PYTHON
run 1 plugin-check "$plugins/null.so" --set null.devices=name=fake0 --bench --op ADD --set null.supports=all --set null.fault=run:crash
has "$out" "ADD F32"
has "$out" "crashed (SIGILL) in run_op, for measuring"
cp "$base" "$tmp/measured.so"
timeout --preserve-status -s INT 1 "$PERIGEE" plugin-check "$tmp/measured.so" --bench >"$tmp/out" 2>"$tmp/err" </dev/null
is "$?" 130
is "$(cat "$tmp/out" "$tmp/err")" ""
for _ in {1..60}; do
    left=$(grep -lsz "$tmp/[m]easured.so" /proc/[0-9]*/cmdline)
    [ -z "$left" ] && break
    sleep 0.5
done
is "$left" ""

finish
