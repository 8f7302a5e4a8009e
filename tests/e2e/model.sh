# SPDX-License-Identifier: MIT
# The commands that open a model, on the bundled one.
. "$(dirname "$0")/harness.sh"
need_demo
json() { python3 -c 'import json,sys; d = json.load(open(sys.argv[1])); assert eval(sys.argv[2]), d' "$tmp/out" "$1" || fail "JSON: $1"; }

for part in "" --tensors --parameters --metadata --template --arch "--tensors --template"; do
    run show "$demo" $part
    [ -n "$out" ] || fail "show $part printed nothing"
    run show "$demo" $part --json
    json True
done
run show "$demo" --json
json 'd["architecture"] == "llama"'
run explain "$demo"
has "$out" "${PERI_TEST_DEVICE:-cpu}"
run explain "$demo" --ctx 200 --measure --json
python3 - "$tmp/out" <<'PYTHON' || fail "explain --measure"
import json, sys
d = json.load(open(sys.argv[1]))
rows = d["tokens_per_second"]
assert [r["test"].split()[0] for r in rows] == ["prompt", "generate"], rows
assert all(r["predicted"] > 0 and r["measured"] > 0 for r in rows), rows
for r in rows:
    assert abs(r["measured_by_predicted"] * r["predicted"] / r["measured"] - 1) < 0.01, r
assert d["predicted_tg_tps"] > 0 and d["predicted_pp_tps"] > 0, d
assert {f["from"][:11] for f in d["figures"]} == {"measured 20"}, d["figures"]
PYTHON
# Keys and values of fewer bytes are not predicted to be slower to read.
for kv in f16 q8_0; do
    run bench -m "$demo" -p 0 -n 1 -d 800 -r 1 --device cpu --kv $kv --json
    cp "$tmp/out" "$tmp/bench.$kv"
done
python3 - "$tmp/bench.f16" "$tmp/bench.q8_0" <<'PYTHON' || fail "predictions for F16 and Q8_0 keys"
import json, sys
f16, q8_0 = (json.load(open(path))["predicted_tg_tps"] for path in sys.argv[1:])
assert f16 < q8_0 < 2 * f16, (f16, q8_0)
PYTHON
run explain "$demo" --json
json 'd["device"] and d["why"] and d["memory"]'
# What must be where: command line before environment before assistant.
run explain "$demo" --device cpu --place 'layers on cpu; head on cpu' --json
json 'd["rules"] == [{"rule": "layers on cpu", "device": "cpu", "decides": 12}, {"rule": "head on cpu", "device": "cpu", "decides": 1}]'
PERIGEE_PLACE='head on nowhere' run 1 explain "$demo"
has "$err" "rules of placement: column 1: device nowhere: no such device or plugin; there are: "
PERIGEE_PLACE='head on nowhere' run explain "$demo" --place 'head on cpu' --json
run 1 explain "$demo" --place 'layers 6 on cpu'
has "$err" '"layers 6 on cpu": the model has layers 0 to 5'
run 1 explain "$demo" --place 'layers on cpu, head on cpu'
has "$err" 'column 16: found "head", expected ";" and another rule'
run 1 explain "$demo" --place 'layers on cpu; experts on cpu; layers on cpu' --strict
has "$err" 'column 1: "layers on cpu" decides nothing'
printf 'return {\n  from = "%s",\n  parameters = {\n    place = { "layers on cpu", "heads on cpu" } } }\n' "$demo" >"$tmp/place.lua"
run 1 run "$tmp/place.lua" hi
has "$err" 'place.lua:4: parameters.place[2]: column 1: found "heads", expected layers, experts'
sed -i 's/heads on cpu/head on nowhere/' "$tmp/place.lua"
run 1 run "$tmp/place.lua" hi
has "$err" "device nowhere: no such device"
PERIGEE_PLACE='head on cpu' run run "$tmp/place.lua" hi -n 2
run 1 run "$demo" --place 'heads on cpu' hi
has "$err" '--place or PERIGEE_PLACE: column 1: found "heads", expected layers'

# Weights mapped or copied: the same logits.
for weights in map copy; do
    run explain "$demo" --weights $weights --device cpu --json
    json "d['memory']['weights_in_large_pages'] == $([ $weights = map ] || stat -c %s "$demo")+0"
    run logits -m "$demo" --tokens 1,2,3 --weights $weights -o "$tmp/logits.$weights"
done
cmp "$tmp/logits.map" "$tmp/logits.copy" || fail "logits of copied weights differ"

# Tokens and back.
printf 'Read the file\n' | "$PERIGEE" tokenize -m "$demo" --no-special >"$tmp/ids"
is "$("$PERIGEE" detokenize -m "$demo" <"$tmp/ids")" "Read the file"
printf 'a\0\0b' | "$PERIGEE" tokenize -m "$demo" --no-special --lines0 >"$tmp/lines"
is "$(wc -l <"$tmp/lines")" 3
is "$(sed -n 2p "$tmp/lines")" ""
is "$(sed -n 1p "$tmp/lines")" "$(printf a | "$PERIGEE" tokenize -m "$demo" --no-special)"
control=$(printf '<|user|>' | "$PERIGEE" tokenize -m "$demo")
is "$(echo "$control" | wc -w)" 1
[ "$(printf '<|user|>' | "$PERIGEE" tokenize -m "$demo" --no-special | wc -w)" -gt 1 ] || fail "--no-special parsed a control token"
is "$(echo "$control" | "$PERIGEE" detokenize -m "$demo")" "<|user|>"
echo 1 999999 | "$PERIGEE" detokenize -m "$demo" 2>"$tmp/err"
is $? 1
has "$(cat "$tmp/err")" 999999

# Completion: the same seed, the same text; -n; stop strings; special tokens; what is wrong is said.
prompt='<|user|>Who are you?<|end|><|assistant|>'
run run "$demo" --raw --parse-special --greedy -n 12 "$prompt"
greedy=$out
[ -n "$greedy" ] || fail "an empty answer"
run run "$demo" --raw --parse-special --temp 0 -n 12 -t 1 "$prompt"
is "$out" "$greedy"
is "$(printf %s "$prompt" | "$PERIGEE" run "$demo" --raw --parse-special --greedy -n 12)" "$greedy"
printf %s "$prompt" >"$tmp/prompt"
run run "$demo" --raw --parse-special --greedy -n 12 --prompt-file "$tmp/prompt"
is "$out" "$greedy"
run run "$demo" --raw --seed 7 -n 20 Hello
seven=$out
run run "$demo" --raw --seed 7 -n 20 Hello
is "$out" "$seven"
stop=$(printf %s "$greedy" | cut -c 3-5)
run run "$demo" --raw --parse-special --greedy -n 12 --stop "$stop" "$prompt"
is "$out" "${greedy%%"$stop"*}"
run run "$demo" --raw -n 0 Hello
is "$out" ""
run run "$demo" --raw --greedy -n 5 -v Hello
has "$err" "plugin ${PERI_TEST_DEVICE:-cpu}"
has "$err" "tokens/s"
run 1 run "$demo" --raw --ctx 4 "a prompt of more than four tokens"
has "$err" "the context holds 4"
# More tokens than memory can hold.  A sanitizer would mark all of it, and some kernels do not lend what is not there.
if [ -z "${PERI_TEST_DEVICE:-}${SANITIZE:-}" ] && [ "$(cat /proc/sys/vm/overcommit_memory)" != 2 ] && [ "$(ulimit -v)" = unlimited ]; then
    # hold CTX SESSIONS: a script that has so many, of f32
    hold() {
        printf 'local p = require "perigee"\nlocal m <close> = assert(p.model("%s", { ctx = %d, sessions = %d, kv = "f32", device = "cpu" }))\n' \
            "$demo" "$1" "$2" >"$tmp/hold.lua"
    }
    all=$("$PERIGEE" devices --json 2>/dev/null | python3 -c 'import json, sys; print(sum(n["mem_total"] for n in json.load(sys.stdin)["memory_nodes"]))')
    n_tok=$((3 * all / 2 / $("$PERIGEE" explain "$demo" --kv f32 --json 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["kv_bytes_per_token"])')))
    hold $((n_tok / 64)) 64
    run run "$tmp/hold.lua"
    has "$err" "warning: keys and values of 64 x $((n_tok / 64)) tokens need"
    has "$err" "MiB of memory were free"
    if [ $((n_tok / 1024)) -le 4096 ]; then # as long as the demo's own context
        hold 1024 $((n_tok / 1024))
        run 1 run "$tmp/hold.lua" --strict
        has "$err" "--strict: keys and values of $((n_tok / 1024)) x 1024 tokens need"
    else
        echo "skipped: 4096 sessions fit into memory: --strict with less memory than keys and values"
    fi
else
    echo "skipped: more keys and values than memory: a sanitizer, another device, or limited address space"
fi
run 1 run "$demo" --raw --device nosuch Hello
has "$err" nosuch

# logits: rows for every token, the same for chunks and copies; atomic.
run logits -m "$demo" --tokens 1,2,3,4,5,6,7 -o "$tmp/a.bin"
run logits -m "$demo" --tokens 1,2,3,4,5,6,7 -o "$tmp/b.bin" --chunk 2 -t 1
run logits -m "$demo" --tokens 1,2,3,4,5,6,7 -o "$tmp/c.bin" --batch 3 --chunk 3
n_vocab=$("$PERIGEE" show "$demo" --metadata --json </dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin)["llama.vocab_size"])')
is "$(stat -c %s "$tmp/a.bin")" $((7 * n_vocab * 4))
cmp "$tmp/a.bin" "$tmp/b.bin" || fail "chunks change the logits"
cmp "$tmp/a.bin" "$tmp/c.bin" || fail "copies change the logits"
run 1 logits -m "$demo" --tokens 1,99999999 -o "$tmp/d.bin"
[ -e "$tmp/d.bin" ] && fail "half a file was left"
is "$(find "$tmp" -name 'd.bin*' | wc -l)" 0
run 1 logits -m "$demo" --tokens 1 -o /dev/full
has "$err" "No space left on device"
run 1 logits -m "$demo" --tokens 1,x -o "$tmp/d.bin"
has "$err" "found 'x'"

run bench -m "$demo" -p 16 -n 4 -r 2 -b 2 -d 8
has "$out" "tokens/s"
has "$out" "% of reading"
run bench -m "$demo" -p 16 -n 4 -r 2 --seed 3 --json
json 'len(d["pp_tps"]) == 2 and len(d["tg_tps"]) == 2 and min(d["pp_tps"] + d["tg_tps"]) > 0 and d["cached_tokens"] == 0'
json 'all(k in d for k in ("model", "device", "isa", "threads", "load_ms", "first_token_ms", "rss_mib"))'
json 'd["read_gbps"] > 0 and len(d["tg_read_fraction"]) == 2 and min(d["tg_read_fraction"]) > 0'
json '(d["unit"] is None and d["unit_gmacs"] is None and d["pp_unit_fraction"] is None) or (d["unit_gmacs"] > 0 and len(d["pp_unit_fraction"]) == 2 and min(d["pp_unit_fraction"]) > 0)'
json 'd["unit"] is None or abs(d["pp_unit_fraction"][0] / d["pp_unit_fraction"][1] / d["pp_tps"][0] * d["pp_tps"][1] - 1) < 0.001' # small parts too

# Where what the machine could do cannot be measured, for which 256 MiB are wanted, speeds are told all the same: the least
# room that is enough for the speeds leaves none for that.
if [ -z "${PERI_TEST_DEVICE:-}${SANITIZE:-}" ] && [ "$(ulimit -v)" = unlimited ]; then
    measured() {
        (
            ulimit -v "$1"
            "$PERIGEE" bench -m "$demo" -p 4 -n 2 -r 1 -t 1 "${@:2}"
        ) >"$tmp/out" 2>"$tmp/err" </dev/null
    }
    for ((room = 64 << 10; room < 4 << 20; room += 64 << 10)); do
        measured "$room" --json && break
    done
    has "$(cat "$tmp/err")" "no memory or threads to measure"
    json 'd["tg_tps"][0] > 0 and all(d[k] is None for k in ("read_gbps", "tg_read_fraction", "unit", "unit_gmacs", "pp_unit_fraction"))'
    measured "$room" || fail "status $?, expected 0"
    has "$(cat "$tmp/out")" "tokens/s"
    is "$(grep -c % "$tmp/out")" 0
    measured "$room" -q || fail "status $?, expected 0"
    is "$(cat "$tmp/err")" ""
    measured "$room" --strict && fail "--strict: status 0, expected 1"
    has "$(cat "$tmp/err")" "--strict: no shares of what the machine could do: no memory or threads to measure"
    has "$(cat "$tmp/out")" "tokens/s"
else
    echo "skipped: speeds without ceilings: a sanitizer, another device, or limited address space"
fi

# Ctrl-C ends an answer with status 130, a vanished reader without a word.
timeout --preserve-status -s INT 2 "$PERIGEE" run "$demo" --raw --temp 5 --top-k 0 --top-p 1 --min-p 0 -n -1 Hello >/dev/null 2>&1 </dev/null
status=$?
[ "$status" -eq 130 ] || [ "$status" -eq 0 ] || fail "status $status after Ctrl-C, expected 130, or 0 when the model ended first"
"$PERIGEE" run "$demo" --raw --temp 5 -n 200 Hello 2>"$tmp/err" </dev/null | head -c 1 >/dev/null
is "$(cat "$tmp/err")" ""
finish
