# SPDX-License-Identifier: MIT
# Options, help and errors that need no model.
. "$(dirname "$0")/harness.sh"
commands="run show devices explain bench logits tokenize detokenize render test cache"

run --version
has "$out" "perigee 0."
run --help
for c in $commands; do has "$out" "  $c "; done
run help bench
has "$out" "perigee bench - "
for c in $commands; do
    run "$c" --help
    is "$err" ""
    for part in USAGE DESCRIPTION OPTIONS "EXIT STATUS" EXAMPLES; do has "$out" "$part"; done
    is "$(awk 'length > 90' "$tmp/out")" "" # no line is cut by a terminal
done

run help lua
has "$out" "chat:send(message)"
run help lua on_tool_call perigee.fs.read
has "$out" "assistant.on_tool_call?: fun("
has "$out" "perigee.fs.read(path, max_bytes)"
run 1 help lua chat:sned
has "$err" "nothing is called chat:sned; did you mean chat:send?"
run help lua --help
has "$out" "perigee help lua [NAME...]"

run 2
has "$err" "COMMANDS"
is "$out" ""
run 2 rnu
has "$err" "did you mean 'run'?"
run 2 zzzzzz
has "$err" "unknown command 'zzzzzz'"
run 2 --frobnicate
has "$err" "unknown option '--frobnicate'"
run 2 run --tmep 1 x.gguf
has "$err" "unknown option '--tmep'; did you mean '--temp'?"
has "$err" "perigee run --help"
run 2 run -Z x.gguf
has "$err" "unknown option '-Z'"
run 2 run -n
has "$err" "needs a value: N"
run 2 run --raw=yes x.gguf
has "$err" "--raw takes no value"
for bad in abc 1.5 99999999999999999999 -7 ''; do
    run 2 run x.gguf --raw -n "$bad"
    has "$err" "expected a whole number from -1"
done
for bad in nan inf 1e999 -1 x; do
    run 2 run x.gguf --raw --temp "$bad"
    has "$err" "--temp: found '$bad', expected a number"
done
run 2 run x.gguf --raw --kv f64
has "$err" "expected f16|f32"
run 2 run x.gguf --raw --seed -1
has "$err" "--seed"
run 2 run
has "$err" "too few arguments"
run 2 show
run 2 show a.gguf b.gguf
has "$err" "unexpected argument 'b.gguf'"
run 2 run x.gguf --think --no-think hello
has "$err" "contradict"
run 2 run x.gguf --think=hgih hello
has "$err" "--think: found 'hgih', expected true|false|low|medium|high"
run 2 run x.gguf --think high hello
has "$err" "--think high: the value goes behind an =, --think=high"
run 2 run x.gguf --raw --think=low hello
has "$err" "--think has no meaning with --raw"
run 2 render x.gguf --think= --messages m.json
has "$err" "--think: found '', expected true|false"
run 2 run x.gguf --greedy --temp 1 hello
has "$err" "contradict"
run 2 run x.gguf --parse-special hello
has "$err" "--parse-special is for --raw"
run 2 run x.gguf --raw --system x hello
has "$err" "--system has no meaning with --raw"
run 2 run x.gguf --logit-bias 5=1 hello
has "$err" "expected ID:NUMBER or ID:false"
run 2 run x.gguf --top_kk 5
has "$err" "did you mean '--top_k'?"
run 2 render x.gguf
has "$err" "--messages FILE"
run 2 test
run 2 bench
has "$err" "-m MODEL"
run 2 logits -m x.gguf -o y
has "$err" "--tokens"
run 2 logits -m x.gguf --tokens 1
has "$err" "-o OUT"
run 2 tokenize
run 2 bench -m x.gguf -p 0 -n 0
run 1 devices --set nonsense
has "$err" "expected KEY=VALUE"
finish
