-- SPDX-License-Identifier: MIT
-- Assistants that build on others, and of parts.  The files are in family/.
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

local function chat_of(assistant, replies, over)
  local model = perigee.fake.model { replies = replies or { "yes" } }
  return perigee.chat(assistant, { model = model, over = over })
end

-- What the model was fed first.
local function fed(model)
  return model:detokenize(model.sessions[1].ids, true)
end

local function error_of(assistant)
  local chat, err = chat_of(assistant)
  lu.assertNil(chat)
  return tostring(err)
end

function T.test_parameters_tools_messages_and_system_of_an_inherited_one()
  local chat = assert(chat_of {
    from = { from = "m.gguf", system = "old", parameters = { temp = 0, max = 5 },
      messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } },
      tools = { { name = "f", description = "old", run = function() end },
        { name = "g", run = function() end } } },
    system = "new", parameters = { temperature = 1 },
    tools = { { name = "f", description = "new", run = function() end },
      { name = "h", run = function() end } },
  })
  lu.assertEquals(chat:set().temp, 1)
  lu.assertEquals(chat:set().max, 5)
  lu.assertEquals(chat:system(), "new")
  lu.assertEquals(#chat:messages(), 2)
  local names = {}
  for i, tool in ipairs(chat:tools()) do names[i] = tool.name .. (tool.description or "") end
  lu.assertEquals(names, { "fnew", "g", "h" })
end

function T.test_messages_of_the_child_take_the_place_of_the_parents()
  local chat = assert(chat_of { from = { from = "m.gguf",
    messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } } },
    messages = { { role = "user", content = "Ho" } } })
  lu.assertEquals(#chat:messages(), 1)
  lu.assertEquals(chat:messages()[1].content, "Ho")
end

function T.test_files_parts_and_the_order_of_hooks()
  local base_read = { from = "family/child.lua", parameters = { max = 7 },
    on_request = function(request) request.system = request.system .. " last" end }
  local chat, err = chat_of(base_read)
  lu.assertNil(chat)
  lu.assertStrContains(tostring(err), "--allow fs.read=")   -- what the base asks for is asked
  local model = perigee.fake.model { replies = { "yes" } }
  base_read.from = { from = { from = model, system = "Be kind.", parameters = { temp = 0 },
    on_request = function(request) request.system = request.system .. " base" end },
    parameters = { temp = 1 }, with = { "family/parts/careful.lua" },
    on_request = function(request) request.system = request.system .. " child" end }
  chat = assert(perigee.chat(base_read))
  lu.assertEquals(chat:system(), "Be kind.\n\nTake care.")
  lu.assertEquals(chat:set(), { temp = 1, top_k = 3, max = 7 })
  lu.assertEquals(#chat:tools(), 1)
  assert(chat:ask("x"))
  lu.assertStrContains(fed(model), "<|system|>Be kind.\n\nTake care. base part child last")
end

function T.test_what_lies_over_all()
  local chat = assert(chat_of({ from = { from = "m.gguf", parameters = { temp = 0 } },
    parameters = { temp = 1 }, system = "a", with = { { system = "b" } } }, nil,
    { system = "c", parameters = { temp = 2 } }))
  lu.assertEquals(chat:system(), "c")
  lu.assertEquals(chat:set().temp, 2)
end

function T.test_parts_that_contradict_each_other()
  local with = { { name = "cold", parameters = { temp = 0 } },
    { name = "hot", parameters = { temp = 1 } } }
  lu.assertStrContains(error_of { from = "m.gguf", with = with },
    "parameters.temp is the number 0 in cold and the number 1 in hot; set it in the assistant")
  local chat = assert(chat_of { from = "m.gguf", with = with, parameters = { temp = 0.5 } })
  lu.assertEquals(chat:set().temp, 0.5)
  chat = assert(chat_of { from = "m.gguf", with = { with[1], { parameters = { temp = 0 } } } })
  lu.assertEquals(chat:set().temp, 0)
  local tool = { name = "f", run = function() end }
  lu.assertStrContains(error_of { from = "m.gguf", with = { { name = "one", tools = { tool } },
    { tools = { tool } } } }, "both one and ")
  lu.assertStrContains(error_of { from = "m.gguf", with = { { name = "one", tools = { tool } },
    { tools = { tool } } } }, "with[2] have a tool f")
end

local WRONG <const> = {
  { { from = "family/circle_a.lua" },
    "family/circle_b.lua:2: from leads in a circle: ", "circle_a.lua -> ", "circle_b.lua -> " },
  { { from = "family/misspelt.lua" },
    "family/misspelt.lua:5: parameters.temprature is unknown; did you mean temp?" },
  { { from = "family/broken.lua" }, "family/broken.lua:3: '}' expected" },
  { { from = "family/raises.lua" }, "family/raises.lua:3: attempt to index a nil value" },
  { { from = "family/not_a_table.lua" },
    "family/not_a_table.lua: returned the number 5, expected a table" },
  { { from = "family/orphan.lua" }, "family/orphan.lua:4: from: there is no file ", "missing.lua" },
  { { from = "m.gguf", with = { "family/misspelt.lua" } },
    "family/misspelt.lua: the part has a from: a part is no assistant" },
  { { from = "m.gguf", with = { "family/none.lua" } }, "family/none.lua" },
  { { from = "m.gguf", with = { "family/Modelfile" } }, "expected a Lua file" },
  { { from = "/etc/hostname.lua" }, "there is no file /etc/hostname.lua" },
  { { from = "../../examples/try.lua" }, "fs.read" },
}

function T.test_what_is_wrong_is_told_with_file_and_line()
  for _, case in ipairs(WRONG) do
    local text = error_of(case[1])
    for i = 2, #case do lu.assertStrContains(text, case[i]) end
  end
end

function T.test_what_is_wrong_in_a_table()
  local cases = {
    { { from = { from = "m.gguf", sytem = "x" } }, "from.sytem is unknown; did you mean system?" },
    { { from = "m.gguf", with = { tools = {} } }, "with: found keys that are no list" },
    { { from = "m.gguf", with = { 5 } }, "with[1]: found the number 5, expected a table of keys" },
    { { from = "m.gguf", with = { { sytem = "x" } } },
      "with[1].sytem is unknown; did you mean system?" },
    { { from = "m.gguf", on_request = "x" },
      'on_request: found the string "x", expected a function' },
    { { from = "m.gguf", on_requst = print }, "on_requst is unknown; did you mean on_request?" },
  }
  for _, case in ipairs(cases) do
    local ok, text = pcall(function() return (perigee.assistant(case[1])) end)
    lu.assertFalse(ok)
    lu.assertStrContains(text, case[2])
  end
end

function T.test_a_folder_is_listed()
  local assistants = require "perigee.assistants"
  local list = assert(assistants.list { "tests/lua/family", "tests/lua/family/parts",
    "tests/lua/family" })
  local names = {}
  for _, entry in ipairs(list) do
    lu.assertEquals(entry.kind, "script")
    names[#names + 1] = entry.name .. (entry.hidden_by and "*" or "")
  end
  local text = table.concat(names, " ")
  lu.assertStrContains(text, "base base* broken broken*")
  lu.assertStrContains(text, "careful child child*")
  local none, err = assistants.list { "/etc" }
  lu.assertNil(none)
  lu.assertStrContains(tostring(err), "--allow fs.read=/etc")
end

function T.test_assistants_inside_one_another_without_end()
  local t = { from = "m.gguf" }
  for _ = 1, 20 do t = { from = t } end
  local ok, text = pcall(function() return (perigee.assistant(t)) end)
  lu.assertFalse(ok)
  lu.assertStrContains(text, "more than 16 assistants inside one another")
  t = {}
  t.from = t
  lu.assertFalse(pcall(function() return (perigee.assistant(t)) end))
end

return T
