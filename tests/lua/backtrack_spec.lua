-- SPDX-License-Identifier: MIT
-- perigee.backtrack: text without certain phrases, by going back.  The fake model says what it is
-- told to after each rewinding; the bundled one shows that positions and bans are right.
local lu = require "luaunit"
local perigee = require "perigee"

local MODEL <const> = "examples/demo-model/perigee-demo.gguf"
local QUESTION <const> = "<|user|>What is Perigee?<|end|><|assistant|>"
local T = {}

-- All of it: the text, the last event, the pieces.
local function read(session, options)
  local pieces, last = {}, nil
  for ev in perigee.backtrack(session, options) do
    lu.assertNil(last)
    if ev.done then last = ev else pieces[#pieces + 1] = ev.text end
  end
  return table.concat(pieces), last, pieces
end

local function fake(replies, tokens)
  local model = perigee.fake.model { replies = replies, tokens = tokens }
  local session = model:session()
  session:feed(model:tokenize "Well,")
  return session, model
end

function T.test_text_without_a_phrase_comes_as_it_is()
  local session = fake { "one two three" }
  local text, last = read(session, { phrases = { "four" } })
  lu.assertEquals(text, "one two three")
  lu.assertEquals({ last.done, last.backs }, { "eog", 0 })
end

function T.test_it_goes_back_to_where_the_phrase_began()
  -- after going back one token is a stream of its own, then the rest
  local session, model = fake { "I am as an AI", " happy indeed", " to help" }
  local text, last = read(session, { phrases = { "as an AI" } })
  lu.assertEquals(text, "I am happy to help")
  lu.assertEquals({ last.done, last.backs }, { "eog", 1 })
  lu.assertEquals(model:detokenize(session:tokens()), "Well,I am happy to help")
  lu.assertEquals(session:stats().rewound, 3)
end

function T.test_nothing_that_may_begin_a_phrase_is_told()
  local session = fake({ "abcabd", "x", "" }, "char")
  local text, last, pieces = read(session, { phrases = { "abd" } })
  lu.assertEquals(text, "abcx")
  lu.assertEquals(last.backs, 1)
  lu.assertEquals(pieces[1], "abc")
end

function T.test_of_a_token_taken_back_nothing_was_told()
  local session = fake { { "say", " hab", "cde", " end" }, { " x", " y" }, { " end" } }
  local text, last = read(session, { phrases = { "bcd" } })
  lu.assertEquals(text, "say x end")
  lu.assertEquals(last.backs, 1)
end

function T.test_the_end_of_a_text_is_told_though_a_phrase_could_begin_in_it()
  local text = read(fake({ "xab" }, "char"), { phrases = { "abd" } })
  lu.assertEquals(text, "xab")
end

function T.test_case_counts_unless_asked()
  lu.assertEquals(read(fake { "so As An" }, { phrases = { "as an" } }), "so As An")
  local any <const> = { phrases = { "aS aN" }, ignore_case = true }
  lu.assertEquals(read(fake { "so As An", " x", "" }, any), "so x")
end

function T.test_it_gives_up()
  local session = fake { "no no", "no", "no", "no" }
  local text, last = read(session, { phrases = { "no" }, tries = 2 })
  lu.assertEquals(text, "")
  lu.assertEquals({ last.done, last.backs }, { "tries", 2 })
  lu.assertEquals(session:n_tok(), 1)
end

function T.test_stop_texts_end_it()
  local text, last = read(fake { "one two three" }, { phrases = { "four" }, stop = { " th" } })
  lu.assertEquals(text, "one two")
  lu.assertEquals({ last.done, last.stop }, { "stop", " th" })
end

function T.test_mistakes()
  local session = fake {}
  local function refuses(text, options)
    lu.assertErrorMsgContains(text, perigee.backtrack, session, options)
  end
  refuses("backtrack has no phrases", {})
  refuses("did you mean phrases", { frases = { "x" } })
  refuses("expected a text", { phrases = { "" } })
  refuses("at least 1", { phrases = { "x" }, max = 0 })
end

function T.test_the_engine_never_says_the_phrase_and_says_the_same_again()
  local model <close> = assert(perigee.model(MODEL, { ctx = 256 }))
  local s <close> = assert(model:session { seed = 6, temp = 1.2 })
  assert(s:feed(model:tokenize(QUESTION, { special = true })))
  local n, ids = s:n_tok(), nil
  for _ = 1, 2 do
    local text, last = read(s, { phrases = { "e", "u", " i" }, max = 30, tries = 500 })
    lu.assertNil(text:find "[eu]")
    lu.assertNil(text:find " i", 1, true)
    lu.assertTrue(last.backs > 3)
    lu.assertTrue(last.done == "length" or last.done == "eog", last.done)
    local now = table.concat(s:tokens(), " ")
    lu.assertEquals(ids or now, now)
    lu.assertTrue(s:n_tok() - n <= 30)
    lu.assertEquals(text, model:detokenize(table.move(s:tokens(), n + 1, s:n_tok(), 1, {})))
    ids = now
    assert(s:rewind(n))
  end
end

function T.test_leaving_the_loop_ends_it()
  local model <close> = assert(perigee.model(MODEL, { ctx = 256 }))
  local s <close> = assert(model:session { seed = 5, temp = 1.2 })
  assert(s:feed "What is your name?")
  local n = 0
  for _ in perigee.backtrack(s, { phrases = { "zzz" } }) do
    n = n + 1
    if n == 2 then break end
  end
  lu.assertTrue(s:n_tok() < 250)
  assert(s:rewind(1))
end

return T
