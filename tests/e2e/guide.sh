# SPDX-License-Identifier: MIT
# The guide for authors (examples/README.md): its files are written as they stand there, and each of its commands succeeds.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config
cd "$tmp" || exit 1
python3 -B - "$SOURCE_DIR/examples/README.md" <<'PYTHON' || fail "examples/README.md: found no scripts"
import re
import sys
text = open(sys.argv[1], encoding="utf-8").read()
blocks = [re.sub(r"(?m)^ {4}", "", b) for b in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M)]
commands = re.findall(r"(?m)^    \$ perigee (.*)$", text)
parts = []
for block in blocks:
    parts += re.split(r"(?m)^(?=-- \w+\.lua$)", re.sub(r"(?m)^\$ .*$", "", block))
files = {m[1]: p for p in parts if (m := re.match(r"-- (\w+\.lua)\n", p))}
for name, content in files.items():
    open(name, "w").write(content)
open("commands", "w").write("".join(re.sub(r"\s+#.*$", "", c) + "\n" for c in commands))
sys.exit(0 if len(files) >= 6 and len(commands) >= 12 else 1)
PYTHON
if ! "$PERIGEE" test polite_spec.lua >/dev/null 2>err </dev/null && grep -q "luaunit is missing" err; then
    sed -i '/^test /d' commands
fi
while read -r line; do
    eval "set -- $line"
    run "$@"
    [ -n "$out" ] || fail "perigee $line said nothing"
    case $line in
    "run ada.lua "*) has "$out" Ada ;;
    "run dice.lua "*) has "$err" "--- call roll_dice" ;;
    *password*) is "$out" "I do not talk about passwords." ;;
    *"careful_ada.lua --system") is "$out" 'You are Ada, a helpful assistant.

If you do not know something, say so.

Answer in one sentence.' ;;
    esac
done <commands
# Every assistant that comes along is in its table, and the other way round.
listed=$(sed -n 's/^| `\([a-z]*\)` | [^|]*|$/\1/p' "$SOURCE_DIR/examples/README.md" | sort)
there=$(ls "$SOURCE_DIR/scripts/personality" | sed -n 's/\.lua$//p' | grep -v '^demo$' | sort)
for name in $there; do has "$listed" "$name"; done
finish
