-- SPDX-License-Identifier: MIT
-- The assistant's table is checked strictly; texts name the place, the key and the nearest one.
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

local function wrong(t)
  local ok, text = pcall(function() return (perigee.assistant(t)) end)
  lu.assertFalse(ok)
  return text
end

local function run() return "" end

function T.test_a_minimal_assistant()
  local a = perigee.assistant { from = "m.gguf" }
  lu.assertEquals(a.from, "m.gguf")
  lu.assertEquals(a.tools, {})
  lu.assertEquals(a.parameters, {})
end

function T.test_rules_of_placement_become_one_text()
  local a = perigee.assistant { from = "m.gguf", parameters = {
    place = { "layers 0-9 on cuda:0", "experts on cpu" } } }
  lu.assertEquals(a.parameters, { place = "layers 0-9 on cuda:0; experts on cpu" })
end

function T.test_names_of_others_have_one_canonical_name()
  local a = perigee.assistant { model = "m.gguf", parameters = {
    temperature = 0, num_ctx = 512, num_predict = 9, stop = "x", repeat_last_n = 3 } }
  lu.assertEquals(a.parameters, { temp = 0, ctx = 512, max = 9, stop = { "x" }, repeat_last_n = 3 })
  lu.assertEquals(a.from, "m.gguf")
end

local WRONG <const> = {
  { { parameters = { temprature = 1 } }, "parameters.temprature is unknown; did you mean temp?" },
  { { parameters = { temp = "hot" } },
    'parameters.temp: found the string "hot", expected a number from 0 to 1000' },
  { { parameters = { top_p = 2 } },
    "parameters.top_p: found the number 2, expected a number from 0" },
  { { parameters = { place = "layer x on cpu" } },
    'parameters.place: column 7: found "x", expected "on" and a device' },
  { { parameters = { place = { "experts on cpu", "heads on cpu" } } },
    'parameters.place[2]: column 1: found "heads", expected layers, experts, embedding or head' },
  { { parameters = { place = 7 } },
    "parameters.place: found the number 7" },
  { { parameters = { top_k = 1.5 } },
    "parameters.top_k: found the number 1.5, expected an integer" },
  { { parameters = { temp = 0 / 0 } }, "parameters.temp: found the number" },
  { { parameters = { temp = 1, temperature = 1 } },
    "parameters.temperature is another name of temp, which is given too" },
  { { sytem = "x" }, "sytem is unknown; did you mean system?" },
  { { zzzzzz = "x" }, "zzzzzz is unknown; known are " },
  { { "x" }, "[1] is unknown" },
  { { system = 1 }, "system: found the number 1, expected a string" },
  { { tools = { { name = "f", run = run, parameters = { a = "strin" } } } },
    'tools[1] (f).parameters.a: the type "strin" is unknown; did you mean string?' },
  { { tools = { { name = "f", run = run }, { name = "f", run = run } } },
    'tools[2]: the name "f" is that of tools[1] too' },
  { { tools = { f = { name = "f", run = run } } }, "tools: found keys that are no list" },
  { { messages = { { role = "usr", content = "x" } } },
    'messages[1].role: found the string "usr", expected one of system, user, assistant, tool; '
    .. "did you mean user?" },
  { { messages = { { role = "user" } } }, "messages[1] has no content" },
  { { messages = { { content = "x" } } }, "messages[1] has no role" },
  { { capabilities = { fs = { reed = "." } } },
    "capabilities.fs.reed is unknown; did you mean read?" },
  { { budget = { calls = 0 } }, "budget.calls: found the number 0, expected an amount above 0" },
  { { format = "herms" }, "did you mean hermes?" },
  { { template = 1 }, "template: found the number 1, expected a string of Jinja text, or {" },
  { { template = { goo = "x" } }, "template.goo is unknown; did you mean go?" },
  { { template = {} }, "template has no go; add go = the template's text" },
  { { adapters = 1 }, "adapters: found the number 1, expected a list" },
}

function T.test_texts()
  for _, case in ipairs(WRONG) do
    case[1].from = "m.gguf"
    lu.assertStrContains(wrong(case[1]), case[2])
  end
  lu.assertStrContains(wrong {}, 'the assistant has no from; add from = "model.gguf"')
  lu.assertStrContains(wrong "m.gguf", 'assistant: found the string "m.gguf", expected a table')
end

function T.test_texts_name_the_callers_line()
  local text = wrong { from = "m.gguf", sytem = "x" }
  lu.assertStrMatches(text, "^.-assistant_spec.lua:%d+: sytem .*")
end

function T.test_metatables_of_scripts_do_not_run()
  local function boom() error("a metatable ran") end
  local t = setmetatable({ from = "m.gguf", parameters = setmetatable({ temp = 1 }, {
    __index = boom, __pairs = boom, __len = boom }) },
    { __index = boom, __pairs = boom, __len = boom, __newindex = boom })
  lu.assertEquals(perigee.assistant(t).parameters.temp, 1)
end

function T.test_tables_that_hold_themselves()
  local t = { role = "assistant" }
  t.tool_calls = { { t = t } }
  t.tool_calls[1].t = t.tool_calls
  lu.assertStrContains(wrong { from = "m.gguf", messages = { t } },
    "messages[1].tool_calls[1].t: found a table that holds itself")
end

function T.test_the_copy_is_its_own()
  local parameters = { temp = 0 }
  local a = perigee.assistant { from = "m.gguf", parameters = parameters }
  parameters.temp = 1
  lu.assertEquals(a.parameters.temp, 0)
end

function T.test_with_merges()
  local base = perigee.assistant { from = "m.gguf", system = "a",
    parameters = { temp = 0, max = 5 },
    tools = { { name = "f", run = run }, { name = "g", description = "old", run = run } } }
  local new = perigee.assistant.with(base, { system = "b", parameters = { temperature = 1 },
    tools = { { name = "g", description = "new", run = run }, { name = "h", run = run } } })
  lu.assertEquals(new.system, "b")
  lu.assertEquals(new.from, "m.gguf")
  lu.assertEquals(new.parameters, { temp = 1, max = 5 })
  lu.assertEquals(#new.tools, 3)
  lu.assertEquals(new.tools[2].description, "new")
  lu.assertEquals(base.system, "a")
  lu.assertEquals(base.parameters.temp, 0)
  local ok, text = pcall(function()
    return (perigee.assistant.with(base, { sistem = "x" }))
  end)
  lu.assertFalse(ok)
  lu.assertStrMatches(text, "^.-assistant_spec.lua:%d+: sistem is unknown; did you mean system%?")
end

return T
