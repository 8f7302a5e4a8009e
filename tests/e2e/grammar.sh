# SPDX-License-Identifier: MIT
# perigee run --format, --grammar and --grammar-trigger with the bundled model.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state
cd "$tmp" || exit 1

# An answer is JSON of the schema, whatever the seed.
cat >person.json <<'END'
{"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
  "age": {"type": "integer", "minimum": 0, "maximum": 120},
  "drinks": {"type": "array", "items": {"enum": ["tea", "coffee"]}, "maxItems": 2}},
 "required": ["name", "age", "drinks"], "additionalProperties": false}
END
cat >look.lua <<'END'
local json = require("perigee").json
local text = ...
local v = assert(json.decode(text))
assert(type(v.name) == "string" and utf8.len(v.name) <= 12, text)
assert(math.type(v.age) == "integer" and v.age >= 0 and v.age <= 120, text)
assert(#v.drinks <= 2, text)
for _, drink in ipairs(v.drinks) do assert(drink == "tea" or drink == "coffee", text) end
for key in pairs(v) do assert(key == "name" or key == "age" or key == "drinks", text) end
END
for seed in 1 2 3 4 5 6; do
    run run "$demo" --format person.json --seed $seed --temp 1.5 "Who is Ada?"
    answer=$out
    run run look.lua "$answer"
done
run run "$demo" --format person.json --seed 6 --temp 1.5 "Who is Ada?"
is "$out" "$answer"

# A grammar, with a template and without, and one that waits.
printf 'root ::= ("yes" | "no") "."\n' >yesno.gbnf
run run "$demo" --grammar yesno.gbnf --temp 2 --seed 4 "Is water wet?"
case $out in yes. | no.) ;; *) fail "--grammar: found $out" ;; esac
run run "$demo" --raw --grammar yesno.gbnf --temp 2 --seed 4 "Is water wet?"
case $out in yes. | no.) ;; *) fail "--raw --grammar: found $out" ;; esac
run run "$demo" --greedy "Who are you?"
plain=$out
run run "$demo" --greedy --grammar yesno.gbnf --grammar-trigger "no such text" "Who are you?"
is "$out" "$plain"
run run "$demo" --greedy --grammar yesno.gbnf --grammar-trigger demo "Who are you?"
case $out in "${plain%%demo*}demo"yes. | "${plain%%demo*}demo"no.) ;; *) fail "trigger: found $out" ;; esac

# A Modelfile and an assistant say it themselves.
printf 'FROM %s\nPARAMETER format json\nPARAMETER num_predict 40\nSYSTEM "Be brief."\n' "$demo" >Modelfile
run run Modelfile "Who are you?"
case $out in "{"*) ;; *) fail "PARAMETER format: found $out" ;; esac
cat >choice.lua <<END
return { from = "$demo", parameters = { format = { choice = { "left", "right" } } } }
END
run run choice.lua "Where?"
case $out in left | right) ;; *) fail "choice: found $out" ;; esac

# What is wrong is told where it stands.
printf 'root ::= "a"\nroot ::= "b"\n' >bad.gbnf
run 1 run "$demo" --grammar bad.gbnf Hi
has "$err" 'line 2, column 1: the rule "root" is defined in line 1 already'
run 1 run "$demo" --raw --grammar bad.gbnf Hi
has "$err" 'line 2, column 1'
printf '{"type": "array", "uniqueItems": true}' >bad.json
run 1 run "$demo" --format bad.json Hi
has "$err" "bad.json.uniqueItems: a grammar cannot keep it"
printf '{"type": ' >worse.json
run 1 run "$demo" --format worse.json Hi
has "$err" "worse.json: line 1"
run 2 run "$demo" --format json --grammar yesno.gbnf Hi
run 2 run "$demo" --grammar-trigger x Hi
run 2 run "$demo" --raw --format json Hi
finish
