-- SPDX-License-Identifier: MIT
-- A tool is a Lua function: perigee run examples/03_tool.lua
local perigee = require "perigee"

local notes = { ["/notes/number.txt"] = "The secret number is 48213." }

local read_file = perigee.tool {
  name = "read_file",
  description = "Read a text file.",
  parameters = { path = "string" },
  run = function(args)
    local text = notes[args.path]
    if not text then return nil, "there is no file " .. args.path end
    return text
  end,
}

local chat <close> = assert(perigee.chat {
  from = "demo-model/perigee-demo.gguf",
  system = "You are a helpful assistant.",
  parameters = { temp = 0, ctx = 512 },
  tools = { read_file },
})

for ev in chat:send("What number is in the file /notes/number.txt?") do
  if ev.type == "call" then
    print("call:   " .. ev.name .. " " .. perigee.json.encode(ev.arguments))
  elseif ev.type == "result" then
    print("result: " .. ev.text)
  elseif ev.type == "done" then
    print("answer: " .. ev.text)
  end
end
