-- SPDX-License-Identifier: MIT
-- tojson as transformers has it: json.dumps with ensure_ascii off.  Unlike a plain encoder it keeps
-- the marks of strings.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local format = require "perigee.jinja.format"
local compare = require "perigee.jinja.compare"

local M = {}
local MAX_DEPTH <const> = 128

local SHORT <const> = {
  ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"', ["\b"] = "\\b",
  ["\f"] = "\\f",
}

local ESCAPES <const> = { ['"'] = '\\"', ["\\"] = "\\\\" }
for code = 0, 31 do
  local char = string.char(code)
  ESCAPES[char] = SHORT[char] or ("\\u%04x"):format(code)
end

local function escape_wide(char)
  local code = utf8.codepoint(char)
  if code < 0x10000 then
    return ("\\u%04x"):format(code)
  end
  code = code - 0x10000
  return ("\\u%04x\\u%04x"):format(0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF))
end

local function escape(s)
  return (s:gsub('[\0-\x1f"\\]', ESCAPES))
end

local function escape_ascii(s)
  S.charge(#s >> 1)
  return (escape(s):gsub("[\xc2-\xf4][\x80-\xbf]+", escape_wide))
end

---@class perigee.jinja.json_options
---@field ascii boolean
---@field indent string?
---@field comma string
---@field colon string
---@field sort boolean

local function add(out, text)
  local n = out.n + 1
  out.n = n
  out[n] = text
end

local function add_string(out, v, options)
  add(out, '"')
  add(out, T.unsafe(T.map(v, options.ascii and escape_ascii or escape)))
  add(out, '"')
end

local function float_text(v)
  if v ~= v then
    return "NaN"
  elseif v == math.huge then
    return "Infinity"
  elseif v == -math.huge then
    return "-Infinity"
  end
  return format.float(v)
end

local function scalar_text(v, which)
  if which == "int" then
    return ("%d"):format(v)
  elseif which == "float" then
    return float_text(v)
  elseif which == "bool" then
    return v and "true" or "false"
  elseif which == "none" then
    return "null"
  elseif which == "big" then
    return v.digits
  end
  return nil
end

-- Text of a key, as json.dumps makes one of numbers, booleans and None.
local function key_of(k)
  local which = V.kind(k)
  if which == "str" then
    return k
  end
  return scalar_text(k, which) or S.fail(
    ("found a key of type %s, expected text, a number, a boolean or None"):format(V.type_name(k)))
end

local function sorted_order(d)
  local order = {}
  for i = 1, d.n do
    order[i] = i
  end
  S.charge(4 * d.n)
  return compare.sort(order, d.keys, d.n, false)
end

local add_value

local function new_line(out, options, depth)
  if options.indent then
    S.alloc(#options.indent * depth + 1)
    add(out, "\n" .. options.indent:rep(depth))
  end
end

local function add_list(out, items, n, options, depth)
  if n == 0 then
    return add(out, "[]")
  end
  add(out, "[")
  for i = 1, n do
    if i > 1 then
      add(out, options.comma)
    end
    new_line(out, options, depth + 1)
    add_value(out, items[i], options, depth + 1)
  end
  new_line(out, options, depth)
  add(out, "]")
end

local function add_dict(out, d, options, depth)
  if d.n == 0 then
    return add(out, "{}")
  end
  local order = options.sort and sorted_order(d)
  add(out, "{")
  for i = 1, d.n do
    local k = order and order[i] or i
    if i > 1 then
      add(out, options.comma)
    end
    new_line(out, options, depth + 1)
    add_string(out, key_of(d.keys[k]), options)
    add(out, options.colon)
    add_value(out, d.map[d.hash[k]], options, depth + 1)
  end
  new_line(out, options, depth)
  add(out, "}")
end

add_value = function(out, v, options, depth)
  S.charge(2)
  S.alloc(32)
  if depth > MAX_DEPTH then
    S.fail(("value nested deeper than %d, or containing itself, has no JSON"):format(MAX_DEPTH))
  end
  local which = V.kind(v)
  if which == "str" then
    return add_string(out, v, options)
  elseif which == "dict" then
    return add_dict(out, v, options, depth)
  elseif which == "list" or which == "tuple" then
    return add_list(out, v, v.n, options, depth)
  end
  add(out, scalar_text(v, which) or S.fail(
    ("found %s, expected a value that has JSON"):format(
      which == "undefined" and v.text or V.type_name(v))))
end

local function separators(v, indent)
  if v == nil or v == V.NONE then
    return indent and "," or ", ", ": "
  end
  local items, n = V.items(v)
  if n ~= 2 or not (T.is(items[1]) and T.is(items[2])) then
    S.fail("separators: expected two texts")
  end
  return T.raw(items[1]), T.raw(items[2])
end

local function indent_text(v)
  if v == nil or v == V.NONE then
    return nil
  elseif T.is(v) then
    return (T.raw(v))
  elseif v == true then
    return " "
  elseif not v then
    return ""
  elseif math.type(v) ~= "integer" then
    S.fail(("indent: found %s, expected a number of columns or a text"):format(V.type_name(v)))
  end
  S.alloc(v > 0 and v or 0)
  return (" "):rep(v)
end

-- Whether an option is, or holds, text from a message.
local function is_input(option)
  local meta = getmetatable(option)
  if meta == T.Str then
    return option.r ~= nil
  end
  return type(option) == "table" and (is_input(option[1]) or is_input(option[2]))
end

--- The filter: v as JSON text.
function M.dumps(v, ensure_ascii, indent, seps, sort_keys)
  local options = { ascii = ensure_ascii ~= nil and V.truth(ensure_ascii),
    indent = indent_text(indent),
    sort = sort_keys ~= nil and V.truth(sort_keys) }
  options.comma, options.colon = separators(seps, options.indent)
  local out = { n = 0 }
  add_value(out, v, options, 0)
  local text = T.concat(out, out.n)
  if is_input(indent) or is_input(seps) then
    return T.input((T.raw(text)))
  end
  return text
end

return M
