-- SPDX-License-Identifier: MIT
-- Thinking, and how much: what chat templates of both kinds are told, and what is said about those
-- that know less than was asked for.
local lu = require "luaunit"
local perigee = require "perigee"
local prompt = require "perigee.prompt"
local thinking = require "perigee.thinking"

local T = {}

local JINJA <const> = {
  both = "{{ enable_thinking }} {{ reasoning_effort }}",
  switch = "{% if enable_thinking is defined %}{{ enable_thinking }}{% else %}unset{% endif %}",
  levels = "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}"
    .. "{% endif %}{{ reasoning_effort }}",
  other = "{% for m in messages %}{{ thinking }}{% endfor %}",
  -- here thinking is the template's own name, and enable_thinking what is asked for
  mixed = "{% set thinking = enable_thinking %}{{ thinking }}",
  own = "{% set enable_thinking = 'mine' %}{% set reasoning_effort = 'mine' %}{{ enable_thinking }}"
    .. "{{ reasoning_effort }}",
  none = "{{ messages[0].enable_thinking }}x",
}
local GO <const> = {
  both = "{{ .Think }}|{{ .ThinkLevel }}|{{ .IsThinkSet }}{{ .Prompt }}",
  switch = "{{ .Think }}|{{ .IsThinkSet }}{{ .Prompt }}",
  none = "x{{ .Prompt }}",
  thinks = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ end }}"
    .. "{{ .Think }}|{{ .ThinkLevel }}|{{ .IsThinkSet }}",
}

local NO_LEVEL <const> = "knows no %s, so the level high has no effect; thinking is on"
local NOTHING <const> = "knows no %s; think has no effect"

-- template, think, text of the prompt, part of the warning
local ROWS <const> = {
  { JINJA.both, nil, " " },
  { JINJA.both, true, "True " },
  { JINJA.both, false, "False " },
  { JINJA.both, "low", "True low" },
  { JINJA.switch, nil, "unset" },
  { JINJA.switch, true, "True" },
  { JINJA.switch, false, "False" },
  { JINJA.switch, "high", "True", NO_LEVEL:format "reasoning_effort" },
  { JINJA.levels, nil, "medium" },
  { JINJA.levels, true, "medium" },
  { JINJA.levels, "high", "high" },
  { JINJA.levels, false, "medium", "it is not turned off" },
  { JINJA.other, nil, "" },
  { JINJA.other, true, "True" },
  { JINJA.other, false, "False" },
  { JINJA.other, "high", "True", NO_LEVEL:format "reasoning_effort" },
  { JINJA.mixed, true, "True" },
  { JINJA.mixed, false, "False" },
  { JINJA.own, "high", "minemine", NOTHING:format "enable_thinking" },
  { JINJA.none, true, "x", NOTHING:format "enable_thinking" },
  { { go = GO.both }, nil, "false||falseHi" },
  { { go = GO.both }, true, "true|medium|trueHi" },
  { { go = GO.both }, false, "false||trueHi" },
  { { go = GO.both }, "high", "true|high|trueHi" },
  { { go = GO.switch }, "high", "true|trueHi", NO_LEVEL:format ".ThinkLevel" },
  { { go = GO.none }, false, "xHi", NOTHING:format ".Think" },
  { { go = GO.thinks }, nil, "true|medium|true" },
  { { go = GO.thinks }, false, "false||true" },
}

function T.test_what_templates_are_told()
  for i, row in ipairs(ROWS) do
    local template, think, expected, warning = row[1], row[2], row[3], row[4]
    local p = assert(prompt.new(template, {}))
    local segments = assert(prompt.render(p, {
      messages = { { role = "user", content = "Hi" } }, think = think }, {}))
    local label = ("row %d, think = %s"):format(i, tostring(think))
    lu.assertEquals(prompt.text(segments), expected, label)
    local text = thinking.unheeded(p, think)
    if warning then
      lu.assertStrContains(tostring(text), warning, false, false, label)
    else
      lu.assertNil(text, label)
    end
  end
end

function T.test_a_chat_takes_levels_and_takes_them_back()
  local model = perigee.fake.model { replies = { "one", "two", "three" },
    template = "<|user|>{{ messages[-1].content }}{{ reasoning_effort }}<|end|><|assistant|>" }
  local chat = assert(perigee.chat { from = model, parameters = { think = "low" } })
  chat:ask "a"
  assert(chat:set { think = "high" })
  lu.assertEquals(chat:set().think, "high")
  chat:ask "b"
  local fed = model:detokenize(model.sessions[1]:tokens(), true)
  lu.assertStrContains(fed, "bhigh")
  local ok, text = pcall(chat.set, chat, { think = "hgih" })
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(text), 'think: found the string "hgih", expected true, false')
  assert(chat:set { think = perigee.json.null })
  lu.assertNil(chat:set().think)
end

function T.test_a_level_that_means_nothing_is_said_once()
  local chat = assert(perigee.chat { parameters = { think = "high" }, from = perigee.fake.model {
    replies = { "one", "two" }, template = "{{ enable_thinking }}<|assistant|>" } })
  local function warnings()
    local out = {}
    for ev in chat:send "x" do if ev.type == "warning" then out[#out + 1] = ev.text end end
    return out
  end
  lu.assertStrContains(warnings()[1], "the level high has no effect")
  lu.assertEquals(warnings(), {})
end

return T
