# SPDX-License-Identifier: MIT
# perigee render against the reference implementation of the template language.
. "$(dirname "$0")/harness.sh"
need_demo
python3 -c 'import jinja2' 2>/dev/null || { echo "skipped: no Python Jinja2 (python3-jinja2)"; exit 77; }
cd "$tmp" || exit 1
cat >m.json <<'JSON'
[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi <|end|> \u00fc"},
 {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": "x"}}}]},
 {"role": "tool", "content": "42"}]
JSON
cat >t.json <<'JSON'
[{"type": "function", "function": {"name": "f", "description": "Does f.", "parameters":
  {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]}}}]
JSON
python3 -B - "$SOURCE_DIR/examples/demo-model" >expected <<'PYTHON'
import json
import sys
sys.path.insert(0, sys.argv[1])
from template import Template
sys.stdout.write(Template().render(json.load(open("m.json")), json.load(open("t.json")), True))
PYTHON
run render "$demo" --messages m.json --tools t.json
cmp -s "$tmp/out" expected || fail "found '$out', expected '$(cat expected)'"
run 2 render "$demo"
has "$err" "--messages"
run 1 render "$demo" --messages nowhere.json
has "$err" "nowhere.json"
echo '["x"]' >bad.json
run 1 render "$demo" --messages bad.json
has "$err" "bad.json: entry 1 is no object"
echo 'return { from = "'"$demo"'", system = "Be kind." }' >kind.lua
echo '[{"role": "user", "content": "x"}]' >x.json
run render kind.lua --messages x.json
is "$out" "<|system|>Be kind.<|end|><|user|>x<|end|><|assistant|>"
cat >levels.lua <<END
return { from = "$demo", template = "{{ reasoning_effort | default('no level') }} {{ enable_thinking }}",
  parameters = { think = "low" } }
END
run render levels.lua --messages x.json
is "$out" "low True"
run render levels.lua --messages x.json --think=high
is "$out" "high True"
is "$err" ""
run render levels.lua --messages x.json --think=false
is "$out" "no level False"
run render "$demo" --messages x.json --think
has "$err" "warning: the chat template knows no enable_thinking; think has no effect"
run render kind.lua --messages x.json --no-generation-prompt
is "$out" "<|system|>Be kind.<|end|><|user|>x<|end|>"
echo '[{"role": ]' >bad.json
run 1 render "$demo" --messages bad.json
has "$err" "bad.json"
finish
