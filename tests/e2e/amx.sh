# SPDX-License-Identifier: MIT
# The level avx512amx in the whole program: on a processor without tiles it is refused aloud; on emulated ones (tests/amx/cpu.so)
# the plugin passes the conformance kit and a model gives the bytes of avx512vnni.
. "$(dirname "$0")/harness.sh"
emulated=$BINARY_DIR/tests/amx
need_demo

# ---- this processor ----
run devices --json
"$PERIGEE" devices --json --set cpu.isa=avx512amx >"$tmp/wished" 2>/dev/null
if grep -q '"isa": "avx512amx"' "$tmp/wished"; then
    has "$out" '"isa": "avx512amx"'
else
    ids=1,2,3
    run 1 logits -m "$demo" --tokens $ids -o "$tmp/none.bin" --set cpu.isa=avx512amx
    has "$err" 'option cpu.isa: "avx512amx" is '
    has "$err" 'available: '
    case $err in *'"avx512amx" is a level of x86-64, this is '*) ;; *) has "$err" 'not for this processor (the ' ;; esac
    run logits -m "$demo" --tokens $ids -o "$tmp/plain.bin" -v -v --device cpu
    case $out$err in
    *'cpu: avx512amx is not used: '*) n_check=$((n_check + 1)) ;;
    *) grep -q avx512 "$tmp/wished" && fail "--verbose does not tell why avx512amx is not used: $err" ;;
    esac
fi

# ---- emulated tiles ----
export PERIGEE_PLUGIN_PATH=$emulated
if [ ! -f "$emulated/cpu.so" ] || ! "$PERIGEE" devices --json 2>/dev/null | grep -q '"isa": "avx512amx"'; then
    echo "skipped: emulated tiles need a processor with AVX-512 and VNNI"
    finish
fi
run plugin-check "$emulated/cpu.so" --set cpu.isa=avx512amx --json
has "$out" '"passed": true'
has "$out" '"isa": "avx512amx"'
ids=$(seq -s, 1 61)
"$BINARY_DIR/tests/tiny_model" qwen3moe BF16 1 "$tmp/bf16.gguf" || fail "tiny_model"
for model in "$demo" "$tmp/bf16.gguf"; do
    for isa in avx512vnni avx512amx; do
        run logits -m "$model" --tokens "$ids" -o "$tmp/$isa.bin" --set cpu.isa=$isa --device cpu
    done
    n_check=$((n_check + 1))
    cmp "$tmp/avx512vnni.bin" "$tmp/avx512amx.bin" || fail "$model: logits on tiles differ"
done
finish
