-- SPDX-License-Identifier: MIT
-- Two chats with one model, side by side: perigee run examples/02_chat.lua
local perigee = require "perigee"

local model <close> = assert(perigee.model("demo-model/perigee-demo.gguf", { ctx = 512 }))

local function ask(name)
  local chat <close> = assert(perigee.chat {
    from = model,
    system = "Your name is " .. name .. ".",
    parameters = { temp = 0, max = 48 },
  })
  return chat:ask("What is your name?")
end

local tasks = { perigee.spawn(ask, "Ada"), perigee.spawn(ask, "Grace") }
for _, task in ipairs(tasks) do
  print((assert(task:wait())))
end
