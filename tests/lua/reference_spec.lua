-- SPDX-License-Identifier: MIT
-- The reference (perigee help lua): complete, and every entry says something.
local lu = require "luaunit"
local perigee = require "perigee"
local reference = require "perigee.reference"

local T = {}

function T.test_every_function_and_table_is_described()
  local n = 0
  for _, entry in ipairs(assert(reference.entries())) do
    n = n + 1
    if entry.kind ~= "field" then
      lu.assertNotEquals(table.concat(entry.text), "", entry.name .. " is not described")
    end
    for _, row in ipairs(entry.rows) do lu.assertNotEquals(row.type, "", entry.name) end
  end
  lu.assertTrue(n > 150)
end

function T.test_everything_the_root_has_is_there()
  for key in pairs(perigee) do
    lu.assertTrue(#reference.find(key) > 0, key)
  end
  for _, key in ipairs { "chat", "assistant", "tool", "fake.model", "json.encode", "fs.read",
    "backtrack", "backtrack.options.phrases", "sampler.measure", "candidates:pick" } do
    lu.assertTrue(#reference.find(key) > 0, key)
  end
end

-- The keys that checking knows are those that the stub has.
function T.test_every_key_of_tables_is_there()
  for _, key in ipairs { "from", "with", "system", "parameters", "messages", "tools", "template",
    "format", "capabilities", "budget", "route", "on_request", "on_token", "on_message",
    "on_tool_call", "sampler" } do
    lu.assertTrue(#reference.find("assistant." .. key) > 0, key)
  end
  local ok, text = pcall(function() return (perigee.assistant { from = "m", zzzzzz = 1 }) end)
  lu.assertFalse(ok)
  for key in text:match("known are (.*)$"):gmatch("[%w_]+") do
    lu.assertTrue(#reference.find("assistant." .. key) > 0, key)
  end
end

function T.test_names()
  lu.assertEquals(reference.find("chat:send")[1].head, "chat:send(message)")
  lu.assertEquals(reference.find("perigee.chat.send")[1].head, "chat:send(message)")
  lu.assertEquals(reference.find("perigee.chat(x)")[1].head, "perigee.chat(assistant, options)")
  lu.assertEquals(reference.find("needs_approval")[1].name, "tool.needs_approval")
  local found, near = reference.find("on_tool_cal")
  lu.assertEquals(#found, 0)
  lu.assertEquals(near, "on_tool_call")
end

return T
