# SPDX-License-Identifier: MIT
# Chains of samplers and policies from the outside: bench --sampler, show --parameters, whose word
# counts, and a policy that fails.
. "$(dirname "$0")/harness.sh"
need_demo
cd "$tmp" || exit 1

# The described chain is the native one on whatever logits.
for seed in 1 2 3 4 5 6; do
    run bench --sampler --vocab $((seed * 3001)) -n 60 -r 1 --seed $seed --json
    has "$out" '"same_tokens": true'
    has "$out" '"policy_us": '
done
cat >mine.lua <<'EOF'
return { state = { n = 0 }, choose = function(c, state)
  state.n = state.n + 1
  c:keep(5)
end }
EOF
run bench --sampler --vocab 500 -n 20 -r 2 --policy mine.lua
has "$out" "with policy mine.lua"
has "$out" "bit for bit"
run bench --sampler -m "$demo" -n 20 -r 1 --json
has "$out" '"n_vocab": 1024'
run 1 bench --sampler --policy entropi -n 20 -r 1
has "$err" "no policy is called entropi; did you mean entropy?"
run 1 bench --sampler --policy no.lua -n 20 -r 1
has "$err" "no.lua"
printf 'return function(c)\n  c:id(0)\nend\n' >bad.lua
run 1 bench --sampler --policy bad.lua -n 20 -r 1
has "$err" "bad.lua:2: id: found 0, expected a candidate from 1 to 40"
run 2 bench --sampler -p 3
run 2 bench --policy mine.lua -m "$demo"
run 2 bench --sampler --vocab 100 -m "$demo"

# What an assistant says of its chain, and where it is from.
mkdir made
cp mine.lua made/mine.lua
cat >made/a.lua <<EOF
return {
  from = "$demo",
  sampler = { "penalties", { "top_k", 30 }, { policy = "mine.lua" }, { "temperature", 0.7 } },
}
EOF
run show made/a.lua --parameters
has "$out" "penalties;top_k;policy mine.lua;temperature  made/a.lua"
has "$(printf %s "$out" | tr -s ' ')" "top_k 30 made/a.lua"
has "$(printf %s "$out" | tr -s ' ')" "top_p 0.95 default"
run show made/a.lua --parameters --json
has "$(printf %s "$out" | tr -d ' \n')" '"samplers":{"value":["penalties","top_k",{"policy":"mine.lua","settings":{}},"temperature"],"origin":"made/a.lua"}'
run show made/a.lua --modelfile
has "$out" "PARAMETER samplers penalties;top_k;temperature"
has "$out" "# not in a Modelfile: its sampling policy mine.lua"
has "$err" "not in a Modelfile: its sampling policy mine.lua"
run show "$demo" --parameters
has "$(printf %s "$out" | tr -s ' ')" "samplers penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature default of run"
printf 'FROM %s\nPARAMETER samplers top_k;temperature\nPARAMETER top_k 7\n' "$demo" >Modelfile
run show Modelfile --parameters
has "$(printf %s "$out" | tr -s ' ')" "samplers top_k;temperature Modelfile:2"

# An assistant's chain is above its Modelfile's, and options are above both.
cat >made/over.lua <<EOF
return { from = "Modelfile", sampler = { { "min_p", 0.1 }, { policy = "bad.lua" } } }
EOF
cp bad.lua Modelfile made/
cd made || exit 1
run show over.lua --parameters
has "$(printf %s "$out" | tr -s ' ')" "samplers min_p;policy bad.lua over.lua"
has "$(printf %s "$out" | tr -s ' ')" "top_k 7 "
run 1 run over.lua -n 3 --seed 1 Hello
has "$err" "sampling policy: bad.lua:2: id: found 0, expected a candidate from 1 to"
run run over.lua -n 3 --seed 1 --samplers "top_k;temperature" Hello
cd .. || exit 1
run run made/a.lua -n 8 --seed 1 --temp 0 Hello
cold=$out
printf 'return { from = "%s", parameters = { temp = 0 } }\n' "$demo" >made/greedy.lua
run run made/greedy.lua -n 8 --seed 1 Hello
is "$cold" "$out"

# A policy lies beside the file that names it, whoever builds on that.
mkdir made/base
cp made/a.lua made/mine.lua made/base/
rm made/mine.lua
printf 'return { sampler = { { policy = "part.lua" } } }\n' >made/base/cut.lua
printf 'return function(c) c:keep(1) end\n' >made/base/part.lua
printf 'return { from = "base/a.lua", with = { "base/cut.lua" } }\n' >made/child.lua
run show made/child.lua --parameters
has "$(printf %s "$out" | tr -s ' ')" "samplers policy part.lua made/child.lua"
has "$(printf %s "$out" | tr -s ' ')" "top_k 30 "
printf 'return require("perigee").assistant { from = "base/a.lua", parameters = { top_k = 9 } }\n' >made/other.lua
run show made/other.lua --parameters
has "$(printf %s "$out" | tr -s ' ')" "samplers penalties;top_k;policy mine.lua;temperature made/base/a.lua"
has "$(printf %s "$out" | tr -s ' ')" "top_k 9 made/other.lua"

# Mistakes name the script's line.
printf 'local p = require "perigee"\nreturn (p.assistant {\n  from = "x.gguf", sampler = { { policy = "base/mine.lua", low = 1 } } })\n' >made/wrong.lua
run 1 show made/wrong.lua
has "$err" "made/wrong.lua:2: sampler[1]: sampling policy: base/mine.lua: setting 'low': the policy has no settings"
printf 'return { from = "x.gguf", sampler = { { policy = "../bad.lua" } } }\n' >made/outside.lua
run 1 show made/outside.lua
has "$err" "sampler[1]: reading "
has "$err" "is not allowed"
finish
