-- SPDX-License-Identifier: MIT
-- chat:reload: another version of the assistant, the same conversation.  (Files that change under a
-- conversation are in tests/e2e/repl.py.)
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

local function fake(...)
  return perigee.fake.model { replies = { ... } }
end

local function fed(model)
  return model:detokenize(model.sessions[#model.sessions].ids, true)
end

function T.test_the_conversation_goes_on_with_the_new_version()
  local model = fake("one", "two")
  local chat = assert(perigee.chat { from = model, system = "old", parameters = { temp = 1 } })
  chat:ask("a")
  local tool = { name = "f", run = function() return "" end }
  assert(chat:reload { from = model, system = "new", parameters = { temp = 0, top_k = 3 },
    tools = { tool }, on_message = function(message) return message.content:upper() end })
  lu.assertEquals(chat:system(), "new")
  lu.assertEquals(chat:set(), { temp = 0, top_k = 3 })
  lu.assertEquals(#chat:tools(), 1)
  lu.assertEquals(chat:ask("b"), "ONE")
  lu.assertStrContains(fed(model), "<|system|>new")
  lu.assertStrContains(fed(model), "<|user|>a<|end|><|assistant|>one<|end|><|user|>b")
  lu.assertEquals(#chat:messages(), 4)
  lu.assertTrue(model.sessions[1].is_closed)
  lu.assertEquals(model.sessions[2].sampling_used.top_k, 3)
end

function T.test_what_was_set_by_hand_stays()
  local model = fake("one")
  local chat = assert(perigee.chat { from = model, system = "old", parameters = { temp = 1 } })
  chat:set { top_k = 9, temp = perigee.null }
  chat:system("mine")
  assert(chat:reload { from = model, system = "new", parameters = { temp = 0, max = 2 } })
  lu.assertEquals(chat:set(), { top_k = 9, max = 2 })
  lu.assertEquals(chat:system(), "mine")
end

function T.test_the_messages_it_begins_with_are_the_new_ones()
  local model = fake("one", "two")
  local function version(text)
    return { from = model, messages = { { role = "user", content = text } } }
  end
  local chat = assert(perigee.chat(version "old example"))
  local mark = assert(chat:mark())
  chat:ask("a")
  assert(chat:reload(version "new example"))
  lu.assertEquals(chat:messages()[1].content, "new example")
  lu.assertEquals(#chat:messages(), 3)
  assert(chat:rewind(mark))
  lu.assertEquals(#chat:messages(), 1)
  lu.assertEquals(chat:messages()[1].content, "new example")
end

function T.test_a_version_that_fails_changes_nothing()
  local model = fake("one", "two")
  local chat = assert(perigee.chat { from = model, system = "old" })
  chat:ask("a")
  local ok, err = chat:reload { from = "family/misspelt.lua" }
  lu.assertNil(ok)
  lu.assertStrContains(tostring(err), "family/misspelt.lua:5: parameters.temprature is unknown")
  ok, err = chat:reload { from = "nowhere.gguf" }
  lu.assertNil(ok)
  lu.assertStrContains(tostring(err), "nowhere.gguf")
  lu.assertFalse((pcall(chat.reload, chat, { from = model, sytem = "x" })))
  lu.assertEquals(chat:ask("b"), "two")
  lu.assertStrContains(fed(model), "<|system|>old")
end

function T.test_state_of_hooks_is_kept_and_files_are_known()
  local seen
  local function version()
    return { from = { from = fake("one", "two") }, with = { "family/parts/careful.lua" },
      on_request = function(_, ctx)
        ctx.state.n = (ctx.state.n or 0) + 1
        seen = ctx.state.n
      end }
  end
  local chat = assert(perigee.chat(version()))
  chat:ask("a")
  assert(chat:reload(version()))
  chat:ask("b")
  lu.assertEquals(seen, 2)
  lu.assertStrContains(chat:assistant().files[1], "family/parts/careful.lua")
  lu.assertNil(chat:changed())
  assert(chat:reload())
  chat:ask("c")
  lu.assertEquals(seen, 3)
end

return T
