# SPDX-License-Identifier: MIT
# perigee cache: what the caches hold is shown, and removed in order of age; the rest is left alone.
. "$(dirname "$0")/harness.sh"
folder=$tmp/cache/perigee

run cache list
has "$out" "$folder"
[ ! -e "$folder" ] || fail "looking at the caches made $folder"
run devices
run cache list --files
has "$out" probe.json

mkdir -p "$folder/opencl"
for i in 1 2 3; do
    head -c "${i}000" /dev/zero >"$folder/opencl/$i.bin"
    touch -d "2026-01-0$i" "$folder/opencl/$i.bin"
done
echo mine >"$folder/notes"
run cache list --json
python3 - "$tmp/out" <<'PYTHON' || fail "cache list --json"
import json, sys
d = json.load(open(sys.argv[1]))
c = {x["name"]: x for x in d["caches"]}
assert c["probe"]["files"] == 1 and c["opencl"]["files"] == 3 and c["opencl"]["bytes"] == 6000, c
assert c["opencl"]["oldest"].startswith("2025-12-31") or c["opencl"]["oldest"].startswith("2026-01-01"), c
assert [f["file"] for f in d["files"]][:3] == ["opencl/1.bin", "opencl/2.bin", "opencl/3.bin"], d["files"]
assert [f["file"] for f in d["unknown"]] == ["notes"] and d["problems"] == [], d
PYTHON

run cache prune opencl --keep 5K --dry-run
has "$out" "opencl/1.bin"
has "$out" "would remove 1 file, 1000 B; 4.9 KiB left"
[ -e "$folder/opencl/1.bin" ] || fail "a dry run removed a file"
run cache prune opencl --keep 5K
is "$out" "removed 1 file, 1000 B; 4.9 KiB left"
[ ! -e "$folder/opencl/1.bin" ] && [ -e "$folder/opencl/2.bin" ] && [ -e "$folder/probe.json" ] || fail "the wrong file went"
run cache prune
has "$out" "removed 3 files"
is "$(cd "$folder" && find . -type f)" ./notes
run devices # the next start makes its own again
run cache prune --json
python3 - "$tmp/out" <<'PYTHON' || fail "cache prune --json"
import json, sys
d = json.load(open(sys.argv[1]))
assert [f["file"] for f in d["removed"]] == ["probe.json"] and d["left_bytes"] == 0 and d["problems"] == [], d
PYTHON

if [ "$(id -u)" -ne 0 ]; then # to root all is writable
    echo x >"$folder/opencl/1.bin"
    chmod 500 "$folder/opencl"
    run 1 cache prune
    has "$err" "opencl/1.bin: Permission denied"
    chmod 700 "$folder/opencl"
fi

run 1 cache prune weights
has "$err" "no cache is called 'weights'; there are: probe, opencl"
run 2 cache
run 2 cache prun
has "$err" "did you mean 'prune'?"
run 2 cache list probe
run 2 cache list --keep 1
has "$err" "--keep is for prune"
for size in 5X K 1KB 99999999999999999999 17179869184G ""; do
    run 2 cache prune --keep "$size"
    has "$err" "expected a size"
done
XDG_CACHE_HOME=relative HOME= run 1 cache list
has "$err" "there is no place for caches"
finish
