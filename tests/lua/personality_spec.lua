-- SPDX-License-Identifier: MIT
-- The assistants that come along, each with a scripted model, and all with the bundled one.
local assistants = require "perigee.assistants"
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

local function chat_of(name, replies, ctx)
  local model = perigee.fake.model { replies = replies, ctx = ctx }
  return assert(perigee.chat(name, { model = model })), model
end

local function text_of(model, i)
  return model:detokenize(model.sessions[i or 1].ids, true)
end

local function warnings_of(info)
  local out = {}
  for i, warning in ipairs(info.warnings) do out[i] = warning.text end
  return table.concat(out, "\n")
end

function T.test_tutor_gives_hints_and_then_the_solution()
  local chat, model = chat_of("tutor", { "a", "b", "c", "d", "e" })
  for _ = 1, 3 do chat:ask("What is 12 * 12?") end
  lu.assertStrContains(text_of(model), "You are a patient tutor")
  lu.assertStrContains(text_of(model), "what is 10% of 80?")
  lu.assertFalse(text_of(model):find("enough hints", 1, true) ~= nil)
  chat:ask("I do not know.")
  lu.assertStrContains(text_of(model), "has had enough hints")
  chat:ask("A new task, please")
  lu.assertFalse(text_of(model):find("enough hints", 1, true) ~= nil)
end

function T.test_coder_returns_code_that_compiles()
  local wrong, right = "```lua\nlocal x = = 1\n```", "```lua\nlocal x = 1\n```"
  local chat, model = chat_of("coder", { wrong, right })
  lu.assertEquals(chat:ask("x"), right)
  lu.assertStrContains(text_of(model), "The Lua code does not compile: code:1: unexpected symbol")
  lu.assertEquals(chat_of("coder", { "```python\nx = = 1\n```" }):ask("x"),
    "```python\nx = = 1\n```")
end

function T.test_translator_forgets_and_keeps_the_language()
  local chat, model = chat_of("translator", { "Guten Tag", "Auf Wiedersehen" })
  lu.assertEquals(chat:ask("to German: Good day"), "Guten Tag")
  lu.assertEquals(chat:ask("Goodbye"), "Auf Wiedersehen")
  lu.assertStrContains(text_of(model), "into German.")
  lu.assertStrContains(text_of(model), "<|user|>Goodbye")
  lu.assertFalse(text_of(model):find("Good day", 1, true) ~= nil)
  lu.assertEquals(chat:ask("to French:"), "I translate into French now.")
end

function T.test_extractor_gives_an_object_or_fails()
  local chat = chat_of("extractor", { "The name is Ada.", 'Here: ```json\n{"name": "Ada"}\n```' })
  lu.assertEquals(chat:ask("name:"), '{\n  "name": "Ada"\n}')
  local text, err = chat_of("extractor", { "no", "[1]", '{"a": }', "no" }):ask("name:")
  lu.assertNil(text)
  lu.assertStrContains(tostring(err), "That was no JSON object")
end

local DIFF <const> = "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n"

function T.test_reviewer_keeps_remarks_about_the_diff()
  local chat = chat_of("reviewer", { "x.c: bug: wrong.\ny.c: style: not there.\nWell done!" })
  local text, info = chat:ask(DIFF)
  lu.assertEquals(text, "x.c: bug: wrong.")
  lu.assertStrContains(warnings_of(info), "2 lines that name no file of the diff were left out")
  lu.assertStrContains(chat_of("reviewer", {}):ask("hello"), "There is no diff in this.")
end

function T.test_commit_has_a_short_subject()
  local long = ("word "):rep(30)
  local chat, model = chat_of("commit", { long, "Fix the sum.\nIt was off by one." })
  lu.assertEquals(chat:ask(DIFF), "Fix the sum\n\nIt was off by one.")
  lu.assertStrContains(text_of(model), "72 are the most")
end

function T.test_summarizer_takes_long_texts_in_pieces()
  local chat, model = chat_of("summarizer", function(prompt)
    return prompt:find("a1", 1, true) and "one" or "two"
  end, 400)
  local text, info = chat:ask(("a1 "):rep(100) .. "\n\n" .. ("b2 "):rep(100))
  lu.assertStrContains(warnings_of(info), "summarised in 2 pieces")
  lu.assertEquals(text, "two")
  lu.assertStrContains(text_of(model), "<|user|>one\n\ntwo<|end|>")
  lu.assertEquals(#model.sessions, 3)
  lu.assertEquals(chat_of("summarizer", { "short" }):ask("a text"), "short")
end

function T.test_notes_asks_for_its_folder()
  local chat, err = perigee.chat("notes", { model = perigee.fake.model {} })
  lu.assertNil(chat)
  lu.assertStrContains(tostring(err), "--allow fs.read=")
end

function T.test_voter_takes_the_majority()
  local n = 0
  local replies = { "So.\nAnswer: 5 cents.", "Answer: 10", "Answer: 5 Cents", "Answer: 7", "x" }
  local chat, model = chat_of("voter", function()
    n = n + 1
    return replies[n]
  end)
  local text, info = chat:ask("How much is the ball?")
  lu.assertEquals(text, "So.\nAnswer: 5 cents.")
  lu.assertStrContains(warnings_of(info), "2 of 5 tries agree")
  lu.assertEquals(model.sessions[1]:stats().forks, 5)
end

function T.test_router_keeps_private_words_near()
  local chat = chat_of("router", { "near 1", "near 2", "near 3" })
  local function routes(question)
    local to, warning
    for ev in chat:send(question) do
      if ev.type == "route" then to = ev.to end
      if ev.type == "warning" and ev.text:find("private", 1, true) then warning = true end
    end
    return to, warning
  end
  lu.assertNil(routes("Hello"))
  lu.assertEquals(routes("Explain who you are."), "far")
  local to, warned = routes("Explain why my password is ada@example.org")
  lu.assertNil(to)
  lu.assertTrue(warned)
  to, warned = routes("Explain who you are.")        -- what was said before goes along
  lu.assertNil(to)
  lu.assertTrue(warned)
end

function T.test_all_are_listed_and_answer_with_the_bundled_model()
  local names = {}
  for _, entry in ipairs(assistants.list()) do names[#names + 1] = entry.name end
  local all = table.concat(names, " ")
  for _, name in ipairs { "tutor", "coder", "translator", "summarizer", "voter", "router", "demo",
    "commit" } do
    lu.assertStrContains(all, name)
    local chat <close> = assert(perigee.chat(name, { over = { parameters = { max = 24 } } }))
    local text, info = chat:ask("What is your name?")
    lu.assertNotNil(text, name .. ": " .. tostring(info))
    lu.assertNotEquals(text, "", name)
    lu.assertStrContains(warnings_of(info), "the bundled demo model is a toy")
  end
end

return T
