# SPDX-License-Identifier: MIT
# Files that are missing, no models, or cannot be written.
. "$(dirname "$0")/harness.sh"

for command in "run --raw" show explain; do
    run 1 $command "$tmp/none.gguf"
    has "$err" "none.gguf"
    is "$out" ""
done
printf 'this is no model file at all, only text of some length\n' >"$tmp/text.gguf"
run 1 show "$tmp/text.gguf"
has "$err" "text.gguf"
has "$err" "offset 0"
: >"$tmp/empty.gguf"
run 1 show "$tmp/empty.gguf"
has "$err" "empty.gguf"
run 1 show "$tmp"
has "$err" "$tmp"
run 1 run --raw "$tmp/text.gguf" hello
# A file name that would steer a terminal is shown harmlessly.
name=$tmp/$(printf 'a\033[31mb').gguf
printf 'GGUF' >"$name"
run 1 show "$name"
is "$(printf %s "$err" | tr -d '\n' | LC_ALL=C tr -d ' -~' | wc -c)" 0
has "$err" '\x1b[31m'

run 1 show --arch no-such-architecture
has "$err" "no-such-architecture"
run show --arch llama
has "$out" llama
run show --arch llama --json
python3 -c 'import json,sys; assert json.load(sys.stdin)["arch"]' <"$tmp/out" || fail "show --arch --json"

# stdout: a full disk is an error, a reader that goes away is none of ours.
"$PERIGEE" devices >/dev/full 2>"$tmp/err" </dev/null
is $? 1
has "$(cat "$tmp/err")" "cannot write the output: No space left on device"
"$PERIGEE" --help 2>"$tmp/err" </dev/null | head -n 1 >"$tmp/out"
has "$(cat "$tmp/out")" perigee
is "$(cat "$tmp/err")" ""
finish
