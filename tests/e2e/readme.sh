# SPDX-License-Identifier: MIT
# The scripts of README.md run as they stand there, and its commands exist.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config
cd "$tmp" || exit 1
mkdir examples
ln -s "$SOURCE_DIR/examples/demo-model" examples/demo-model
python3 -B - "$SOURCE_DIR/README.md" <<'PYTHON' || fail "README.md: found no scripts"
import re
import sys
text = open(sys.argv[1], encoding="utf-8").read()
blocks = [re.sub(r"(?m)^ {4}", "", b) for b in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M)]
blocks = [re.split(r"(?m)^\$ ", b)[0] for b in blocks]     # without the commands below a script
ada = next(b for b in blocks if "-- ada.lua" in b)
dice = next(b for b in blocks if "roll_dice" in b)
modelfile = next(b for b in blocks if "# Modelfile" in b).lstrip("\n")
session = next(b for b in blocks if "model:session" in b)
mischief = next(b for b in blocks if "-- mischief.lua" in b)
mischief, rogue = mischief.split("-- rogue.lua")
open("mischief.lua", "w").write(mischief)
open("rogue.lua", "w").write(rogue)
open("ada.lua", "w").write(ada)
open("dice.lua", "w").write(dice)
open("Modelfile", "w").write(modelfile)
open("session.lua", "w").write('local perigee = require "perigee"\n' + session.replace('"model.gguf"', '"examples/demo-model/perigee-demo.gguf"'))
PYTHON
run run ada.lua "What is your name?"
has "$out" Ada
run run Modelfile "What is your name?"
has "$out" Ada
run show Modelfile --parameters
has "$out" "Modelfile:3"
run run dice.lua --trace "Pick a random number from 1 to 6."
has "$err" "--- call roll_dice"
run run rogue.lua -n 8 "What is your name?"
[ -n "$out" ] || fail "rogue.lua said nothing"
run show rogue.lua --parameters
has "$out" 'policy mischief.lua {"every":3}'
run bench --sampler --policy mischief.lua --vocab 500 -n 10 -r 1
run run session.lua
[ -n "$out" ] || fail "session.lua printed nothing"
grep -o '^    \$ perigee [a-z-]*' "$SOURCE_DIR/README.md" | awk '{ print $3 }' | sort -u >commands
while read -r command; do
    run "$command" --help
done <commands
finish
