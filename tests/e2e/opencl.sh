# SPDX-License-Identifier: MIT
# --device opencl on whatever OpenCL device there is: the tokens and logits of the CPU, its programs kept and rebuilt, and what
# is said when there is no driver, a broken one, one that crashes, or no more memory.
. "$(dirname "$0")/harness.sh"
need_demo
[ -f "$BINARY_DIR/$LIBDIR/perigee/0/plugins/opencl.so" ] || { echo "skipped: built without CL/cl.h"; exit 77; }
case $SANITIZE in thread) echo "skipped: a driver's threads are not ours to check"; exit 77 ;; esac
export POCL_CACHE_DIR=${POCL_CACHE_DIR:-$tmp/pocl}
# A driver's compiler keeps memory of its own and puts signal stacks of its own into place: not ours to judge.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}use_sigaltstack=0
export LSAN_OPTIONS=${LSAN_OPTIONS:+$LSAN_OPTIONS:}suppressions=$SOURCE_DIR/tests/support/drivers.supp:print_suppressions=0

# ---- no driver: said in one line by devices, and by who asks for it ----
run devices --json
if ! grep -q '"name": "opencl",' "$tmp/out" || ! grep -q '"plugin": "opencl"' "$tmp/out"; then
    echo "skipped: no OpenCL device (Debian: pocl-opencl-icd)"
    exit 77
fi
mkdir "$tmp/none" "$tmp/vendors"
echo "no shared object" >"$tmp/none/libOpenCL.so.1"
LD_LIBRARY_PATH=$tmp/none run devices
has "$out" "libOpenCL.so.1: file too short"
LD_LIBRARY_PATH=$tmp/none run 1 run "$demo" --raw -n 1 x --device opencl
has "$err" "libOpenCL.so.1"
LD_LIBRARY_PATH=$tmp/none run run "$demo" --raw -n 1 --temp 0 x
OCL_ICD_VENDORS=$tmp/vendors run devices
has "$out" "libOpenCL.so.1 is there, but no platform is installed (-1001)"

# ---- a driver that is broken, and one that crashes: the probe's child takes it ----
echo "$tmp/vendors/missing.so" >"$tmp/vendors/a.icd"
OCL_ICD_VENDORS=$tmp/vendors run devices
has "$out" "no platform is installed (-1001)"
echo "$BINARY_DIR/tests/plugin/opencl_icd.so" >"$tmp/vendors/a.icd"
OCL_ICD_VENDORS=$tmp/vendors run devices
has "$out" "SIGABRT"
OCL_ICD_VENDORS=$tmp/vendors run run "$demo" --raw -n 1 --temp 0 x
rm -rf "$XDG_CACHE_HOME/perigee" # the quarantine of two crashes

# ---- never chosen by itself; chosen by name ----
run run "$demo" --raw -n 24 --temp 0 "The quick brown" --verbose
cpu=$out
case $err in *opencl*) fail "opencl was chosen before the native device" ;; esac
run run "$demo" --raw -n 24 --temp 0 "The quick brown" --device opencl
is "$out" "$cpu"
n_file=$(find "$XDG_CACHE_HOME/perigee/opencl" -name '*.bin' | wc -l)
[ "$n_file" -gt 5 ] || fail "found $n_file programs in the cache"

# ---- the second start compiles nothing; a damaged file is rebuilt, with a warning ----
stamp() { find "$XDG_CACHE_HOME/perigee/opencl" -type f -printf '%f %T@ %s\n' | sort; }
before=$(stamp)
run run "$demo" --raw -n 24 --temp 0 "The quick brown" --device opencl
is "$out" "$cpu"
is "$(stamp)" "$before"
bin=$(find "$XDG_CACHE_HOME/perigee/opencl" -name '*.bin' | sort | head -n 1)
printf 'damage' | dd of="$bin" bs=1 seek=200 conv=notrunc 2>/dev/null
run run "$demo" --raw -n 24 --temp 0 "The quick brown" --device opencl
is "$out" "$cpu"
has "$err" "is damaged or another's: the program is built again"
truncate -s 40 "$bin"
run run "$demo" --raw -n 2 --temp 0 "The quick brown" --device opencl
has "$err" "the program is built again"
run run "$demo" --raw -n 2 --temp 0 "The quick brown" --device opencl
is "$err" ""

# ---- the folder of programs has a limit, oldest first; 0 keeps nothing; what is no number is refused ----
cl=$XDG_CACHE_HOME/perigee/opencl
find "$cl" -name '*.bin' -exec touch -d '2001-01-01' {} +
head -c 3000000 /dev/zero >"$cl/0123456789abcdef0123456789abcdef.bin"
touch -d '2000-01-01' "$cl/0123456789abcdef0123456789abcdef.bin"
echo "not ours" >"$cl/notes.txt"
rm "$(find "$cl" -name '*.bin' | sort | tail -n 1)"
n_file=$(find "$cl" -name '*.bin' | wc -l)
PERIGEE_OPENCL_CACHE_MIB=3 run run "$demo" --raw -n 2 --temp 0 "The quick brown" --device opencl
[ ! -e "$cl/0123456789abcdef0123456789abcdef.bin" ] || fail "the oldest file is still there"
[ -e "$cl/notes.txt" ] || fail "a file of others is gone"
is "$(find "$cl" -name '*.bin' | wc -l)" "$n_file"
rm -r "$cl"
run run "$demo" --raw -n 2 --temp 0 "The quick brown" --device opencl --set opencl.cache_mib=0
[ ! -e "$cl" ] || fail "programs were kept with opencl.cache_mib=0"
run 1 run "$demo" --raw -n 2 --temp 0 x --device opencl --set opencl.cache_mib=much
has "$err" 'option opencl.cache_mib: "much", a number from 0 to'

# ---- the kernels' shape: said, chosen by name, refused where it cannot be ----
run devices
has "$out" "OpenCL 3.0, vector"
PERIGEE_OPENCL_SHAPE=local run devices
has "$out" "OpenCL 3.0, local"
PERIGEE_OPENCL_SHAPE=local run explain "$demo" --device opencl
has "$out" "OpenCL 3.0, local"
PERIGEE_OPENCL_SHAPE=local run run "$demo" --raw -n 24 --temp 0 "The quick brown" --device opencl
is "$out" "$cpu"
run 1 run "$demo" --raw -n 2 --temp 0 x --device opencl --set opencl.shape=round
has "$err" 'option opencl.shape: "round" is unknown; there are vector'
if [ "${err%subgroup*}" = "$err" ]; then # those that the device can have are listed
    run 1 run "$demo" --raw -n 2 --temp 0 x --device opencl --set opencl.shape=subgroup
    has "$err" 'option opencl.shape: no subgroup on device'
    has "$err" 'it has no sub-groups'
fi

# ---- logits within what sums in another order may differ by: of activations in integers, as the cpu's, or in f32, as its reference's ----
tokens=1,5,9,17,33,65,129,257,300,301,302
run logits -m "$demo" --tokens $tokens -o "$tmp/cl.bin" --device opencl
PERIGEE_OPENCL_SHAPE=local run logits -m "$demo" --tokens $tokens -o "$tmp/local.bin" --device opencl
run logits -m "$demo" --tokens $tokens -o "$tmp/cl.ref" --device cpu
PERIGEE_CPU_ISA=reference run logits -m "$demo" --tokens $tokens -o "$tmp/local.ref" --device cpu
for shape in cl local; do
    python3 - "$tmp/$shape.bin" "$tmp/$shape.ref" <<'PYTHON' || fail "logits of opencl ($shape) and of the cpu differ"
import array, sys
a, b = (array.array("f", open(p, "rb").read()) for p in sys.argv[1:3])
assert len(a) == len(b) > 0, (len(a), len(b))
n = len(a) // 11
for t in range(11):
    x, y = a[t * n:(t + 1) * n], b[t * n:(t + 1) * n]
    error = sum((p - q) ** 2 for p, q in zip(x, y)) / sum(q * q for q in y)
    assert error <= 1e-6, (t, error)
PYTHON
done

# ---- a few tokens, of which one launch does several operations, and many give the same bits ----
run logits -m "$demo" --tokens 1,5,9 -o "$tmp/few.bin" --device opencl
n_check=$((n_check + 1))
head -c "$(wc -c <"$tmp/few.bin")" "$tmp/cl.bin" | cmp -s - "$tmp/few.bin" || fail "three tokens and eleven differ"

# ---- explain, and sessions that fork ----
run explain "$demo" --device opencl --json
python3 - "$tmp/out" <<'PYTHON' || fail "explain --device opencl"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["device"] == "opencl" and "asked for" in j["why"], j["why"]
assert any(c["device"] == "cpu" for c in j["candidates"]), j["candidates"]
text = json.dumps(j["buckets"])
assert "act=q8/32 acc=i32" in text and "act=f32 acc=f32" in text, text[:400]
PYTHON

# ---- forks, rewinds, the prefix cache, a saved session, sixteen at once: the same tokens (same.lua), bit for bit ----
mkdir "$tmp/saved" && ln -s "$demo" "$tmp/model.gguf"
for step in first second; do
    { printf 'local STEP, DIR, N, CHAINS = "%s", "saved", 8, { "plain", "top_k" }\n' "$step"
      sed 's/device = "cpu"/device = "opencl"/' "$SOURCE_DIR/tests/e2e/same.lua"; } >"$tmp/$step.lua"
    (cd "$tmp" && run run "$step.lua" --allow fs.read=saved --allow fs.write=saved && [ "$n_failed" -eq 0 ]) || fail "same.lua, $step"
    cp "$tmp/out" "$tmp/$step.txt"
done
[ -s "$tmp/first.txt" ] || fail "same.lua printed nothing"
is "$(cat "$tmp/second.txt")" "$(cat "$tmp/first.txt")"

# ---- one model on several devices, by rules: the tokens of the processor, which each way is fed (sums of f32 on either) ----
run run "$demo" --raw -n 24 --temp 0 "The quick brown"
printf 'The quick brown%s' "$out" | "$PERIGEE" tokenize -m "$demo" | tr ' ' ',' >"$tmp/ids"
run logits -m "$demo" --tokens "$(cat "$tmp/ids")" --device cpu --set cpu.isa=reference -o "$tmp/alone.bin"
compare='import array, sys
vocab = int(sys.argv[3])
def rows(path):
    x = array.array("f", open(path, "rb").read())
    return [x[i:i + vocab] for i in range(0, len(x), vocab)]
found, want = rows(sys.argv[1]), rows(sys.argv[2])
assert len(found) == len(want) > 20, (len(found), len(want))
for t, (x, y) in enumerate(zip(found, want)):
    assert x.index(max(x)) == y.index(max(y)), t
    error = sum((p - q) ** 2 for p, q in zip(x, y)) / sum(q * q for q in y)
    assert error <= 1e-6, (t, error)'
n_vocab=$("$PERIGEE" show "$demo" --tensors --json | python3 -c 'import json, sys
print(next(t for t in json.load(sys.stdin) if t["name"] == "token_embd.weight")["shape"][0])')
same_as_alone() { # devices, rules, devices that must be used
    run explain "$demo" --device "$1" --place "$2" --ctx 128 --strict --json --set opencl.shape=local --set place.figures=declared
    has "$out" "\"device\": \"$3\""
    run logits -m "$demo" --tokens "$(cat "$tmp/ids")" --device "$1" --place "$2" -o "$tmp/several.bin" \
        --set cpu.isa=reference --set opencl.shape=local --set place.figures=declared
    python3 -c "$compare" "$tmp/several.bin" "$tmp/alone.bin" "$n_vocab" || fail "logits on $1 by $2"
}
same_as_alone opencl,cpu "layers 0-2 on opencl; layers 3-5 on cpu; head on opencl" opencl,cpu
same_as_alone cpu "layer 3 on opencl" cpu,opencl
# PoCL offers one processor as two devices where it is told to.
POCL_DEVICES="basic pthread" run devices --json
case $out in
*'"name": "opencl:1"'*)
    export POCL_DEVICES="basic pthread"
    same_as_alone opencl:0,opencl:1 "layers 0-2 on opencl:0; layers 3-5 on opencl:1; head on opencl:0" opencl:0,opencl:1
    same_as_alone cpu "layers 0-1 on opencl:1; layer 4 on opencl:0; head on cpu" cpu,opencl:1,opencl:0
    unset POCL_DEVICES ;;
esac

# ---- lists of the likeliest tokens and whole rows: the same tokens, counted ----
cat >"$tmp/rows.lua" <<'LUA'
local p = require "perigee"
local model <close> = assert(p.model("model.gguf", { ctx = 256, sessions = 3, device = "opencl" }))

local function text(params, options)
  local session <close> = assert(model:session(params))
  assert(session:feed "The quick brown")
  local before, ids = assert(session:stats()), {}
  for ev in session:generate(options) do
    assert(not ev.error, ev.error)
    if ev.id and not ev.done then ids[#ids + 1] = ev.id end
  end
  local after = assert(session:stats())
  return table.concat(ids, " "), after.n_row_top - before.n_row_top,
    after.n_row_whole - before.n_row_whole, after.n_row_bytes - before.n_row_bytes
end

local params = { temp = 2, top_k = 50, top_p = 0.99, min_p = 0, seed = 4 }
local list, n_list, n_row, bytes = text(params, { max = 20, ignore_eog = true })
assert(n_list >= 19 and n_row == 0 and bytes == n_list * 1024, n_list .. " lists, " .. n_row .. " rows")
local whole, m_list, m_row = text(params, { max = 20, ignore_eog = true, logprobs = 3 })
assert(m_list == 0 and m_row >= 19, m_list .. " lists, " .. m_row .. " rows")
assert(list == whole, list .. "\n" .. whole)
params.repeat_penalty = 1.0001
local _, k_list = text(params, { max = 5, ignore_eog = true })
assert(k_list == 0, "penalties look at all")
print(list)
LUA
(cd "$tmp" && run run rows.lua && [ "$n_failed" -eq 0 ]) || fail "rows.lua"
run explain "$demo" --device opencl --json
has "$out" '"likeliest": 128'
run bench -m "$demo" --device opencl -p 4 -n 8 -r 1 --json
python3 - "$tmp/out" <<'PYTHON' || fail "bench --json: rows"
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert rows["likeliest"] >= 16 and rows["bytes_read"] >= 1024 * rows["likeliest"], rows
PYTHON
# 24 sequences are more tokens than the plan of a few holds; their prompts are one step too.
run bench -m "$demo" --device opencl -b 24 -p 4 -n 4 -r 1 --json
python3 - "$tmp/out" <<'PYTHON' || fail "bench -b 24 --json: rows"
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert rows["likeliest"] >= 2 * 24 * 4 and rows["whole"] == 0, rows
assert rows["bytes_read"] == 1024 * rows["likeliest"], rows
PYTHON

# ---- no more memory: at the start the next device takes over or the error is clear; later the step says so ----
# Nothing depends on which device is faster here: none is measured, or measuring fails with the rest.
layer=$BINARY_DIR/tests/plugin/opencl_layer.so
unmeasured="--set place.figures=declared"
two="--raw -n 24 --temp 0 --device opencl,cpu"
rm -f "$XDG_CACHE_HOME/perigee/figures.json"
OPENCL_LAYERS=$layer FAIL_BYTES=all run 1 run "$demo" --raw -n 4 --temp 0 x --device opencl
has "$err" "device opencl"
has "$err" "CL_MEM_OBJECT_ALLOCATION_FAILURE"
# The first it asks for: it is left out, whether or not it was to be measured before.
for how in "" "$unmeasured"; do
    OPENCL_LAYERS=$layer FAIL_BYTES=all run run "$demo" $two "The quick brown" $how
    is "$out" "$cpu"
    has "$err" "device opencl was preferred but cannot run this model ("
    has "$err" "of activations: device opencl: allocating memory"
    has "$err" "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)); using cpu"
    rm -f "$XDG_CACHE_HOME/perigee/figures.json"
done
# A weight, after others: it gets less, which is none of those that are too large, and the rest is the processor's.
bytes_of() { "$PERIGEE" show "$demo" --tensors --json | python3 -c 'import json, sys
print(next(t["bytes"] for t in json.load(sys.stdin) if t["name"] == sys.argv[1]))' "$1"; }
OPENCL_LAYERS=$layer FAIL_BYTES=$(bytes_of blk.0.attn_q.weight) run run "$demo" $two "The quick brown" $unmeasured
is "$out" "$cpu"
has "$err" "device opencl ran out of memory (weight blk.0.attn_q.weight: device opencl: allocating memory"
has "$err" "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)); it gets 0 MiB and the other devices the rest"
# Keys and values, when it has all weights: it gets less of both, and is left out when that fails too.
token_bytes=$("$PERIGEE" explain "$demo" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["kv_bytes_per_token"])')
n_layer=$("$PERIGEE" show "$demo" --tensors --json | grep -c 'attn_q\.weight')
OPENCL_LAYERS=$layer FAIL_BYTES=$((192 * token_bytes / n_layer)) run run "$demo" $two "The quick brown" --ctx 192 $unmeasured
is "$out" "$cpu"
has "$err" "device opencl ran out of memory (keys and values of 1 x 192 tokens"
has "$err" "MiB and the other devices the rest"
has "$err" "device opencl was preferred but cannot run this model (keys and values of 1 x 192 tokens"
has "$err" "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)); using cpu"
OPENCL_LAYERS=$layer MAX_ALLOC=500000 run run "$demo" $two "The quick brown" $unmeasured
is "$out" "$cpu"
has "$err" "the device's largest has 500000"
OPENCL_LAYERS=$layer MAX_ALLOC=500000 run 1 run "$demo" --raw -n 4 --temp 0 x --device opencl
has "$err" "the device's largest has 500000"
# A prompt and 24 tokens launch more than 1000 kernels: the 300th is one of a token after the first.
OPENCL_LAYERS=$layer FAIL_KERNEL=300 run 1 run "$demo" --raw -n 24 --temp 0 "The quick brown" --device opencl $unmeasured
has "$err" "device opencl"
has "$err" "CL_OUT_OF_RESOURCES"
has "$cpu" "$out"
[ -n "$out" ] || fail "nothing was said before the launch that failed"

finish
