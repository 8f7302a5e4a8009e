-- SPDX-License-Identifier: MIT
-- What stands between the markers of a call, as calls.  call.syntax says how it is written:
--   "json"    {"name": "f", "arguments": {...}}, or a list of such
--   "named"   f SEPARATOR {...}
--   "tags"    f KEY a VALUE 1 ..., the values raw text with the type the tool's schema gives
--   "python"  f(a=1), or a list of such
--   "gemma"   call:f{a:1}
-- A model that was shown one syntax sometimes writes JSON all the same; it is read where that
-- cannot be mistaken.
local check = require "perigee.check"
local json = require "perigee.sys.json"
local literal = require "perigee.formats.literal"
local scan = require "perigee.formats.scan"
local typed = require "perigee.formats.typed"

local M = {}

local trim <const> = scan.trim

---@class perigee.format.found   a call, or what is wrong with it
---@field name? string
---@field arguments? table
---@field id? string        as the reply gives it
---@field text? string      why it cannot be read

local function decode_arguments(text)
  local value, err = json.decode(text)
  if value == nil then return nil, "the arguments are no JSON: " .. tostring(err) end
  return value
end

local function call_of(name, args, id, key)
  if args == nil or args == json.null or args == "" then args = json.object {} end
  if type(args) == "string" then
    local inner, text = decode_arguments(args)
    if inner == nil then return { name = name, text = text } end
    args = inner
  end
  if not check.is_object(args) then
    return { name = name,
      text = ("found %s as %q, expected an object"):format(json.kind(args), key) }
  end
  if math.type(id) == "integer" then id = tostring(id) end
  return { name = name, arguments = args, id = type(id) == "string" and id ~= "" and id or nil }
end

-- One call from decoded JSON.
local function call_of_json(call, value)
  if not check.is_object(value) then return { text = "found no object" } end
  if call.name_is_key then
    local keys = json.keys(value)
    if #keys ~= 1 then
      return { text = ("found %d keys, expected one, the tool's name"):format(#keys) }
    end
    return call_of(keys[1], value[keys[1]], nil, keys[1])
  end
  local name = value[call.name]
  if type(name) ~= "string" or name == "" then
    return { text = ("found no %q with the tool's name"):format(call.name) }
  end
  local args = value[call.arguments]
  if args == nil then args = value.parameters end
  if args == nil then args = value.arguments end
  return call_of(name, args, call.id and value[call.id], call.arguments)
end

local function calls_of_value(call, value)
  local out = {}
  for i, one in ipairs(check.is_array(value) and value or { value }) do
    out[i] = call_of_json(call, one)
  end
  if #out == 0 then out[1] = { text = "found a list without calls" } end
  return out
end

local function read_json(call, body)
  local value, err = json.decode(body)
  if value == nil then return { { text = "the call is no JSON: " .. tostring(err) } } end
  return calls_of_value(call, value)
end

-- A reader that came with the format.
local function read_own(call, body)
  local ok, value, err = check.try(call.parse, body)
  if not ok then value, err = nil, type(value) == "string" and value or "its reader failed" end
  if value == nil then
    return { { text = "the call is no JSON: " .. (err or "nothing could be read") } }
  end
  local copy, text = check.copy(value, "call")
  if copy == nil then return { { text = tostring(text) } } end
  return calls_of_value(call, copy)
end

local function read_named(call, body)
  local from, to = body:find(call.separator, 1, true)
  if not from then
    return { { text = ("found no %q behind the tool's name"):format(call.separator) } }
  end
  local name, args, id = body:sub(1, from - 1), trim(body:sub(to + 1)), nil
  if call.kind_separator then
    local _, last = name:find(call.kind_separator, 1, true)
    name = name:sub((last or 0) + 1)
  end
  if call.id_separator then
    local first, last = name:find(call.id_separator, 1, true)
    if first then name, id = name:sub(1, first - 1), trim(name:sub(last + 1)) end
  end
  name = trim(name)
  local inner = call.name_pattern and name:match(call.name_pattern)
  if inner and call.name_is_id then id = name end
  name = inner or name
  local prefix = call.name_prefix
  if prefix and name:sub(1, #prefix) == prefix then name = name:sub(#prefix + 1) end
  if name == "" then return { { text = "found no name of a tool before its arguments" } } end
  local tail = call.tail
  if tail and args:sub(-#tail) == tail then args = trim(args:sub(1, -#tail - 1)) end
  return { call_of(name, args, id, "arguments") }
end

-- Where a value ends: at its closing marker that is followed by more markup or by nothing.
local function end_of_value(call, body, at)
  while true do
    local from, to = body:find(call.value.close, at, true)
    if not from then return nil end
    local next_at = body:match("^%s*()", to + 1)
    for _, marker in ipairs { call.key.open, call.value.close } do
      if body:sub(next_at, next_at + #marker - 1) == marker then return from, to end
    end
    if next_at > #body then return from, to end
    at = from + 1
  end
end

local function typed_value(call, raw, attributes, schema, key)
  if call.value.has_newlines then raw = raw:gsub("^\n", ""):gsub("\n$", "") end
  local says_string = attributes:match('string%s*=%s*"(%a+)"')
  if says_string == "true" then return raw end
  if says_string ~= "false" then return typed.value(raw, schema, key) end
  local v, err = json.decode(raw)
  if v == nil then return nil, ("the value of %s is no JSON: %s"):format(key, tostring(err)) end
  return v
end

-- One argument; the place is behind the marker that opens its key.
local function read_pair(call, body, at, schema)
  local from, to = body:find(call.key.close, at, true)
  if not from then return nil, ("found no %q behind an argument's name"):format(call.key.close) end
  local key, attributes = trim(body:sub(at, from - 1)), ""
  at = to + 1
  if call.value.open then
    from, to = body:find(call.value.open, at, true)
    if not from then return nil, ("found no %q behind %s"):format(call.value.open, key) end
    attributes, at = body:sub(at, from - 1), to + 1
  end
  if attributes:find(call.key.open, 1, true) then return nil, "found no value of " .. key end
  from, to = end_of_value(call, body, at)
  if not from then
    return nil, ("found no %q behind the value of %s"):format(call.value.close, key)
  end
  local v, text = typed_value(call, body:sub(at, from - 1), attributes, schema, key)
  if v == nil then return nil, text end
  return { key, v }, to + 1
end

local function name_of_tags(call, body)
  if call.name_close then
    local from, to = body:find(call.name_close, 1, true)
    if not from then return nil, nil end
    return trim(body:sub(1, from - 1)), to + 1
  end
  local from = body:find(call.key.open, 1, true) or #body + 1
  return trim(body:sub(1, from - 1)), from
end

local function read_tags(call, body, schema_of)
  local name, at = name_of_tags(call, body)
  if not name or name == "" or #name > 256 or name:find("[%c<>]") then
    return { { text = "found no name of a tool at the beginning of the call" } }
  end
  local list, seen, schema = {}, {}, schema_of(name)
  while true do
    at = body:match("^%s*()", at)
    if at > #body then return { { name = name, arguments = json.object(list) } } end
    if body:sub(at, at + #call.key.open - 1) == call.key.open then
      local pair, behind = read_pair(call, body, at + #call.key.open, schema)
      if not pair then return { { name = name, text = behind } } end
      if seen[pair[1]] then
        return { { name = name, text = ("the argument %s is given twice"):format(pair[1]) } }
      end
      seen[pair[1]], list[#list + 1], at = true, pair, behind
    elseif body:sub(at, at + #call.value.close - 1) == call.value.close then
      at = at + #call.value.close -- written twice
    else
      return { { name = name, text = ("found %q at byte %d of the call, expected %q"):format(
        body:sub(at, at + 15), at, call.key.open) } }
    end
  end
end

local function read_python(_, body)
  local list, text, name = literal.calls(body)
  return list or { { text = text, name = name } }
end

local function read_gemma(call, body)
  local one, text, name = literal.gemma(body, call.quote)
  return { one or { text = text, name = name } }
end

local READERS <const> = { json = read_json, named = read_named, tags = read_tags,
  python = read_python, gemma = read_gemma }

-- Another syntax than was shown: {"name": ...}, or a name and an object behind it.
local function read_otherwise(call, body)
  if not call.syntax or call.syntax == "json" then return nil end
  if body:find("^{%s*\"") or body:find("^%[%s*{") then return read_json(call, body) end
  local name, args = body:match("^([%w_%.%-]+)%s*\n%s*({.*})$")
  local value = call.syntax == "tags" and name and json.decode(args)
  return value and { call_of(name, value, nil, "arguments") } or nil
end

---Read the text of a call.
---@param call table                       of the format
---@param body string
---@param schema_of fun(name: string): any   parameters of a tool
---@return perigee.format.found[]   at least one
function M.read(call, body, schema_of)
  body = trim(body)
  if body == "" then return { { text = "found nothing between the markers of a call" } } end
  if call.parse then return read_own(call, body) end
  return read_otherwise(call, body) or READERS[call.syntax or "json"](call, body, schema_of)
end

return M
