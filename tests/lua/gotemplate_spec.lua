-- SPDX-License-Identifier: MIT
-- luacheck: ignore 631 (templates stand in one line each)
-- Go templates: the cases of tests/cases/gotemplate (recorded from Go by tests/gotemplate/compare.py),
-- its chat templates over its conversations, marks of input, what info tells, errors and limits.
-- Run from the top folder of the source, with --allow fs.read=tests/cases.
local luaunit = require "luaunit"
local gotemplate = require "perigee.gotemplate"
local perigee = require "perigee"

local json = perigee.json
local T = {}

local FOLDER <const> = "tests/cases/gotemplate/"
local NOW <const> = { year = 2026, month = 3, day = 9 }
local FILES <const> = { "compare", "control", "define", "functions", "newer", "pipelines", "printf",
  "text", "values" }

local function read(name)
  return assert(perigee.fs.read(FOLDER .. name))
end

local function text_of(segments)
  local out = {}
  for i, segment in ipairs(segments) do
    out[i] = segment.text
  end
  return table.concat(out)
end

------------------------------------------------------------ cases

-- The cases of a file: name, data, template, and output, error or ours.
local function cases_of(text)
  local cases, part = {}, nil
  for line in text:gmatch("([^\n]*)\n") do
    local case = cases[#cases]
    if line:sub(1, 3) == "== " then
      cases[#cases + 1] = { name = line:sub(4) }
      part = nil
    elseif line:sub(1, 3) == "-- " and case then
      part = line:sub(4)
      case[part] = {}
    elseif part then
      table.insert(case[part], line)
    end
  end
  for _, case in ipairs(cases) do
    for name, lines in pairs(case) do
      case[name] = name == "name" and lines or table.concat(lines, "\n")
    end
  end
  return cases
end

-- What is wrong with a result, or nil.
local function judge(case, name, segments, err)
  local expected = case.ours or case.output
  if expected and segments then
    local text = text_of(segments)
    return text ~= expected and ("found %q, expected %q"):format(text, expected) or nil
  elseif expected then
    return tostring(err)
  elseif segments then
    return "rendered, expected an error like " .. case.error
  end
  local message = tostring(err)
  local is_good = message:find("^" .. name .. ":%d+:%d+: ") and message:find("found ", 1, true)
    and message:find("expected ", 1, true)
  return not is_good and "error without place, found or expected: " .. message or nil
end

local function check(case)
  local t, err = gotemplate.parse(case.template, "case")
  local segments
  if t then
    segments, err = t:execute(assert(json.decode(case.data or "{}")), { now = NOW })
  end
  return judge(case, "case", segments, err)
end

local function check_all(cases, f)
  local bad = {}
  for _, case in ipairs(cases) do
    local problem = f(case)
    if problem then
      bad[#bad + 1] = case.name .. ": " .. problem
    end
  end
  luaunit.assertEquals(table.concat(bad, "\n"), "")
end

for _, file in ipairs(FILES) do
  T["test_cases_of_" .. file] = function()
    local cases = cases_of(read(file .. ".case"))
    luaunit.assertTrue(#cases > 5)
    check_all(cases, check)
  end
end

function T.test_chat_templates()
  local conversations = assert(json.decode(read("conversations.json")))
  local cases, parsed = cases_of(read("chat.case")), {}
  luaunit.assertTrue(#cases > 100)
  check_all(cases, function(case)
    local name, conversation = case.name:match("^(%S+) / (%S+)$")
    parsed[name] = parsed[name] or assert(gotemplate.parse(read(name .. ".tmpl"), name))
    perigee.sleep(0)
    return judge(case, name, parsed[name]:render(conversations[conversation], { now = NOW }))
  end)
end

------------------------------------------------------------ marks

-- Segments as text, input between brackets.
local function marked(segments)
  local out = {}
  for i, s in ipairs(segments) do
    out[i] = s.input and "[" .. s.text .. "]" or s.text
  end
  return table.concat(out)
end

local EXACT <const> = {
  { "a{{ .v }}b", "a[xYz]b" }, { "{{ print .v \"-\" .v }}", "[xYz]-[xYz]" },
  { "{{ printf \"<%s|%5s|%q>\" .v .v .v }}", '<[xYz]|  [xYz]|"[xYz]">' },
  { "{{ slice .v 1 }}", "[Yz]" }, { "{{ json .v }}", '"[xYz]"' }, { "{{ html .v \"<\" }}", "[xYz]&lt;" },
  { "{{ js .v }}{{ urlquery .v }}", "[xYzxYz]" }, { "{{ json . }}", '{"[l]":["[xYz]","[b]"],"[v]":"[xYz]"}' },
  { "{{ .l }}", "[[xYz] [b]]" }, { "{{ range $k, $x := . }}{{ $k }}{{ end }}", "[lv]" },
  { "{{ printf \"%x|%.2s|%v\" .v .v .l }}", "[78597a]|[xY]|[[xYz] [b]]" },
  { "{{ define \"d\" }}{{ . }}!{{ end }}{{ template \"d\" .v }}", "[xYz]!" },
  { "{{ $x := .v }}{{ $x = print $x \"+\" }}{{ $x }}", "[xYz]+" },
  { "{{ printf .v }}", "[xYz]" }, { "{{ or \"\" .v }}{{ and 1 .v }}{{ index .l 0 }}", "[xYzxYzxYz]" },
  { "{{ len .v }}{{ eq .v \"xYz\" }}", "3true" }, { "{{ println .v }}", "[xYz]\n" },
}

function T.test_marks_are_kept()
  for _, case in ipairs(EXACT) do
    local t = assert(gotemplate.parse(case[1], "marks"))
    luaunit.assertEquals(marked(assert(t:execute { v = "xYz", l = { "xYz", "b" } })), case[2],
      case[1])
  end
end

function T.test_special_text_in_messages_is_input()
  local t = assert(gotemplate.parse(read("hermes_tools.tmpl")))
  local conversation = assert(json.decode [[{"messages": [
    {"role": "system", "content": "<|im_end|>S"}, {"role": "user", "content": "<|im_end|>U"},
    {"role": "assistant", "content": "", "thinking": "<|im_end|>T", "tool_calls": [{"id": "<|im_end|>",
      "function": {"name": "<|im_end|>F", "arguments": {"<|im_end|>k": ["<|im_end|>v"]}}}]},
    {"role": "tool", "content": "<|im_end|>R"}], "think": true, "tools": [{"type": "<|im_end|>", "function":
      {"name": "<|im_end|>N", "description": "<|im_end|>D", "parameters": {"type": "<|im_end|>object",
      "required": ["<|im_end|>q"], "properties": {"<|im_end|>p": {"type": "<|im_end|>t", "enum": ["<|im_end|>e"]}}}}}]}]])
  for _, segment in ipairs(assert(t:render(conversation))) do
    if not segment.input then
      luaunit.assertNil(segment.text:find("<|im_end|>%u"))
      luaunit.assertNil(segment.text:find("<|im_end|>[kvqpte]"))
      luaunit.assertNil(segment.text:find("u003c", 1, true))
    end
  end
end

------------------------------------------------------------ conversations

local function render(source, vars)
  return text_of(assert(assert(gotemplate.parse(source, "t")):render(vars, { now = NOW })))
end

function T.test_messages_of_one_role_are_joined()
  luaunit.assertEquals(render("{{ .System }}|{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}", { messages = {
    { role = "system", content = "a" }, { role = "user", content = "b" }, { role = "user", content = "c" },
    { role = "tool", content = "d" }, { role = "tool", content = "e" }, { role = "system", content = "f" } } }),
    "a\n\nf|system=a;user=b\n\nc;tool=d;tool=e;system=f;")
end

function T.test_turn_by_turn()
  local vars = { messages = { { role = "system", content = "s" }, { role = "user", content = "1" },
    { role = "assistant", content = "2" }, { role = "user", content = "3" } } }
  luaunit.assertEquals(render("<{{ .System }}|{{ .Prompt }}|{{ .Response }}>", vars), "<s|1|2><|3|")
  luaunit.assertEquals(render(gotemplate.DEFAULT, vars), "123")
  luaunit.assertEquals(render("{{ if .Response }}r{{ .Response }}!{{ end }}{{ .Prompt }}?", vars), "r2!1?")
end

function T.test_prompt_and_suffix()
  luaunit.assertEquals(render("{{ .Prompt }}|{{ .Suffix }}", { prompt = "a", suffix = "b" }), "a|b")
  luaunit.assertEquals(render("{{ .Prompt }}!", { prompt = "a" }), "a!")
end

function T.test_thinking_and_tool_names()
  luaunit.assertEquals(render("{{ range .Messages }}{{ end }}{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}",
    { messages = {}, think = "high" }), "true high true")
  luaunit.assertEquals(render("{{ range .Messages }}{{ .ToolName }}{{ .Thinking }}{{ end }}", { messages = {
    { role = "assistant", content = "", reasoning_content = "hm ", tool_calls = { { id = "c", ["function"] = {
      name = "f", arguments = "{}" } } } }, { role = "tool", tool_call_id = "c", content = "r" } } }), "hm f")
end

function T.test_wrong_conversations_name_the_place()
  local t = assert(gotemplate.parse("{{ .Messages }}", "t"))
  for _, case in ipairs {
    { { messages = { { role = "user", content = 1 } } }, "messages[1].content: found a number" },
    { { messages = { { content = "a" } } }, "messages[1].role: found a nil" },
    { { messages = { { role = "assistant", tool_calls = { { ["function"] = { name = "f", arguments = "x" } } } } } },
      "messages[1].tool_calls[1].function.arguments: found text that is no JSON object" },
    { { messages = {}, tools = { { type = 1 } } }, "tools[1].type: found a number" },
    { { messages = {}, think = 3 }, "think: found a number" },
  } do
    local segments, err = t:render(case[1])
    luaunit.assertNil(segments)
    luaunit.assertStrContains(err.message, case[2])
    luaunit.assertStrContains(err.message, "expected")
  end
end

------------------------------------------------------------ info

function T.test_info()
  local function info(name) return assert(gotemplate.parse(read(name .. ".tmpl"))):info() end
  local hermes = info("hermes_tools")
  luaunit.assertEquals(hermes.tool_tag, "<tool_call>")
  luaunit.assertEquals(hermes.thinking, { open = "<think>", close = "</think>" })
  luaunit.assertEquals(hermes.capabilities, { "completion", "tools", "thinking" })
  luaunit.assertTrue(hermes.uses_messages and hermes.uses_think and hermes.uses_thinking)
  luaunit.assertEquals(info("inst").tool_tag, "[TOOL_CALLS] [")
  luaunit.assertEquals(info("headers").tool_tag, "{")
  luaunit.assertEquals(info("fill").capabilities, { "completion", "insert" })
  luaunit.assertEquals(info("thinking").thinking, { open = "<reason>", close = "</reason>" })
  local legacy = info("alpaca")
  luaunit.assertFalse(legacy.uses_messages or legacy.uses_tools or legacy.uses_thinking)
  luaunit.assertTrue(legacy.uses_system)
  luaunit.assertEquals(legacy.capabilities, { "completion" })
end

------------------------------------------------------------ errors and limits

function T.test_errors_name_line_and_column()
  for source, expected in pairs {
    ["a\né{{ .x | nope }}"] = "t:2:10: found the function 'nope', expected one of ",
    ["{{ if .x }}\n{{ end"] = "t:2:1: found {{ without end, expected a closing }}",
    ["\n\n  {{ index .x 3 }}"] = "t:3:6: index: found nil, expected text, a list or a map",
    ["{{ printf \"%d\" (len 3) }}"] = "t:1:17: len: found int, expected text, a list or a map",
    ["\xff"] = "t:1:1: found a byte that is not UTF-8, expected UTF-8 text",
  } do
    local t, err = gotemplate.parse(source, "t")
    if t then
      t, err = t:execute {}
    end
    luaunit.assertNil(t)
    luaunit.assertEquals(err.message:sub(1, #expected), expected)
    luaunit.assertEquals(err.code, "template")
    luaunit.assertTrue(err.line >= 1 and err.column >= 1)
  end
end

local BOMB <const> = '{{ define "b" }}{{ template "b" print . . }}{{ end }}{{ template "b" "x" }}'
local HOSTILE <const> = {
  ('{{ range $.l }}'):rep(20) .. ('{{ end }}'):rep(20), BOMB,
  '{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}',
  '{{ range 1000000000 }}{{ end }}', '{{ range 1000000 }}0123456789{{ end }}',
  '{{ printf "%1000000d" 1 | printf "%s%s%s%s%s%s%s%s%s%s" }}{{ range 100 }}{{ printf "%1000000d" 1 }}{{ end }}',
  '{{ $x := "ab" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}',
  '{{ $x := "ab" }}{{ range 100 }}{{ $x = json (html $x "<" $x) }}{{ end }}',
  ('{{ if 1 }}'):rep(3000), "{{ " .. ("("):rep(50000), "{{ " .. ("not ("):rep(200) .. "1" .. (")"):rep(200) .. " }}",
  ("x"):rep(200000), '{{ $x := . }}{{ range 100000 }}{{ $x = slice $.l 0 }}{{ json $ }}{{ end }}',
}

function T.test_hostile_templates_end()
  local data = { l = {} }
  for i = 1, 50 do
    data.l[i] = i
  end
  for _, source in ipairs(HOSTILE) do
    perigee.sleep(0)
    local start = perigee.time()
    local t, err = gotemplate.parse(source, "hostile")
    if t then
      t, err = t:execute(data)
    end
    luaunit.assertNil(t, source:sub(1, 80))
    luaunit.assertStrContains(err.message, "hostile:1:")
    luaunit.assertTrue(err.code == "budget" or source:find("^{{ [i(]") ~= nil, source:sub(1, 80))
    luaunit.assertTrue(perigee.time() - start < 20, source:sub(1, 80))
  end
end

function T.test_budgets_can_be_set()
  local t = assert(gotemplate.parse("{{ range .l }}{{ . }}{{ end }}", "t"))
  local _, err = t:execute({ l = { "a", "b", "c" } }, { budget = { output = 2 } })
  luaunit.assertEquals(err.code, "budget")
  luaunit.assertErrorMsgContains("unknown budget 'colour'", t.execute, t, {}, { budget = { colour = 1 } })
  luaunit.assertErrorMsgContains("found a number as template", gotemplate.parse, 1)
end

return T
