# SPDX-License-Identifier: MIT
# Folders of assistants, names, what builds on what, and what is said when it is wrong.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config
mkdir -p "$tmp/here" "$tmp/team" "$XDG_DATA_HOME/perigee/assistants" && cd "$tmp/here" || exit 1
ln -s "$demo" "$tmp/team/toy.gguf"
cat >"$tmp/team/ada.lua" <<'LUA'
return { from = "toy", system = "You are Ada, a helpful assistant.", parameters = { temp = 0 } }
LUA
cat >"$tmp/team/brief.lua" <<'LUA'
return { from = "ada.lua", parameters = { max = 3 } }
LUA
printf 'FROM toy.gguf\nPARAMETER temperature 0\nSYSTEM You are Grace.\n' >"$tmp/team/grace.modelfile"
cp "$tmp/team/toy.gguf" "$XDG_DATA_HOME/perigee/assistants/own.gguf"
printf 'return { from = "own", system = "mine" }\n' >"$XDG_DATA_HOME/perigee/assistants/tutor.lua"

# A folder is a set of models.
run run --assistants ../team ada "What is your name?"
has "$out" Ada
run run --assistants ../team --assistants . grace "What is your name?"
has "$out" Grace
run run --assistants ../team toy "Hello"
[ -n "$out" ] || fail "the model said nothing"
run run --assistants ../team brief -n 2 "What is your name?"
has "$err" "the most tokens it may have"
run run coder -m "$tmp/team/toy.gguf" "Hello"
[ -n "$out" ] || fail "the model said nothing"
run show tutor --system # the person's own comes first
is "$out" mine
run show translator
has "$out" "built on"
has "$out" "on_request"
run show --assistants ../team brief --parameters
has "$out" "brief.lua"
has "$out" "ada.lua"
printf '[{"role": "user", "content": "Hi"}]' >m.json
run render --assistants ../team ada --messages m.json
has "$out" "You are Ada"

# Printed as Lua it is the same assistant, in one file.
run show --assistants ../team brief --lua
cp "$tmp/out" printed.lua
run show printed.lua --system
is "$out" "You are Ada, a helpful assistant."
run run printed.lua "What is your name?"

# Files, grants.
mkdir notes && echo "The bus leaves at 7:40." >notes/bus.txt
run run notes --allow fs.read=notes --greedy "Read the note bus.txt."
has "$out" 7:40
run 1 run notes "List the notes."
has "$err" "add --allow fs.read=$tmp/here/notes"

# What is wrong is told with what would help.
run 1 run tutr
has "$err" "there is no file 'tutr' here, no assistant of that name and no model of that name; did you mean 'tutor'?"
run 1 run nothing-like-that
has "$err" "no assistant of that name"
printf 'FROM ../team/toy.gguf\n' >tutor
run 1 run tutor "Hi"
has "$err" "tutor is both the file $tmp/here/tutor and the assistant"
run run ./tutor "Hi"
cp ../team/ada.lua "$tmp/team/grace.lua"
run 1 run --assistants ../team grace "Hi"
has "$err" "the assistant grace is both ../team/grace.lua and ../team/grace.modelfile; rename one"
cd .. || exit 1
run 1 run team
has "$err" "team is a folder; name one of its assistants (ada, brief, grace, grace, toy) behind --assistants team"
cd here || exit 1
run 2 run --raw -m x.gguf "$demo" hi
has "$err" "--model has no meaning with --raw"

wrong() { # FILE TEXT: running FILE says TEXT
    run 1 run "$1" hi
    has "$err" "$2"
}
printf 'return {\n  from = "../team/toy.gguf",\n  sytem = "x",\n}\n' >key.lua
wrong key.lua "key.lua:3: sytem is unknown; did you mean system?"
printf 'return {\n  from = "../team/toy.gguf",\n  parameters = { temp = "hot" },\n}\n' >type.lua
wrong type.lua 'type.lua:3: parameters.temp: found the string "hot", expected a number'
printf 'return { from = "nowhere.gguf" }\n' >model.lua
wrong model.lua "model.lua:1: from: there is no file nowhere.gguf"
printf 'return { from = "toy.guf" }\n' >name.lua
wrong name.lua "name.lua: "
printf 'return { from = "b.lua" }\n' >a.lua
printf 'return { from = "a.lua" }\n' >b.lua
wrong a.lua "b.lua:1: from leads in a circle: a.lua -> b.lua -> a.lua"
printf 'return {\n  from = "../team/toy.gguf",\n  on_request = function(r)\n    r.messages = r.nothing.x\n  end,\n}\n' >hook.lua
wrong hook.lua "hook.lua:4: attempt to index a nil value (field 'nothing') (in on_request of hook.lua)"
printf 'local perigee = require "perigee"\nreturn {\n  from = "../team/toy.gguf",\n  tools = { perigee.tool { name = "f", run = print,\n    parameters = { a = "strin" } } },\n}\n' >tool.lua
wrong tool.lua 'tool.lua:4: tool (f).parameters.a: the type "strin" is unknown; did you mean string?'
printf 'return {\n  from = "../team/toy.gguf",\n  with = { "part.lua" },\n}\n' >with.lua
wrong with.lua "with.lua:3: with: there is no file part.lua"
printf 'return { from = "tutr" }\n' >tutr.lua
wrong tutr.lua "tutr.lua: from: there is no file 'tutr' here, no assistant of that name and no model of that name"
printf 'local x = {\n  from = "../team/toy.gguf",\n}\n' >silent.lua
run run silent.lua hi
has "$err" "silent.lua returned nothing, so there is nobody to talk to"
printf 'return { system = "no model" }\n' >nofrom.lua
wrong nofrom.lua 'nofrom.lua: the assistant has no from; add from = "model.gguf"'
finish
