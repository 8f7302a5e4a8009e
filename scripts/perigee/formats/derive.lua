-- SPDX-License-Identifier: MIT
-- The format of a chat template that no family recognises.  Conversations that differ in one thing
-- are rendered and compared: an answer with and without a call, with one and two of them, with one
-- and two arguments.  What stands between the names and values that were put in are the markers.
-- The result counts only when the parser reads the rendered calls back as what they were.
local json = require "perigee.sys.json"
local fields = require "perigee.formats.fields"
local parser = require "perigee.formats.parser"
local scan = require "perigee.formats.scan"

local M = {}

local trim <const> = scan.trim

-- Words that stand in no template.
local ANSWER <const>, THOUGHT <const> = "Plainanswer", "Innerthought"
local NAMES <const> = { "firsttool", "secondtool" }
local IDS <const> = { "idoffirst", "idofother" }
local KEYS <const>, VALUES <const> = { "keyalpha", "keybeta" }, { "valuealpha", 73819 }

local SCHEMA <const> = json.object { { "type", "object" }, { "properties", json.object {
  { KEYS[1], json.object { { "type", "string" } } },
  { KEYS[2], json.object { { "type", "integer" } } },
} } }

local function definitions()
  local out = {}
  for i, name in ipairs(NAMES) do
    out[i] = json.object { { "type", "function" }, { "function", json.object {
      { "name", name }, { "description", "A tool." }, { "parameters", SCHEMA } } } }
  end
  return json.array(out)
end

local function arguments(n)
  local list = {}
  for i = 1, n do list[i] = { KEYS[i], VALUES[i] } end
  return json.object(list)
end

-- An answer of n_call calls with n_arg arguments each.
local function calling(n_call, n_arg)
  local calls = {}
  for i = 1, n_call do
    calls[i] = json.object { { "id", IDS[i] }, { "type", "function" }, { "function",
      json.object { { "name", NAMES[i] }, { "arguments", arguments(n_arg) } } } }
  end
  return { role = "assistant", content = "", tool_calls = json.array(calls) }
end

local function shared_start(a, b)
  local n = 0
  while n < #a and a:byte(n + 1) == b:byte(n + 1) do n = n + 1 end
  return n
end

local function shared_end(a, b)
  local n = 0
  while n < #a and n < #b and a:byte(#a - n) == b:byte(#b - n) do n = n + 1 end
  return n
end

-- What b has where a has something else, from the beginning of a marker on.
local function difference(a, b)
  local n = shared_start(a, b)
  n = (b:sub(1, n):find("<[^<>%s]*$") or b:sub(1, n):find("%[[%u_]*$") or n + 1) - 1
  local m = math.min(shared_end(a, b), #a - n, #b - n)
  return b:sub(n + 1, #b - m)
end

-- The end of a text that is also the end of the other, from the beginning of a marker on.
local function common_marker(text, other)
  local n = shared_end(text, other)
  if n == #text then return text end
  local s = text:sub(#text - n + 1)
  return s:sub(s:find("[<%[]") or #s + 1)
end

-- The markers of a call and of what encloses all calls, from the texts before the first, between
-- two, and behind the last.
local function enclosing(before, between, behind)
  if not between then return { open = trim(before), close = trim(behind) } end
  local open = common_marker(before, between)
  local middle = trim(between:sub(1, #between - #open))
  local close = trim(behind)
  if close:sub(1, #middle) == middle then close = middle end
  local section = { open = trim(before:sub(1, #before - #open)),
    close = trim(trim(behind):sub(#close + 1)) }
  local is_enclosed = section.open ~= "" and section.close ~= ""
  if not is_enclosed then open, close = before, trim(behind) end
  return { open = trim(open), close = close }, is_enclosed and section or nil
end

-- The JSON value that begins at a place: it and its last byte.
local function value_at(s, at)
  local depth, i = 0, at
  while i do
    i = s:find('["{}%[%]]', i)
    local c = i and s:sub(i, i)
    if c == '"' then
      repeat i = s:find('[\\"]', i + 1)
        local is_escape = i and s:sub(i, i) == "\\"
        if is_escape then i = i + 1 end
      until not i or not is_escape
    elseif c then
      depth = depth + ((c == "{" or c == "[") and 1 or -1)
    end
    if i and depth == 0 then return json.decode(s:sub(at, i)), i end
    i = i and i + 1
  end
  return nil
end

-- The first JSON value that has the text in it.
local function value_with(s, text, from)
  local where = s:find(text, from, true)
  local at = from
  while where do
    at = s:find("[{%[]", at)
    if not at or at > where then return nil end
    local value, last = value_at(s, at)
    if value ~= nil and last > where then return value, at, last end
    at = at + 1
  end
  return nil
end

-- {"name": "f", "arguments": {...}}, or a list of such.
local function derive_json(one, two)
  local value, first, last = value_with(one, '"' .. NAMES[1] .. '"', 1)
  if not value then return nil end
  local is_list = json.kind(value) == "array"
  local object, call = is_list and value[1] or value, { syntax = "json" }
  if json.kind(object) ~= "object" then return nil end
  for _, key in ipairs(json.keys(object)) do
    local v = object[key]
    if v == NAMES[1] then call.name = key end
    if v == IDS[1] then call.id = key end
    if json.kind(v) == "object" and v[KEYS[1]] == VALUES[1] then call.arguments = key end
    if key == NAMES[1] then call.name_is_key = true end
  end
  if not (call.name and call.arguments or call.name_is_key) then return nil end
  local between
  if two and not is_list then
    local _, _, end_1 = value_with(two, '"' .. NAMES[1] .. '"', 1)
    local _, begin_2 = value_with(two, '"' .. NAMES[2] .. '"', (end_1 or #two) + 1)
    between = begin_2 and two:sub(end_1 + 1, begin_2 - 1)
  end
  local around, section = enclosing(one:sub(1, first - 1), between, one:sub(last + 1))
  call.open, call.close = around.open, around.close
  if call.open == "" then call.open, call.bare = nil, one:sub(first, first) end
  return { call = call, section = section }
end

-- f SEPARATOR {...}
local function derive_named(one, two)
  local value, first, last = value_with(one, '"' .. KEYS[1] .. '"', 1)
  local name_at, name_end = one:find(NAMES[1], 1, true)
  if not value or not name_at or name_end >= first then return nil end
  local call, separator = { syntax = "named" }, one:sub(name_end + 1, first - 1)
  local id_at, id_end = separator:find(IDS[1], 1, true)
  if id_at then
    call.id_separator = trim(separator:sub(1, id_at - 1))
    separator = separator:sub(id_end + 1)
  end
  call.separator = trim(separator) ~= "" and trim(separator) or separator
  local between
  if two then
    local _, _, end_1 = value_with(two, '"' .. KEYS[1] .. '"', 1)
    local begin_2 = end_1 and two:find(NAMES[2], end_1 + 1, true)
    between = begin_2 and two:sub(end_1 + 1, begin_2 - 1)
  end
  local around, section = enclosing(one:sub(1, name_at - 1), between, one:sub(last + 1))
  call.open, call.close = around.open, around.close
  return { call = call, section = section }
end

-- The texts between the words put in, or nil when they do not follow one another.
local function gaps(s, words)
  local out, at = {}, 1
  for i, word in ipairs(words) do
    local from, to = s:find(tostring(word), at, true)
    if not from then return nil end
    out[i], at = s:sub(at, from - 1), to + 1
  end
  out[#words + 1] = s:sub(at)
  return out
end

-- f KEY k VALUE v ...
local function derive_tags(one, two, both)
  local g = both and gaps(both, { NAMES[1], KEYS[1], VALUES[1], KEYS[2], VALUES[2] })
  if not g then return nil end
  local key_open = common_marker(g[2], g[4])
  local value_close = g[4]:sub(1, #g[4] - #key_open)
  if trim(key_open) == "" or trim(value_close) == "" then return nil end
  local call = { syntax = "tags", key = { open = trim(key_open) },
    value = { close = trim(value_close) } }
  local name_close = trim(g[2]:sub(1, #g[2] - #key_open))
  call.name_close = name_close ~= "" and name_close or nil
  local key_close, value_open = g[3]:match("^(.->)%s*(<.*)$")
  call.key.close, call.value.open = trim(key_close or g[3]), value_open and trim(value_open)
  call.value.has_newlines = g[3]:sub(-1) == "\n" and value_close:sub(1, 1) == "\n" or nil
  local between
  local h = two and gaps(two, { NAMES[1], KEYS[1], VALUES[1], NAMES[2], KEYS[1], VALUES[1] })
  if h then between = h[4]:sub(#value_close + 1) end
  local single = gaps(one, { NAMES[1], KEYS[1], VALUES[1] })
  if not single then return nil end
  local around, section = enclosing(g[1], between, single[4]:sub(#value_close + 1))
  call.open, call.close = around.open, around.close
  return { call = call, section = section }
end

-- <think> and </think>, or what else encloses the thinking.
local function derive_thinking(render, plain)
  local text = render { role = "assistant", content = ANSWER, reasoning_content = THOUGHT }
  local from, to = (text or ""):find(THOUGHT, 1, true)
  if not from then return nil end
  local open = trim(text:sub(shared_start(plain, text) + 1, from - 1))
  local close = trim(text:sub(to + 1):match("^(.-)" .. ANSWER) or "")
  if close == "</think>" then open = "<think>" end
  if open == "" or close == "" then return nil end
  return { open = open, close = close }
end

-- Does the parser read the calls back?
local function reads_back(format, reply, n_call, n_arg)
  local n = 0
  local p = parser.new(format, false, function() return "" end, function() return SCHEMA end)
  local events = p:feed(reply)
  table.move(p:finish(), 1, 8, #events + 1, events)
  for _, ev in ipairs(events) do
    if ev.type == "call" then
      n = n + 1
      local args = ev.arguments
      if ev.name ~= NAMES[n] or args[KEYS[1]] ~= VALUES[1]
        or args[KEYS[2]] ~= (n_arg == 2 and VALUES[2] or nil) then
        return false
      end
    elseif ev.type ~= "text" or ev.text:find("%S") then
      return false
    end
  end
  return n == n_call
end

local function finish(found, thinking, one, two, both)
  local call = found.call
  if call.close == "" then call.close = false end
  if call.open == "" then return nil end
  if found.section then call.is_loose = true end
  local format = { name = "derived", call = call, section = found.section, thinking = thinking }
  local checked = fields.check(format, "format")
  if not checked or not reads_back(checked, one, 1, 1) then return nil end
  if two and not reads_back(checked, two, 2, 1) then return nil end
  if both and not reads_back(checked, both, 1, 2) then return nil end
  return checked
end

---Derive a format.
---@param render_all fun(messages: table[], tools: table): string?   nil: the template refuses them
---@return perigee.format?
function M.format(render_all)
  local tools = definitions()
  local function render(message)
    return render_all({ { role = "user", content = "Question" }, message }, tools)
  end
  local plain = render { role = "assistant", content = ANSWER }
  if not plain then return nil end
  local function reply(n_call, n_arg)
    local text = render(calling(n_call, n_arg))
    text = text and difference(plain, text)
    return text and text:find(NAMES[n_call], 1, true) and text or nil
  end
  local one = reply(1, 1)
  if not one then return nil end
  local two, both = reply(2, 1), reply(1, 2)
  local thinking = derive_thinking(render, plain)
  for _, derive in ipairs { derive_json, derive_named, derive_tags } do
    local found = derive(one, two, both)
    local format = found and finish(found, thinking, one, two, both)
    if format then return format end
  end
  return nil
end

return M
