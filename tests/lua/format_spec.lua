-- SPDX-License-Identifier: MIT
-- Replies become the same events however they are split.
local check = require "perigee.check"
local derive = require "perigee.formats.derive"
local format = require "perigee.format"
local hermes = require "perigee.formats.hermes"
local jinja = require "perigee.jinja"
local json = require("perigee").json
local lu = require "luaunit"
local parser = require "perigee.formats.parser"
local plain = require "perigee.formats.plain"

local T = {}

-- The events of a reply given in pieces, as one text; neighbours of one kind joined.
local function events_of(pieces, fmt, is_thinking)
  local n, list = 0, {}
  local p = parser.new(fmt or hermes, is_thinking or false, function()
    n = n + 1
    return "call_" .. n
  end)
  local function take(events)
    for _, ev in ipairs(events) do
      local last = list[#list]
      if last and last.type == ev.type and (ev.type == "text" or ev.type == "thinking") then
        last.text = last.text .. ev.text
      else
        list[#list + 1] = ev
      end
    end
  end
  for _, piece in ipairs(pieces) do take(p:feed(piece)) end
  take(p:finish())
  for i, ev in ipairs(list) do
    local args = ev.arguments and json.encode(ev.arguments) or ""
    list[i] = table.concat({ ev.type, ev.id or "", ev.name or "", args, ev.text or "" }, "|")
  end
  return table.concat(list, "\n")
end

local SAMPLES <const> = {
  { "text only", "2 < 3, <b>, a <tool", "text||||2 < 3, <b>, a <tool" },
  { "white space at both ends stays", " hi \n", "text|||| hi \n" },
  { "nothing", "", "" },
  { "one call", '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
    'call|call_1|f|{"a":1}|' },
  { "lines around the JSON", '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n',
    "call|call_1|f|{}|" },
  { "text before and behind", 'Look:\n\n<tool_call>{"name": "f"}</tool_call>\n so',
    "text||||Look:\ncall|call_1|f|{}|\ntext||||so" },
  { "two calls", '<tool_call>{"name":"f"}</tool_call><tool_call>{"name":"g"}</tool_call>',
    "call|call_1|f|{}|\ncall|call_2|g|{}|" },
  { "closing marker forgotten", '<tool_call>{"name":"f"}\n<tool_call>{"name":"g"}</tool_call>',
    "call|call_1|f|{}|\ncall|call_2|g|{}|" },
  { "markers in strings",
    [[<tool_call>{"name":"f","arguments":{"a":"</tool_call>\"<tool_call>\\"}}</tool_call>]],
    [[call|call_1|f|{"a":"</tool_call>\"<tool_call>\\"}|]] },
  { "list of calls", '<tool_call>[{"name":"f"},{"name":"g"}]</tool_call>',
    "call|call_1|f|{}|\ncall|call_2|g|{}|" },
  { "arguments as text", [[<tool_call>{"name":"f","arguments":"{\"a\": 2}"}</tool_call>]],
    'call|call_1|f|{"a":2}|' },
  { "arguments named parameters", '<tool_call>{"name":"f","parameters":{"a":2}}</tool_call>',
    'call|call_1|f|{"a":2}|' },
  { "order of keys is kept", '<tool_call>{"name":"f","arguments":{"b":1,"a":2}}</tool_call>',
    'call|call_1|f|{"b":1,"a":2}|' },
  { "thinking", "<think>\nhm <tool_call>{}\n</think>\n\nyes",
    "thinking||||hm <tool_call>{}\ntext||||yes" },
  { "thinking never closed", "<think>hm </thin", "thinking||||hm </thin" },
  { "thinking never opened", "hm\n</think>\nyes", "text||||hm\nmoved||||\ntext||||yes" },
  { "UTF-8", "grüß <tool_calls> – ende", "text||||grüß <tool_calls> – ende" },
}

function T.test_lack_of_memory_is_no_answer_about_a_format()
  lu.assertErrorMsgEquals("not enough memory", check.try, error, "not enough memory", 0)
  lu.assertFalse((check.try(error, "malformed pattern", 0)))
end

function T.test_samples()
  for _, sample in ipairs(SAMPLES) do
    lu.assertEquals(events_of { sample[2] }, sample[3], sample[1])
  end
end

local BROKEN <const> = {
  { "cut off", '<tool_call>{"name": "f", "arg', "the reply ended inside the call" },
  { "no closing marker", '<tool_call>{"name": "f"}', "the reply ended inside the call" },
  { "no JSON", "<tool_call>{name: f}</tool_call>", "the call is no JSON: line 1, column 2" },
  { "nothing", "<tool_call>\n</tool_call>", "found nothing between the markers" },
  { "no name", '<tool_call>{"arguments": {}}</tool_call>', 'found no "name"' },
  { "name is no text", '<tool_call>{"name": 1}</tool_call>', 'found no "name"' },
  { "arguments are a list", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    'found array as "arguments", expected an object' },
  { "arguments are bad text", [[<tool_call>{"name":"f","arguments":"{a"}</tool_call>]],
    "the arguments are no JSON" },
  { "a string", '<tool_call>"f"</tool_call>', "found no object" },
}

function T.test_broken_calls_say_why_and_are_not_lost()
  for _, sample in ipairs(BROKEN) do
    local text = events_of { sample[2] }
    lu.assertStrContains(text, "broken|call_1|", false, false, sample[1])
    lu.assertStrContains(text, sample[3], false, false, sample[1])
  end
end

function T.test_a_string_without_end_does_not_swallow_what_follows()
  local text = events_of {
    '<tool_call>{"name": "f}</tool_call> x <tool_call>{"name":"g"}</tool_call>' }
  lu.assertStrContains(text, "broken|call_1|")
  lu.assertStrContains(text, "text||||x\ncall|call_2|g|{}|")
end

function T.test_every_split_gives_the_same_events()
  local all = {}
  for _, sample in ipairs(SAMPLES) do all[#all + 1] = sample[2] end
  for _, sample in ipairs(BROKEN) do all[#all + 1] = sample[2] end
  for _, s in ipairs(all) do
    local whole, bytes = events_of { s }, {}
    for i = 1, #s do
      bytes[i] = s:sub(i, i)
      lu.assertEquals(events_of { s:sub(1, i), s:sub(i + 1) }, whole, s)
      for j = i + 1, math.min(i + 14, #s) do
        lu.assertEquals(events_of { s:sub(1, i), s:sub(i + 1, j), s:sub(j + 1) }, whole, s)
      end
    end
    lu.assertEquals(events_of(bytes), whole, s)
  end
end

function T.test_text_comes_at_once()
  local p = parser.new(hermes, false, function() return "x" end)
  lu.assertEquals(p:feed("Hello")[1].text, "Hello")
  lu.assertEquals(#p:feed(" <to"), 0)
  lu.assertEquals(p:feed("wel>")[1].text, " <towel>")
end

function T.test_prompt_that_ends_inside_thinking()
  local function is_thinking(text, input)
    local question = { text = "x", input = true }
    return format.is_thinking(hermes, { question, { text = text, input = input } })
  end
  lu.assertTrue(is_thinking("<|assistant|><think>\n", false))
  lu.assertFalse(is_thinking("<|assistant|><think>\n\n</think>\n\n", false))
  lu.assertFalse(is_thinking("I was told to <think>", true))
  lu.assertEquals(events_of({ "hm\n</think>\nyes" }, hermes, true), "thinking||||hm\ntext||||yes")
end

function T.test_plain_sees_no_calls()
  lu.assertEquals(events_of({ "<tool_call>{}</tool_call>" }, plain),
    "text||||<tool_call>{}</tool_call>")
end

function T.test_choice_by_template()
  lu.assertEquals(format.choose(nil, "{{ '<tool_call>' }}").name, "hermes")
  lu.assertEquals(format.choose(nil, "{{ messages }}").name, "plain")
  lu.assertEquals(format.choose(nil, "<tool_call><function=f>").name, "qwen_coder")
  lu.assertEquals(format.choose(nil, "<tool_call>f<arg_key>").name, "glm")
  lu.assertEquals(format.choose("plain", "<tool_call>").name, "plain")
end

function T.test_format_of_ones_own()
  local own = format.check({ call = { open = "[CALL]", close = "[/CALL]" } }, "format")
  lu.assertEquals(events_of({ 'a[CALL]{"name":"f"}[/CALL]b' }, own),
    "text||||a\ncall|call_1|f|{}|\ntext||||b")
  own = format.check({ call = { open = "<<", close = ">>", parse = function(s)
    local name, value = s:match("^(%w+) (%w+)$")
    if not name then return nil, "expected: name value" end
    return { name = name, arguments = { v = value } }
  end } }, "format")
  lu.assertEquals(events_of({ "<", "<f 1>", ">" }, own), 'call|call_1|f|{"v":"1"}|')
  lu.assertStrContains(events_of({ "<<f>>" }, own), "expected: name value")
end

function T.test_wrong_formats()
  local function text_of(v) return select(2, format.check(v, "format")) end
  lu.assertStrContains(text_of("hermess"), "did you mean hermes?")
  lu.assertStrContains(text_of({ call = { open = "a" } }),
    'format.call has no close; add close = "..."')
  lu.assertStrContains(text_of({ call = { close = "a" } }), 'format.call has no open; add open')
  lu.assertStrContains(text_of({ call = { open = "a", close = true } }),
    "expected a marker, or false")
  lu.assertStrContains(text_of({ call = { open = "a", close = "b", syntax = "xml" } }),
    'format.call.syntax: found the string "xml", expected one of gemma, json, named, python, tags')
  lu.assertStrContains(text_of({ call = { open = "a", close = "b", syntax = "tags" } }),
    "format.call has no key")
  lu.assertStrContains(text_of({ ids = { form = "call", pattern = "x" } }), "with one number in it")
  lu.assertStrContains(text_of({ ids = { form = "call%d", pattern = "(" } }), "a Lua pattern")
  lu.assertStrContains(text_of({ section = { open = "a", close = "b" } }), "expected both")
  lu.assertStrContains(text_of({ cal = {} }), "format.cal is unknown; did you mean call?")
  lu.assertStrContains(text_of({ call = { open = "", close = "x" } }), "format.call.open: found")
end

-- A template that writes the calls of a message as the text says.
local function derived(calls)
  local template = assert(jinja.parse("{% for m in messages %}<|{{ m.role }}|>"
    .. "{% if m.reasoning_content %}<muse>{{ m.reasoning_content }}</muse>{% endif %}"
    .. "{{ m.content }}" .. calls .. "<|end|>{% endfor %}"))
  return derive.format(function(messages)
    local segments = template:render { messages = messages }
    return segments and jinja.text(segments)
  end)
end

local EACH <const> = "{% for c in m.tool_calls %}{% set f = c.function %}"
local DERIVED <const> = {
  { "JSON", EACH .. "<call>{{ {'tool': f.name, 'input': f.arguments} | tojson }}</call>"
    .. "{% endfor %}", '<call>{"input": {"a": 1}, "tool": "f"}</call>' },
  { "JSON in a list", "{% if m.tool_calls %}CALLS: [" .. EACH
    .. "{{ {'name': f.name, 'arguments': f.arguments, 'id': c.id} | tojson }}"
    .. "{% if not loop.last %}, {% endif %}{% endfor %}]{% endif %}",
    'CALLS: [{"name": "f", "arguments": {"a": 1}}]' },
  { "a name before JSON", "{% if m.tool_calls %}<all>" .. EACH
    .. "<one>{{ f.name }}|{{ f.arguments | tojson }}</one>{% endfor %}</all>{% endif %}",
    '<all><one>f|{"a": 1}</one></all>' },
  { "tags", EACH .. "<do {{ f.name }}>{% for k, v in f.arguments | items %}"
    .. "<in {{ k }}>{{ v }}</in>{% endfor %}</do>{% endfor %}", "<do f><in a>1</in></do>" },
  { "tags in lines", EACH .. "<do>{{ f.name }}\n{% for k, v in f.arguments | items %}"
    .. "<k>{{ k }}</k>\n<v>{{ v }}</v>\n{% endfor %}</do>\n{% endfor %}",
    "<do>f\n<k>a</k>\n<v>1</v>\n</do>" },
}

function T.test_formats_are_derived_from_what_a_template_writes()
  for _, case in ipairs(DERIVED) do
    local fmt = derived(case[2])
    lu.assertNotNil(fmt, case[1])
    lu.assertEquals(events_of({ "<muse>hm</muse>So. " .. case[3] }, fmt),
      'thinking||||hm\ntext||||So.\ncall|call_1|f|{"a":1}|', case[1])
  end
end

function T.test_what_cannot_be_read_back_is_not_derived()
  lu.assertNil(derived("")) -- calls are not written
  lu.assertNil(derived("{{ raise_exception('no') }}"))
  lu.assertNil(derived(EACH .. "{{ f.name }}{% endfor %}")) -- without arguments
  lu.assertNil(derived(EACH .. "{{ f.name }} {{ f.arguments }}{% endfor %}")) -- without markers
  lu.assertNil(derived(EACH -- another name
    .. "<c>{{ f.name | upper }} {{ f.arguments | tojson }}</c>{% endfor %}"))
end

-- White space in a reply costs time in proportion to its length.
function T.test_much_white_space()
  local space = (" "):rep(200000)
  lu.assertEquals(#events_of { "a" .. space .. "b" }, #"text||||ab" + #space)
  local text = events_of { '<tool_call>{"name":' .. space .. '"f"}</tool_call>' .. space }
  lu.assertEquals(text, "call|call_1|f|{}|")
  local gemma = format.choose("gemma4", "")
  text = events_of({ "<|tool_call>call:f{a" .. space .. "b:1}<tool_call|>" }, gemma)
  lu.assertEquals(#text, #'call|call_1|f|{"ab":1}|' + #space)
end

return T
