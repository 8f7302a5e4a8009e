-- SPDX-License-Identifier: MIT
-- How values print: str() and repr() as Python has them.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local unicode = require "perigee.jinja.unicode"

local M = {}
local kind = V.kind
local MAX_DEPTH <const> = 150

-- Digits and exponent of the shortest decimal that reads back as v (positive, finite).
local function shortest(v)
  for precision = v < 2.3e-308 and 1 or 15, 17 do
    local text = ("%." .. (precision - 1) .. "e"):format(v)
    if tonumber(text) == v then
      local head, tail, exponent = text:match("^(%d)%.?(%d*)e([-+]%d+)$")
      local digits = (head .. tail):gsub("0+$", "")
      return digits == "" and "0" or digits, math.tointeger(tonumber(exponent))
    end
  end
end

--- repr of a float: shortest digits, exponent form below 1e-4 and from 1e16 on.
---@param v number
---@return string
function M.float(v)
  if v ~= v then
    return "nan"
  elseif v == math.huge or v == -math.huge then
    return v > 0 and "inf" or "-inf"
  end
  local sign = (v < 0 or 1 / v < 0) and "-" or ""
  if v == 0 then
    return sign .. "0.0"
  end
  local digits, exponent = shortest(math.abs(v))
  if exponent < -4 or exponent >= 16 then
    local rest = digits:sub(2)
    return ("%s%s%se%s%02d"):format(sign, digits:sub(1, 1), rest ~= "" and "." .. rest or "",
      exponent < 0 and "-" or "+", math.abs(exponent))
  elseif exponent < 0 then
    return sign .. "0." .. ("0"):rep(-exponent - 1) .. digits
  elseif #digits <= exponent + 1 then
    return sign .. digits .. ("0"):rep(exponent + 1 - #digits) .. ".0"
  end
  return sign .. digits:sub(1, exponent + 1) .. "." .. digits:sub(exponent + 2)
end

local SHORT <const> = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\" }

local ESCAPES <const> = {}
for code = 0, 127 do
  local char = string.char(code)
  ESCAPES[char] = SHORT[char] or (code < 32 or code == 127) and ("\\x%02x"):format(code) or nil
end

local function escape_wide(char)
  local code = utf8.codepoint(char)
  if not unicode.is("unprintable", code) then
    return char
  end
  return (code < 0x100 and "\\x%02x" or code < 0x10000 and "\\u%04x" or "\\U%08x"):format(code)
end

--- repr of a string value; marks stay.
function M.quote(v)
  local s = T.raw(v)
  local mark = s:find("'", 1, true) and not s:find('"', 1, true) and '"' or "'"
  local inner = T.map(v, function(part)
    part = part:gsub("[%c\\]", ESCAPES)
    if mark == "'" then
      part = part:gsub("'", "\\'")
    end
    if utf8.len(part) ~= #part then
      S.charge(#part)
      part = part:gsub("[\xc2-\xf4][\x80-\xbf]+", escape_wide)
    end
    return part
  end)
  return T.concat({ mark, T.unsafe(inner), mark }, 3)
end

-- Adds the parts of repr(v) to out[n + 1...]; returns the new n.
local add

local function add_items(out, n, items, count, open, close, depth)
  n = n + 1
  out[n] = open
  for i = 1, count do
    if i > 1 then
      n = n + 1
      out[n] = ", "
    end
    n = add(out, n, items[i], depth + 1)
  end
  n = n + 1
  out[n] = close
  return n
end

local function add_dict(out, n, d, depth)
  n = n + 1
  out[n] = "{"
  for i = 1, d.n do
    if i > 1 then
      n = n + 1
      out[n] = ", "
    end
    n = add(out, n, d.keys[i], depth + 1)
    n = n + 1
    out[n] = ": "
    n = add(out, n, d.map[d.hash[i]], depth + 1)
  end
  n = n + 1
  out[n] = "}"
  return n
end

local function plain(v, which)
  if which == "int" then
    return ("%d"):format(v)
  elseif which == "float" then
    return M.float(v)
  elseif which == "bool" then
    return v and "True" or "False"
  elseif which == "big" then
    return v.digits
  elseif which == "none" then
    return "None"
  elseif which == "undefined" then
    return "Undefined"
  elseif which == "range" then
    return v.step == 1 and ("range(%d, %d)"):format(v.start, v.stop)
      or ("range(%d, %d, %d)"):format(v.start, v.stop, v.step)
  elseif which == "loop" then
    return ("<LoopContext %d/%d>"):format(v.i, v:length())
  elseif which == "func" and v.macro then
    return v.name and ("<Macro '%s'>"):format(v.name) or "<Macro anonymous>"
  end
  return ("<%s>"):format(V.type_name(v))
end

add = function(out, n, v, depth)
  local which = kind(v)
  S.charge(2)
  S.alloc(32)
  if depth > MAX_DEPTH then
    S.fail(("value nested deeper than %d cannot be printed"):format(MAX_DEPTH))
  end
  if which == "str" then
    local text = M.quote(v)
    out[n + 1] = type(v) ~= "string" and v.safe and T.concat({ "Markup(", text, ")" }, 3) or text
    return n + 1
  elseif which == "list" then
    return add_items(out, n, v, v.n, "[", "]", depth)
  elseif which == "tuple" then
    return add_items(out, n, v, v.n, "(", v.n == 1 and ",)" or ")", depth)
  elseif which == "dict" then
    return add_dict(out, n, v, depth)
  elseif which == "gen" and v.is_view then
    return add_items(out, n, v.items, v.n, v.python .. "([", "])", depth)
  elseif which == "namespace" then
    out[n + 1] = "<Namespace "
    n = add_dict(out, n + 1, v.dict, depth)
    out[n + 1] = ">"
    return n + 1
  end
  out[n + 1] = plain(v, which)
  return n + 1
end

--- repr(v) as a string value.
function M.repr(v)
  local out = {}
  local n = add(out, 0, v, 0)
  return T.concat(out, n)
end

--- str(v) as a string value; never safe.
function M.str(v)
  local t = type(v)
  if t == "string" then
    return v
  elseif t == "table" then
    local which = getmetatable(v).kind
    if which == "str" then
      return T.unsafe(v)
    elseif which == "undefined" then
      return ""
    end
    return M.repr(v)
  end
  return plain(v, kind(v))
end

--- Like str, but text that is safe stays safe.
function M.soft_str(v)
  return T.is(v) and v or M.str(v)
end

return M
