-- SPDX-License-Identifier: MIT
-- The assistant that repl.py talks to: its model answers what it is told, by rule.
local perigee = require "perigee"
local fake = require "perigee.fake"

local function call(name, arguments)
  return ('<tool_call>{"name": "%s", "arguments": %s}</tool_call>'):format(name, arguments)
end

-- The last message of the prompt decides.
local function reply(prompt, n)
  local role, text = prompt:match("<|(%a+)|>([^|]*)<|end|><|assistant|>$")
  if role == "tool" then return "The tool said: " .. text end
  if text == "tool" then return call("double", '{"n": 21}') end
  if text == "two" then return call("double", '{"n": 1}') .. call("double", '{"n": 2}') end
  if text == "broken tool" then return call("fails", "{}") end
  if text == "wait" then return call("wait", "{}") end
  if text == "raise" then error("the fake model broke", 0) end
  if text == "steer" then return "before\27[31mafter" end
  if text == "count" then return "reply " .. n end
  local _, turns = prompt:gsub("<|user|>", "")
  local system = prompt:match("^<|system|>([^\n<]*)") or "none"
  return ("[%d] system=%s you said: %s"):format(turns, system, text)
end

local double = perigee.tool {
  name = "double", description = "Twice a number.", parameters = { n = "int" },
  run = function(args) return ("%d\nand a second line"):format(2 * args.n) end,
}
local fails = perigee.tool {
  name = "fails", description = "Fails.", run = function() return nil, "no luck" end,
}
local wait = perigee.tool {
  name = "wait", description = "Waits for long.", run = function() perigee.sleep(600) end,
}

return {
  name = "Echo", from = fake.model { replies = reply }, system = "Be kind.",
  tools = { double, fails, wait },
}
