# SPDX-License-Identifier: MIT
# tests/perf/cuda_bench.py without a device, where it says what it skips and why, and in small on the stand-in for the driver
# (tests/plugin/cuda), where every stage but those of missing tools gives figures that follow from each other.
. "$(dirname "$0")/harness.sh"
built=$BINARY_DIR/tests/plugin/cuda
[ -f "$built/driver/libcuda.so.1" ] || { echo "skipped: built without a C++ compiler (Debian: g++)"; exit 77; }
[ -z "${SANITIZE:-}" ] || { echo "skipped: looks at the script; cuda.sh and cuda_check.sh run the same code"; exit 77; }
mkdir "$tmp/plugins" "$tmp/none" "$tmp/models"
cp "$BINARY_DIR/$LIBDIR/perigee/0/plugins/cpu.so" "$built/cuda.so" "$tmp/plugins"
export PERIGEE_PLUGIN_PATH=$tmp/plugins PERIGEE_PLACE_FIGURES=declared
# bench STATUS ARG...
bench() {
    local expected=$1 status
    shift
    "$SOURCE_DIR/tests/perf/cuda_bench.py" --build "$BINARY_DIR" --perigee "$PERIGEE" --dir "$tmp/models" --out "$tmp/report.json" "$@" \
        >"$tmp/out" 2>"$tmp/err" </dev/null
    status=$?
    out=$(cat "$tmp/out")
    err=$(cat "$tmp/err")
    is "$status" "$expected"
    is "$(ls "$tmp/models")" "" # nothing is left
}

# ---- no driver ----
echo "no shared object" >"$tmp/none/libcuda.so.1"
LD_LIBRARY_PATH=$tmp/none bench 0
has "$out" " skipped, 0 failed"
has "$err" "skipped: machine: no device cuda:0: "
has "$err" "libcuda.so.1: file too short"
has "$err" "skipped: models: no usable device"
bench 2 --models nosuch
has "$err" "no model 'nosuch'"
bench 2 --types Q9
has "$err" "no type 'Q9'"

# ---- the stand-in ----
export LD_LIBRARY_PATH=$built/driver
bench 0 --tiny --ceiling "$built/cuda_ceiling"
python3 - "$tmp/report.json" <<'PYTHON' || fail "the report: $(head -c 2000 "$tmp/report.json") $err"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["failed"] == [], j["failed"]
c = j["ceilings"]
assert c["isa"] == "sm_90" and c["read_gbps"] > 0 and c["copy_gbps"] > 0 and c["launch_us"] > 0 and c["graph_us"] > 0, c
assert j["check"]["ops"] > 0, j["check"]
assert set(j["same"]) == {"toy-dense", "toy-experts"} and all(0 < e["f32"] < 1e-6 and e["f32"] < e["q8"] < 2e-3 for e in j["same"].values()), j["same"]
kernels = j["kernels"]
assert kernels and all(k["op"] == "NORM" for k in kernels), kernels
for k in kernels:
    assert abs(k["read_fraction"] * c["read_gbps"] / k["gbps"] - 1) < 1e-6, k
rows = j["models"]["rows"]
assert [(r["model"], r["batch"], r["graphs"]) for r in rows] == [
    ("toy-dense", 1, True), ("toy-experts", 1, True), ("toy-dense", 1, False), ("toy-dense", 2, True), ("toy-experts", 2, True)], rows
for r in rows:
    assert abs(r["step_bytes"] / r["step_ms"] * 1e-6 / c["read_gbps"] / r["read_fraction"] - 1) < 1e-6, r
    assert r["tg_tps"] > 0 and r["pp_tps"] > 0 and r["kv_bytes"] > 0, r
assert rows[0]["step_bytes"] < rows[3]["step_bytes"] and rows[1]["step_bytes"] < rows[4]["step_bytes"], rows
PYTHON
has "$out" "toy-experts"

# ---- a device that ends half way is a failure, not a figure ----
FAKE_CUDA=launch=200 bench 1 --tiny --models toy-dense --ceiling "$built/cuda_ceiling"
has "$out" "CUDA_ERROR_LAUNCH_FAILED (719)"
# ---- time that is over is told ----
bench 0 --tiny --ceiling "$built/cuda_ceiling" --minutes 0
has "$err" "skipped: machine: no time was left"
finish
