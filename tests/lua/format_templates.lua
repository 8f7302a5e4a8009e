-- SPDX-License-Identifier: MIT
-- The families of formats against real chat templates: what a template writes for calls is read
-- back as the same calls.  tests/e2e/format_templates.sh runs this in the folder that
-- PERIGEE_TEST_DATA names; it is no spec of the suite by its name, because the data is not here.
local derive = require "perigee.formats.derive"
local events = require "format_events"
local format = require "perigee.format"
local jinja = require "perigee.jinja"
local lu = require "luaunit"
local perigee = require "perigee"

local json = perigee.json
local T = {}
local FOLDER <const> = "chat-templates"
local BOS <const>, EOS <const> = "<BOS>", "<EOS>"
-- What ends a turn in some template.
local ENDS <const> = { EOS, "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|END_OF_TURN_TOKEN|>",
  "<｜end▁of▁sentence｜>", "<turn|>", "<|tool_response>", "<|return|>", "<end_of_turn>", "<|end|>" }

local PROPERTIES <const> = [[{"count": {"type": "integer"}, "ratio": {"type": "number"},
  "name": {"type": "string"}, "list": {"type": "array", "items": {}},
  "more": {"type": "object", "properties": {}}, "is_on": {"type": "boolean"}}]]
local PARAMETERS <const> = assert(json.decode(
  '{"type": "object", "properties": ' .. PROPERTIES .. ', "required": []}'))
local TOOLS <const> = { add_it = PARAMETERS, look_up = PARAMETERS }

local function definitions()
  local list = {}
  for i, name in ipairs { "add_it", "look_up" } do
    list[i] = json.object { { "type", "function" }, { "function", json.object {
      { "name", name }, { "description", "A tool." }, { "parameters", PARAMETERS } } } }
  end
  return json.array(list)
end

-- Arguments of one call.
local ARGUMENTS <const> = {
  "{}",
  [[{"count": 2, "name": "x"}]],
  [[{"name": "2", "count": -17, "ratio": 1.5}]],
  [[{"name": "true", "is_on": true}]],
  [=[{"is_on": false, "list": [1, "x", [true, null]], "more": {"k": {"v": [1]}, "empty": {}}}]=],
  [[{"name": "say \"hi\", it's {[()]} \\ done", "count": 3}]],
  [[{"name": "two\nlines\n\n and  spaces", "list": []}]],
  [[{"name": "grüß – 漢字 🙂", "list": ["ü"]}]],
  [[{"name": "</tool_call> <think> [TOOL_CALLS] <|tool_call|> ```", "count": 1}]],
  [[{"more": {}, "list": [], "ratio": -0.25, "count": 0, "name": "", "is_on": true}]],
}

-- The keys of an object in another order.
local function turned(value)
  local keys, out = json.keys(value), {}
  for i = #keys, 1, -1 do out[#out + 1] = { keys[i], value[keys[i]] } end
  return json.object(out)
end

local function message_of(variant, names, arguments)
  local fields, calls = { { "role", "assistant" }, { "content", variant.content } }, {}
  if variant.reasoning then fields[3] = { "reasoning_content", variant.reasoning } end
  for i, args in ipairs(arguments) do
    calls[i] = json.object { { "id", ("abcdefgh%d"):format(i) }, { "type", "function" },
      { "function", json.object { { "name", names[i] }, { "arguments", args } } } }
  end
  fields[#fields + 1] = { "tool_calls", json.array(calls) }
  return json.object(fields)
end

local function render(template, messages, is_open)
  local segments, err = template:render({ messages = json.array(messages), bos_token = BOS,
    tools = definitions(), eos_token = EOS, add_generation_prompt = is_open }, { now = 0 })
  return segments and jinja.text(segments), tostring(err)
end

-- How much of the prompt the conversation goes on from; not into a marker.
local function shared(fmt, prompt, whole)
  local n = 0
  while n < #prompt and prompt:byte(n + 1) == whole:byte(n + 1) do n = n + 1 end
  for _, marker in ipairs(format.markers(fmt)) do
    for at = math.max(1, n - #marker + 2), n do
      if whole:sub(at, at + #marker - 1) == marker then n = math.min(n, at - 1) end
    end
  end
  return n
end

local function cut_end(s)
  local first = #s + 1
  for _, mark in ipairs(ENDS) do first = math.min(first, s:find(mark, 1, true) or first) end
  return s:sub(1, first - 1)
end

-- The text a template writes for a reply: what is behind the prompt.
local function reply_of(template, fmt, message)
  local question = json.object { { "role", "user" }, { "content", "Q?" } }
  local whole, err = render(template, { question, message }, false)
  if not whole then return nil, err end
  local prompt = assert(render(template, { question }, true))
  local n = shared(fmt, prompt, whole)
  local is_thinking = format.is_thinking(fmt, { { text = whole:sub(1, n), input = false } })
  local reply = whole:sub(n + 1)
  return fmt.channels and reply or cut_end(reply), is_thinking
end

local function calls_of(list)
  local out = {}
  for _, ev in ipairs(list) do
    if ev.type == "call" then
      out[#out + 1] = ev.name .. " " .. json.encode(ev.arguments, { sort = true })
    elseif ev.type == "broken" then
      out[#out + 1] = "broken: " .. ev.text
    end
  end
  return out
end

local function joined(list, kind)
  local out = {}
  for _, ev in ipairs(list) do
    if ev.type == kind then out[#out + 1] = ev.text end
  end
  return table.concat(out, " ")
end

-- A reply that ends early has the calls that were whole, and reports what was not.
local function check_cut(fmt, reply, options, expected, label)
  for i = 1, #reply - 1, 5 do
    local found = calls_of(events.events(fmt, { reply:sub(1, i) }, options))
    for k, one in ipairs(found) do
      local is_report = one:find("^broken: ") ~= nil
      lu.assertTrue(is_report or one == expected[k],
        ("%s: cut at %d, found %s"):format(label, i, one))
    end
  end
end

local function check(fmt, reply, options, expected, label, step)
  local list = events.events(fmt, { reply }, options)
  lu.assertEquals(calls_of(list), expected, label .. ": " .. reply)
  lu.assertNil(events.lost(fmt, reply, options), label)
  lu.assertNil(events.split_difference(fmt, reply, options, step), label)
  check_cut(fmt, reply, options, expected, label)
  return list
end

local VARIANTS <const> = {
  { name = "one call", content = "", n = 1 },
  { name = "text and a call", content = "I look.", n = 1 },
  { name = "thinking, text and a call", content = "I look.", reasoning = "Let me see.", n = 1 },
  { name = "keys in another order", content = "", n = 1, is_turned = true },
  { name = "two calls", content = "", n = 2 },
}

-- Replies with these arguments are split everywhere, the others at every fifth place.
local SPLIT_EVERYWHERE <const> = { [2] = true, [5] = true, [9] = true }
local NAMES <const> = { "add_it", "look_up" }

-- One variant with one list of arguments: what was found, or why it could not be asked.
local function try(template, fmt, variant, at, label)
  local arguments, expected = {}, {}
  for i = 1, variant.n do
    local text = ARGUMENTS[(at + i - 2) % #ARGUMENTS + 1]
    local value = assert(json.decode(text))
    arguments[i] = variant.is_turned and turned(value) or value
    expected[i] = NAMES[i] .. " " .. json.encode(value, { sort = true })
  end
  local reply, is_thinking = reply_of(template, fmt, message_of(variant, NAMES, arguments))
  if not reply then return "refused: " .. is_thinking:match("[^:]*$") end
  local options = { tools = TOOLS, is_thinking = is_thinking }
  local step = SPLIT_EVERYWHERE[at] and 1 or 5
  if variant.n == 2 and not reply:find(NAMES[2], 1, true) then
    if not reply:find(NAMES[1], 1, true) then return "writes no calls" end
    check(fmt, reply, options, { expected[1] }, label, step)
    return "writes the first of two calls only"
  end
  if not reply:find(NAMES[1], 1, true) then return "writes no calls" end
  local list = check(fmt, reply, options, expected, label, step)
  local text, thinking = joined(list, "text"), joined(list, "thinking")
  lu.assertTrue(text == variant.content or text == "" or fmt.channels ~= nil, label .. text)
  if thinking ~= "" and not fmt.channels then
    lu.assertEquals(thinking, variant.reasoning, label)
  end
  return "read back"
end

-- What is derived from a template without knowing its family reads the calls back, too.
local function check_derived(template, name)
  local fmt = derive.format(function(messages, tools)
    local segments = template:render({ messages = json.array(messages), bos_token = BOS,
      tools = tools, eos_token = EOS, add_generation_prompt = false }, { now = 0 })
    return segments and jinja.text(segments)
  end)
  if not fmt then return print(name .. ": nothing derived") end
  local n = 0
  for at = 1, #ARGUMENTS do
    local args = assert(json.decode(ARGUMENTS[at]))
    local reply, is_thinking = reply_of(template, fmt,
      message_of(VARIANTS[1], NAMES, { args }))
    local options = { tools = TOOLS, is_thinking = reply and is_thinking }
    local found = reply and calls_of(events.events(fmt, { reply }, options))[1]
    if found == NAMES[1] .. " " .. json.encode(args, { sort = true }) then n = n + 1 end
  end
  lu.assertEquals(n, #ARGUMENTS, name)
  print(("%s: derived %s %s: %d of %d read back"):format(name, fmt.call.syntax,
    json.encode(fmt.call.open or fmt.call.bare), n, #ARGUMENTS))
end

local function check_template(name)
  local source = assert(perigee.fs.read(FOLDER .. "/" .. name))
  local fmt = format.recognise(source)
  if not fmt then return print(name .. ": no family") end
  local template, counts, order = assert(jinja.parse(source, name)), {}, {}
  for _, variant in ipairs(VARIANTS) do
    for at = 1, #ARGUMENTS do
      local what = try(template, fmt, variant, at, ("%s, %s %d"):format(name, variant.name, at))
      if not counts[what] then order[#order + 1] = what end
      counts[what] = (counts[what] or 0) + 1
      perigee.sleep(0)
    end
  end
  for i, what in ipairs(order) do order[i] = ("%d %s"):format(counts[what], what) end
  print(("%s: %s: %s"):format(name, fmt.name, table.concat(order, "; ")))
end

for _, name in ipairs(assert(perigee.fs.list(FOLDER))) do
  if name:find("%.jinja$") then
    T["test_" .. name] = function() check_template(name) end
    T["test_derived_" .. name] = function()
      check_derived(assert(jinja.parse(assert(perigee.fs.read(FOLDER .. "/" .. name)), name)), name)
    end
  end
end

return T
