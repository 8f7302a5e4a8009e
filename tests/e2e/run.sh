# SPDX-License-Identifier: MIT
# perigee run without --raw: answers, scripts, what is wrong and what helps.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state
cd "$tmp" || exit 1

# Like run, with text on stdin.
run_with() {
    local text=$1 expected=$2 status
    shift 2
    printf %s "$text" | "$PERIGEE" "$@" >"$tmp/out" 2>"$tmp/err"
    status=$?
    out=$(cat "$tmp/out") err=$(cat "$tmp/err")
    n_check=$((n_check + 1))
    [ "$status" -eq "$expected" ] || fail "perigee $*: exit status $status, expected $expected: $err"
}

# A model as it is: words, stdin, a file, and all of them.
run run "$demo" --greedy Who are "you?"
has "$out" "Perigee demo model"
is "$err" ""
answer=$out
run_with $'Who are you?\n' 0 run "$demo" --greedy
is "$out" "$answer"
printf 'Who are' >words.txt
run_with '' 0 run "$demo" --greedy --prompt-file words.txt
run run "$demo" --greedy --prompt-file "$SOURCE_DIR/LICENSE" -n 1
run run "$demo" --greedy -n 3 "Who are you?"
has "$answer" "$(printf %s "$out" | head -c 8)"
run run "$demo" --greedy --stop demo "Who are you?"
is "$out" "${answer%%demo*}"
run run "$demo" --seed 7 --temp 1.5 --top_k 50 "Who are you?"
first=$out
run run "$demo" --seed 7 --temp 1.5 --top-k 50 "Who are you?"
is "$out" "$first"
run run "$demo" --greedy --logit-bias "$("$PERIGEE" tokenize -m "$demo" --no-special <<<I | cut -d' ' -f1):false" "Who are you?"
[ "$out" != "$answer" ] || fail "--logit-bias changed nothing"
run run "$demo" --samplers "top_k;temperature" --top-k 1 "Who are you?"
is "$out" "$answer"
run 1 run "$demo" --samplers "top_kk" "Who are you?"
has "$err" "did you mean top_k?"
run run "$demo" --kv f32 --repeat-penalty 1.3 --dry-multiplier 0.5 --dry-sequence-breaker ";" "Who are you?"
for kv in q8_0 q4_0; do
    run run "$demo" --device cpu --greedy --kv $kv "Who are you?"
    is "$out" "$answer"
    run run "$demo" --device cpu --raw --parse-special --greedy --kv $kv "<|user|>Who are you?<|end|><|assistant|>"
    is "$out" "$answer"
done
run run "$demo" --raw --parse-special --greedy "<|user|>Who are you?<|end|><|assistant|>"
is "$out" "$answer"
run run "$demo" --raw --seed 3 --xtc-probability 0.5 --mirostat 2 "Once"
first=$out
run run "$demo" --raw --seed 3 --xtc-probability 0.5 --mirostat 2 "Once"
is "$out" "$first"
run 1 run "$demo" --raw --samplers top_kk "Once"
has "$err" "did you mean top_k?"
run run "$demo" --greedy --system "Your name is Ada." "What is your name?"
has "$out" "Ada"
run run "$demo" --greedy -v "Who are you?"
is "$out" "$answer"
has "$err" "plugin ${PERI_TEST_DEVICE:-cpu}"
has "$err" "tokens/s"
run run "$demo" --greedy --trace "Who are you?"
is "$out" "$answer"
for part in "--- prompt" "<|user|>Who are you?<|end|><|assistant|>" "--- token ids" "--- reply"; do has "$err" "$part"; done

# Scripts.
printf 'print("hello", ...)\n' >hello.lua
run run hello.lua one "two words"
is "$out" "hello	one	two words"
run run hello.lua --temp 1
has "$err" "returned no assistant, so --temp had no effect"
printf 'return { from = "%s", system = "Your name is Ada.", parameters = { temp = 0 } }\n' "$demo" >ada.lua
run run ada.lua "What is your name?"
has "$out" "Ada"
run run ada.lua --system "Your name is Bo." "What is your name?"
has "$out" "Bo"
printf 'error("oh no")\n' >bad.lua
run 1 run bad.lua
has "$err" "bad.lua:1: oh no"
printf 'return {\n' >syntax.lua
run 1 run syntax.lua
has "$err" "syntax.lua:"
printf 'return { from = "%s", parameters = { tempp = 0 } }\n' "$demo" >misspelt.lua
run 1 run misspelt.lua hi
has "$err" "tempp is unknown; did you mean temp?"
printf 'local perigee = require "perigee"\nlocal t = perigee.tool {\n  name = "t",\n  parameters = { path = "strng" },\n  run = print,\n}\n' >tool.lua
run 1 run tool.lua
has "$err" "tool.lua:2:"
has "$err" 'did you mean str'
printf 'return { from = "nowhere.gguf" }\n' >lost.lua
run 1 run lost.lua hi
has "$err" "lost.lua:1: from: there is no file nowhere.gguf"
printf 'return { from = "x", tools = { { name = "t", parameters = { type = "objekt", properties = {} }, run = print } } }\n' >schema.lua
run 1 run schema.lua hi
has "$err" 'tools[1] (t).parameters.type: found the string "objekt", expected "object"'
printf 'while true do end\n' >endless.lua
run 1 run endless.lua
has "$err" "endless.lua:1: script ran"

# What is no target.
run 1 run no-such-model hi
has "$err" "there is no file 'no-such-model' here"
has "$err" "give the path of a .gguf file, a .lua file or a Modelfile"
run 1 run helo.lua
has "$err" "helo.lua: cannot open: No such file or directory; did you mean 'hello.lua'?"
run 1 run "$tmp"
has "$err" "this is a folder"
printf 'nothing much' >plain.txt
run 1 run plain.txt hi
has "$err" 'plain.txt:1:1: found the instruction "nothing"'
run 1 run "$demo"
has "$err" "the prompt is empty"
run_with 'a'$'\xff''b' 1 run "$demo"
printf 'a\0b' | "$PERIGEE" run "$demo" >"$tmp/out" 2>"$tmp/err"
is "$?" 1
has "$(cat "$tmp/err")" "NUL"

# Grants.
mkdir -p secret
echo 4711 >secret/x.txt
cat >reads.lua <<'LUA'
local perigee = require "perigee"
local text, err = perigee.fs.read("secret/x.txt")
print(text or err)
LUA
run run reads.lua
has "$out" "--allow fs.read"
run run reads.lua --allow fs.read=secret
has "$out" "4711"
run 1 run reads.lua --allow fs.red=secret

# A reader that goes away ends the program quietly.
"$PERIGEE" run "$demo" --ignore-eos --greedy "Who are you?" 2>"$tmp/err" | head -c 5 >"$tmp/out"
is "${PIPESTATUS[0]}" 141
is "$(cat "$tmp/err")" ""
finish
