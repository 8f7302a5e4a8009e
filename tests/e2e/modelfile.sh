# SPDX-License-Identifier: MIT
# Modelfiles: run, show in both forms, render, what a script may read, what is wrong and what helps.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state
mkdir "$tmp/mf" && cd "$tmp/mf" || exit 1
cp "$demo" demo.gguf

cat >Modelfile <<'END'
# Ada
FROM ./demo.gguf
PARAMETER temperature 0
SYSTEM """You are Ada, a helpful assistant."""
END
run run Modelfile "What is your name?"
has "$out" "Ada"
is "$err" ""
answer=$out

run run "$SOURCE_DIR/examples/Modelfile" "What is your name?"
has "$out" "Ada"

# The same from elsewhere, in other encodings and line ends, without the extension, by a link.
cd / && run run "$tmp/mf/Modelfile" "What is your name?"
is "$out" "$answer"
cd "$tmp/mf" || exit 1
sed 's/$/\r/' Modelfile >crlf
run run crlf "What is your name?"
is "$out" "$answer"
{ printf '\377\376'; iconv -f UTF-8 -t UTF-16LE Modelfile; } >utf16
run run utf16 "What is your name?"
is "$out" "$answer"
cp demo.gguf bare && printf 'FROM bare\nPARAMETER temperature 0\nSYSTEM You are Ada, a helpful assistant.' >m
run run m "What is your name?"
is "$out" "$answer"
mkdir folder && ln -s ../demo.gguf folder/demo.gguf && sed 's,./demo.gguf,folder,' Modelfile >m
run run m "What is your name?"
is "$out" "$answer"
sed 's,./demo.gguf,~/demo.gguf,' Modelfile >m
HOME=$tmp/mf run run m "What is your name?"
is "$out" "$answer"

# Parameters: of the Modelfile, over them those of the command line.
{ cat Modelfile; echo 'PARAMETER stop Ada'; } >m
run run m "What is your name?"
is "$out" "${answer%%Ada*}"
{ cat Modelfile; echo 'PARAMETER num_predict 3'; } >m
run run m "What is your name?"
short=$out
run run Modelfile -n 3 "What is your name?"
is "$out" "$short"
run run m -n 100 "What is your name?"
is "$out" "$answer"
run run Modelfile --system "Your name is Bob." "What is your name?"
has "$out" "Bob"
printf 'FROM demo.gguf\nPARAMETER seed 7\nPARAMETER temperature 5\nPARAMETER top_k 0\nPARAMETER top_p 1\nPARAMETER num_ctx 512\nPARAMETER num_predict 40\n' >m
run run m "Hello"
first=$out
run run m "Hello"
is "$out" "$first"
sed -i 's/seed 7/seed -1/' m
run run m "Hello"
[ "$out" != "$first" ] || fail "seed -1 gave the text of seed 7"
{ cat Modelfile; echo 'PARAMETER num_ctx 8'; } >m
run 1 run m "What is your name?"
has "$err" "context"

# Messages stand before the user's, after the system message.
{ cat Modelfile; printf 'MESSAGE user Hi\nMESSAGE assistant Hello!\n'; } >m
run run m --trace "What is your name?"
has "$err" "Ada, a helpful assistant.<|end|><|user|>Hi<|end|><|assistant|>Hello!<|end|><|user|>What"

# Tools and includes.
cat >reader.lua <<'END'
local perigee = require "perigee"
return perigee.tool {
  name = "read_file", description = "Read a text file.", parameters = { path = "string" },
  run = function() return "The secret number is 48213." end,
}
END
printf 'PARAMETER temperature 0\nSYSTEM You are a helpful assistant.\nTOOL reader.lua\n' >tools
printf 'FROM demo.gguf\nINCLUDE tools\n' >m
run run m --trace "What number is in the file /notes/number.txt?"
has "$err" "read_file"
has "$out" "48213"
run show m
has "$out" "tools          read_file"

# Templates of Go.
cat >go <<'END'
FROM demo.gguf
PARAMETER temperature 0
SYSTEM You are Ada, a helpful assistant.
TEMPLATE """{{ if .System }}<|system|>{{ .System }}<|end|>{{ end }}<|user|>{{ .Prompt }}<|end|><|assistant|>{{ .Response }}<|end|>"""
MESSAGE user Hi
MESSAGE assistant Hello!
END
run run go --trace "What is your name?"
has "$out" "Ada"
has "$err" "<|system|>You are Ada, a helpful assistant.<|end|><|user|>Hi<|end|><|assistant|>Hello!<|end|><|user|>What is your name?<|end|><|assistant|>"
run show go --template
has "$out" "{{ .Prompt }}"
run show go --modelfile
has "$out" 'TEMPLATE {{ if .System }}<|system|>'
run run go --think "What is your name?"
has "$err" "the chat template knows no .Think"
sed 's/if .System/if/' go >m
run 1 run m hi
has "$err" "m:4:19: TEMPLATE: found }}, expected a value for if"
# The default template is for models that have none.
LC_ALL=C sed 's/tokenizer.chat_template/tokenizer.chat_templatX/' demo.gguf >mute.gguf
printf 'FROM mute.gguf\nSYSTEM Be kind.\nMESSAGE user Hi\nMESSAGE assistant Yes?\n' >m
echo '[{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three"}]' >talk.json
run render m --messages talk.json
is "$out" "OneTwoThree"
has "$err" "warning: the model has no chat template, so a prompt is what was said"
run show m --template
is "$out" "{{ .Prompt }}"
run run m -n 3 "Hello"
has "$err" "TEMPLATE in the Modelfile gives it one"
run 1 run mute.gguf "Hello"
has "$err" "has no chat template"
run show Modelfile --template
has "$out" "if messages[0].role"
run show Modelfile
has "$out" "the model's own, else {{ .Prompt }}"
cat >m <<'END'
FROM demo.gguf
PARAMETER temperature 0
SYSTEM You are a helpful assistant.
TOOL reader.lua
TEMPLATE """{{ if or .System .Tools }}<|system|>{{ .System }}{{ if .Tools }}
Tools:{{ range .Tools }}
# {{ .Function.Description }}
{{ .Function.Name }}({{ range $name, $p := .Function.Parameters.Properties }}{{ $name }}: {{ index $p.Type 0 }}{{ end }}){{ end }}{{ end }}<|end|>{{ end }}
{{- range .Messages }}
{{- if eq .Role "user" }}<|user|>{{ .Content }}<|end|>
{{- else if eq .Role "assistant" }}<|assistant|>{{ .Content }}{{ range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}<|end|>
{{- else if eq .Role "tool" }}<|tool|>{{ .Content }}<|end|>{{ end }}
{{- end }}<|assistant|>"""
END
run run m --trace "What number is in the file /notes/number.txt?"
is "$out" "The number in /notes/number.txt is 48213."
has "$err" '<tool_call>{"name": "read_file", "arguments": {"path":"/notes/number.txt"}}</tool_call><|end|><|tool|>The secret'
echo 'return { from = "demo.gguf", template = { go = "<|user|>{{ .Prompt }}<|end|><|assistant|>" }, parameters = { temp = 0 } }' >go.lua
run run go.lua --trace "Who are you?"
has "$err" "<|user|>Who are you?<|end|><|assistant|>"
run show go.lua --modelfile
has "$out" "TEMPLATE <|user|>{{ .Prompt }}<|end|><|assistant|>"

# Both forms in show.  What --modelfile prints does the same from anywhere, and prints the same.
run show Modelfile --modelfile
is "$out" "FROM $tmp/mf/demo.gguf
PARAMETER temperature 0
SYSTEM You are Ada, a helpful assistant."
cp "$tmp/out" "$tmp/printed"
run show "$tmp/printed" --modelfile
cmp -s "$tmp/out" "$tmp/printed" || fail "printing what was printed gave another text"
run run "$tmp/printed" "What is your name?"
is "$out" "$answer"
run show Modelfile --system
is "$out" "You are Ada, a helpful assistant."
run show Modelfile --system --json
is "$out" '{
  "system": "You are Ada, a helpful assistant."
}'
run show Modelfile --parameters
has "$out" "temp                0      Modelfile:3"
has "$out" "top_p               0.9    default of Modelfiles"
run show Modelfile --template
has "$out" "{%- "
run show demo.gguf --modelfile
is "$out" "FROM $tmp/mf/demo.gguf"
run show Modelfile
has "$out" "from           $tmp/mf/demo.gguf"
run 2 show Modelfile --tensors
has "$err" "--tensors is a part of a GGUF file, and TARGET is none"
cat >ada.lua <<'END'
return { from = "demo.gguf", system = "You are \"Ada\".\nSay so.", parameters = { temp = 0, stop = { "a ", "b" } },
  tools = { require "reader" } }
END
run show ada.lua --modelfile
is "$out" "FROM $tmp/mf/demo.gguf
SYSTEM \"\"\"You are \"Ada\".
Say so.\"\"\"
PARAMETER min_p 0.05
PARAMETER stop \"a \"
PARAMETER stop b
PARAMETER temperature 0
PARAMETER top_p 0.95
# not in a Modelfile: its tools (TOOL names a Lua file that returns them)"
has "$err" "not in a Modelfile: its tools"
run show ada.lua --parameters
has "$out" "  ada.lua"
has "$out" "  default"
run show ada.lua --system
is "$out" "You are \"Ada\".
Say so."

# An assistant in Lua on a Modelfile.
echo 'return { from = "Modelfile", system = "Your name is Bob." }' >bob.lua
run run bob.lua "What is your name?"
has "$out" "Bob"
run show bob.lua --parameters
has "$out" "Modelfile:3"
run show bob.lua --modelfile
has "$out" "SYSTEM Your name is Bob."
mkdir sub && echo 'return { from = "../Modelfile" }' >sub/up.lua
run 1 run sub/up.lua hi
has "$err" "--allow fs.read="
run run sub/up.lua --allow fs.read="$tmp/mf" "What is your name?"
is "$out" "$answer"
printf 'FROM demo.gguf\nPARAMETER num_keep 4\n' >m && echo 'return { from = "m" }' >m.lua
run run m.lua hi
has "$err" "m:2:20: PARAMETER num_keep has no effect"

# render
echo '[{"role": "user", "content": "Hi"}]' >messages.json
run render Modelfile --messages messages.json
has "$out" "You are Ada, a helpful assistant.<|end|><|user|>Hi<|end|><|assistant|>"

# What is wrong, and what helps.
printf 'FROM llama3\nSYSTEM Hi\n' >m
run 1 run m hi
has "$err" "m:1:6: FROM llama3: there is no file llama3; there is no model 'llama3'; perigee list shows the models there are"
run show m --system
is "$out" "Hi"
printf 'FROM demo.gguf\nSISTEM Hi\n' >m
run 1 run m hi
has "$err" 'm:2:1: found the instruction "SISTEM"'
has "$err" "did you mean SYSTEM?"
printf 'SYSTEM Hi\n' >m
run 1 run m hi
has "$err" "m: found no FROM line"
printf 'FROM demo.gguf\nADAPTER lora.gguf\n' >m
run 1 run m hi
has "$err" "m:2:9: ADAPTER lora.gguf: adapters are not in this version"
run show m --modelfile
is "$out" "FROM $tmp/mf/demo.gguf
ADAPTER lora.gguf"
printf 'FROM demo.gguf\nRENDERER poolside-v1\n' >m
run 1 run m hi
has "$err" "m:2:10: RENDERER poolside-v1: this version has no such format; known are"
printf 'FROM demo.gguf\nINCLUDE m\n' >m
run 1 run m hi
has "$err" "m:2:9: INCLUDE: m includes itself"
head -c 3000 "$demo" | tail -c 2000 >m
run 1 run m hi
has "$err" "m:1:1: found the instruction"

# Damaged files end with an error that has a place, or run; nothing crashes.
{ cat Modelfile; printf 'MESSAGE user "Hi"\nREQUIRES 0.14.0\nPARAMETER stop "a b "\n'; } >whole
python3 - <<'PYTHON'
import random
random.seed(5)
whole = open("whole", "rb").read()
for i in range(30):
    b = bytearray(whole)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(b))
        b[at:at + random.randint(0, 3)] = bytes(random.choice(b'"\n\r\t\0 \xff\xc2#AZ') for _ in range(random.randint(0, 3)))
    open(f"damaged{i}", "wb").write(b)
PYTHON
for i in $(seq 0 29); do
    timeout 20 "$PERIGEE" show "damaged$i" >"$tmp/out" 2>"$tmp/err" </dev/null
    status=$?
    n_check=$((n_check + 1))
    [ "$status" -eq 0 ] || { [ "$status" -eq 1 ] && grep -qE '^perigee: damaged[0-9]+:([0-9]+:[0-9]+: | found no FROM)' "$tmp/err"; } ||
        fail "damaged$i: exit status $status: $(cat "$tmp/err")"
done

finish
