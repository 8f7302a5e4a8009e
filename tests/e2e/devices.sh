# SPDX-License-Identifier: MIT
# perigee devices: the plugins of the build are listed and usable, others are refused with a reason.
. "$(dirname "$0")/harness.sh"

run devices
has "$out" cpu
run devices --json
python3 - "$tmp/out" <<'PYTHON' || fail "devices --json"
import json, sys
d = json.load(open(sys.argv[1]))
for key in ("cpu", "plugins", "devices", "notes"):
    assert key in d, f"no member {key}: {list(d)}"
cpu = [p for p in d["plugins"] if p["name"] == "cpu"]
assert cpu and cpu[0]["state"] == "usable", d["plugins"]
assert any(x.get("name") == "cpu" for x in d["devices"]), d["devices"]
PYTHON

# Listing measures nothing; --calibrate does, and what it found is kept.
figures='import json, sys
rows = [r for r in json.load(open(sys.argv[1]))["figures"] if r["device"] == "cpu"]
found = {(r["figure"], r["type"]): r["value"] for r in rows}
measured = {r["from"].startswith("measured 20") for r in rows}
assert measured == {sys.argv[2] == "measured"}, rows
if sys.argv[2] == "measured":
    assert found["read weights", "Q4_K"] > 0 and found["multiply weights", "F16"] > 0, found
else:
    assert found["read weights", ""] is None, found'
python3 -c "$figures" "$tmp/out" unknown || fail "figures before measuring"
[ ! -e "$tmp/cache/perigee/figures.json" ] || fail "a listing measured devices"
mkdir "$tmp/one"
cp "$BINARY_DIR/$LIBDIR"/perigee/0/plugins/cpu.so "$tmp/one"
export PERIGEE_PLUGIN_PATH=$tmp/one
run devices --calibrate
run devices --json
python3 -c "$figures" "$tmp/out" measured || fail "figures after measuring"
run devices --json --set place.figures=declared
python3 -c "$figures" "$tmp/out" unknown || fail "figures with place.figures=declared"
run 1 devices --calibrate --set place.figures=declared
has "$err" "nothing is measured"
run 1 devices --set place.figures=some
has "$err" 'place.figures is "some", expected measured or declared'
unset PERIGEE_PLUGIN_PATH

# A file that is no plugin is refused in one line, and the program goes on.
printf 'no shared object' >"$tmp/bad.so"
chmod 644 "$tmp/bad.so"
run devices --plugin "$tmp/bad.so"
has "$out" "bad.so"
has "$out" refused
run devices --plugin "$tmp/none.so"
has "$out" "none.so"
# A folder without plugins, and the working directory is never searched.
mkdir "$tmp/cwd"
cp "$BINARY_DIR/$LIBDIR"/perigee/0/plugins/null.so "$tmp/cwd/libnull.so" 2>/dev/null
(cd "$tmp/cwd" && "$PERIGEE" devices) >"$tmp/out" 2>&1 </dev/null
case $(cat "$tmp/out") in *libnull.so*) fail "a plugin of the working directory was seen" ;; esac
PERIGEE_PLUGIN_PATH=$tmp/cwd run devices --json
case $out in *libnull.so*) ;; *) fail "PERIGEE_PLUGIN_PATH was not searched" ;; esac

# The bytes of a plugin are recorded at its first use; others are told once, or refused with --pinned.
chmod u+w "$tmp/cwd/libnull.so" && printf x >>"$tmp/cwd/libnull.so"
PERIGEE_PLUGIN_PATH=$tmp/cwd run devices --pinned --json
has "$out" "has changed since 20"
has "$out" '"refused"'
PERIGEE_PLUGIN_PATH=$tmp/cwd run devices
has "$err" "libnull.so has changed since 20"
PERIGEE_PLUGIN_PATH=$tmp/cwd run devices --pinned
is "$err" ""

# A device that a plugin would have: the plugin's own reason is told.
for name in null null:0; do
    run 1 run "$demo" hi --device $name
    has "$err" "device $name: plugin "
    has "$err" "names none"
done
run 1 run "$demo" hi --device nullx:0
has "$err" "device nullx:0: no such device or plugin"

# A name in a list that stands for nothing: a warning, and refused with --strict.  One from the environment is told as such.
run run "$demo" --raw -n 1 --temp 0 hi --device nowhere,cpu
has "$err" "warning: device nowhere: no such device or plugin; there are: "
run 1 run "$demo" --raw -n 1 --temp 0 hi --device nowhere,cpu --strict
has "$err" "perigee: --strict: device nowhere: no such device or plugin"
is "$out" ""
for target in --raw --no-think; do
    PERIGEE_DEVICE=nowhere run 1 run "$demo" $target -n 1 --temp 0 hi
    has "$err" "device nowhere is asked for by the environment variable PERIGEE_DEVICE"
    has "$err" "device nowhere: no such device or plugin"
done
PERIGEE_DEVICE=nowhere run run "$demo" --raw -n 1 --temp 0 hi --device cpu
is "$err" ""
PERIGEE_DEVICE=cpu run run "$demo" --raw -n 1 --temp 0 hi
is "$err" ""
finish
