# SPDX-License-Identifier: MIT
# Chats with the bundled model: the examples, what is fed again, and that replays are exact.
. "$(dirname "$0")/harness.sh"
need_demo
for name in 02_chat 03_tool 04_assistant; do cp "$SOURCE_DIR/examples/$name.lua" "$tmp"; done
mkdir "$tmp/demo-model" "$tmp/saved" && ln -s "$demo" "$tmp/demo-model"

# The scripts are run from another folder: their model is named from where they are.
cd / || exit 1
run run "$tmp/02_chat.lua"
has "$out" "Ada"
has "$out" "Grace"
run run "$tmp/03_tool.lua"
has "$out" 'call:   read_file {"path":"/notes/number.txt"}'
has "$out" "result: The secret number is 48213."
has "$out" "answer: "
run run "$tmp/04_assistant.lua" "What is your name?"
has "$out" "Ada"

# Two turns, a mark, a fork, a restart: the same text from the same place, only new tokens fed.
cat >"$tmp/replay.lua" <<'LUA'
local perigee = require "perigee"
local assistant = perigee.assistant {
  from = "demo-model/perigee-demo.gguf",
  parameters = { temp = 5, min_p = 0, top_p = 1, seed = 5, ctx = 512, max = 40 },
}
local file = "saved/chat"
local chat <close> = assert(perigee.chat(assistant))
local _, first = assert(chat:ask("Who are you?"))
local n_tok = chat:stats().n_tok
local mark = chat:mark()
local text, second = assert(chat:ask("What can you do?"))
print("held", first.usage.cached, second.usage.cached == n_tok)
assert(chat:rewind(mark))
print("kept", chat:stats().n_tok == n_tok)
assert(chat:save(file))
local fork <close> = assert(chat:fork())
print("again", chat:ask("What can you do?") == text)
print("fork", fork:ask("What can you do?") == text)
local restored <close> = assert(perigee.chat.restore(assistant, file))
print("restored", restored:ask("What can you do?") == text)
-- A change after a restart is laid over what the chat had, not over the defaults.
assert(chat:rewind(mark))
chat:set { top_k = 30, max = 12 }
assert(chat:save(file))
text = assert(chat:ask("And what else?"))
local changed <close> = assert(perigee.chat.restore(assistant, file))
print("changed", changed:set().top_k, changed:set().max, changed:ask("And what else?") == text)
assert(chat:rewind(mark))
chat:set { top_k = 50 }
text = assert(chat:ask("And what else?"))
local other <close> = assert(perigee.chat.restore(assistant, file))
other:set { top_k = 50 }
print("other", other:ask("And what else?") == text)
LUA
cd "$tmp" || exit 1
run run "$tmp/replay.lua" --allow fs.read=saved --allow fs.write=saved
is "$out" "held	0	true
kept	true
again	true
fork	false
restored	true
changed	30	12	true
other	true"

# A hook that never ends takes its task with it, and not the chat.
cat >"$tmp/endless.lua" <<'LUA'
local perigee = require "perigee"
local chat <close> = assert(perigee.chat { from = perigee.fake.model { replies = { "fine" } },
  on_request = function(_, ctx) if ctx.question == "x" then while true do end end end })
local task = perigee.spawn(function() return chat:ask("x") end)
print(task:wait())
print(chat:ask("y"), #chat:messages())
LUA
run run "$tmp/endless.lua"
has "$out" "endless.lua:3: script ran"
has "$out" "fine"

# Mistakes are told at the line where they stand.
printf '%s\n' 'local perigee = require "perigee"' 'local a = perigee.assistant {' \
    '  from = "x.gguf", parameters = { temprature = 0 } }' 'return a' >"$tmp/wrong.lua"
run 1 run "$tmp/wrong.lua" Hi
has "$err" "wrong.lua:2: parameters.temprature is unknown; did you mean temp?"
sed '2s/local a =/return/; 4d' "$tmp/wrong.lua" >"$tmp/tail.lua"
run 1 run "$tmp/tail.lua" Hi
has "$err" "tail.lua: parameters.temprature is unknown; did you mean temp?"
printf '%s\n' 'return { from = "nowhere.gguf" }' >"$tmp/missing.lua"
run 1 run "$tmp/missing.lua" Hi
has "$err" "missing.lua:1: from: there is no file nowhere.gguf"
finish
