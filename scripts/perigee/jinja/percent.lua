-- SPDX-License-Identifier: MIT
-- Formatting of numbers, and text % values ("%s: %05.1f").
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local chars = require "perigee.jinja.chars"
local format = require "perigee.jinja.format"
local number = require("perigee.jinja.compare").number

local M = {}
local MAX_WIDTH <const> = 1 << 20

--- A width or precision within reason.
---@param n integer
function M.check_width(n)
  if n > MAX_WIDTH then
    S.fail(("width or precision: found %.0f, at most %d"):format(n, MAX_WIDTH), nil, "budget")
  end
  S.alloc(n)
  return n
end

--- v (string value) filled up to width characters with fill; align: "<", ">" or "^".
function M.pad(v, width, align, fill)
  local missing = M.check_width(width) - chars.len(v)
  if missing <= 0 then
    return v
  end
  local left = align == ">" and missing or align == "^" and missing // 2 or 0
  return T.concat({ T.rep(fill, left), T.unsafe(v), T.rep(fill, missing - left) }, 3)
end

local function digits_of(n, base)
  if base == 10 then
    return ("%d"):format(n):gsub("^%-", "")
  elseif base == 16 then
    return ("%x"):format(n < 0 and -n or n)
  elseif base == 8 then
    return ("%o"):format(n < 0 and -n or n)
  end
  local out = {}
  n = n < 0 and -n or n
  repeat
    table.insert(out, 1, tostring(n & 1))
    n = n >> 1
  until n == 0
  return table.concat(out)
end

--- An integer's digits without sign in base 2, 8, 10 or 16.
---@param n integer
---@param base integer
---@return string
function M.digits(n, base)
  return (digits_of(n, base))
end

--- A float's digits without sign for conversion e, f, g (or upper case); precision nil: 6.
---@param v number
---@param conversion string
---@param precision integer?
---@param keep_point boolean?
---@return string
function M.float_digits(v, conversion, precision, keep_point)
  if v ~= v then
    return conversion:find("%u") and "NAN" or "nan"
  elseif v == math.huge or v == -math.huge then
    return conversion:find("%u") and "INF" or "inf"
  end
  precision = precision or 6
  if precision <= 99 then
    return (("%%%s.%d%s"):format(keep_point and "#" or "", precision,
      conversion):format(math.abs(v)))
  elseif conversion:lower() == "g" then
    return (("%%.99%s"):format(conversion):format(math.abs(v)))
  end
  M.check_width(precision)
  local head, tail = ("%.99" .. conversion):format(math.abs(v)):match("^([^e]*)(.*)$")
  return head .. ("0"):rep(precision - 99) .. tail
end

-- v as an integer for %d and the like.
local function integer_of(v, conversion)
  local n = number(v)
  if n and conversion == "d" and math.type(n) == "float" then
    n = n == n and math.tointeger(n < 0 and math.ceil(n) or math.floor(n))
  end
  if math.type(n) ~= "integer" then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("%%%s: found %s, expected an integer"):format(conversion, V.type_name(v)))
  end
  return n
end

local function float_of(v, conversion)
  local n = number(v)
  if not n then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("%%%s: found %s, expected a number"):format(conversion, V.type_name(v)))
  end
  return n + 0.0
end

local BASE <const> = { d = 10, i = 10, u = 10, x = 16, X = 16, o = 8 }
local PREFIX <const> = { x = "0x", X = "0X", o = "0o" }

local function number_text(v, c, flags, precision)
  local negative, digits, prefix
  if BASE[c] then
    local n = integer_of(v, (c == "i" or c == "u") and "d" or c)
    negative, digits = n < 0, M.digits(n, BASE[c])
    digits = c == "X" and digits:upper() or digits
    digits = ("0"):rep(M.check_width(precision or 0) - #digits) .. digits
    prefix = flags:find("#", 1, true) and PREFIX[c]
  else
    local x = float_of(v, c)
    negative = x < 0 or x == 0 and 1 / x < 0
    digits = M.float_digits(x, c, precision, flags:find("#", 1, true) ~= nil)
  end
  local sign = negative and "-" or flags:find("+", 1, true) and "+" or flags:find(" ", 1, true)
    and " " or ""
  return sign .. (prefix or ""), digits
end

local function character(v)
  if T.is(v) and chars.len(v) == 1 then
    return v
  end
  local n = number(v)
  if math.type(n) ~= "integer" or n < 0 or n > 0x10FFFF or (n >= 0xD800 and n < 0xE000) then
    S.fail("%c: expected one character or its code")
  end
  return utf8.char(n)
end

local function text_of(v, c, precision)
  local text
  if c == "s" then
    text = format.str(v)
  elseif c == "c" then
    text = character(v)
  else
    text = format.repr(v)
    if c == "a" then
      S.fail("%a is not supported, expected %r")
    end
  end
  if precision then
    text = chars.sub(text, 1, math.min(precision, chars.len(text)))
  end
  return text
end

local function convert(v, c, flags, width, precision)
  local left = flags:find("-", 1, true)
  if c == "s" or c == "r" or c == "c" or c == "a" then
    return M.pad(text_of(v, c, precision), width, left and "<" or ">", " ")
  elseif not c:find("^[diuxXoeEfFgG]$") then
    S.fail(("found conversion %%%s, expected one of %%s %%r %%d %%x %%o %%e %%f %%g %%c"):format(c))
  end
  local prefix, digits = number_text(v, c, flags, precision)
  if flags:find("0", 1, true) and not left then
    digits = ("0"):rep(M.check_width(width) - #prefix - #digits) .. digits
  end
  return M.pad(prefix .. digits, width, left and "<" or ">", " ")
end

-- Hands out the values in turn, or by name from a dict.
local function source_of(values)
  local which = V.kind(values)
  local list = which == "tuple" and values or { n = 1, values }
  local at = 0
  local function next_value()
    at = at + 1
    if at > list.n then
      S.fail(("not enough values for the format: found %d"):format(list.n))
    end
    return list[at]
  end
  local function named(name)
    if which ~= "dict" then
      S.fail(("format names '%s': found %s, expected a dict of values"):format(name,
        V.type_name(values)))
    end
    at = list.n
    local v = values.map[name]
    return v ~= nil and v or S.fail(("the values of the format have no '%s'"):format(name))
  end
  local function finish()
    if at < list.n and which ~= "dict" and not (which == "list" or which == "range") then
      S.fail(("not all values used by the format: found %d, used %d"):format(list.n, at))
    end
  end
  return next_value, named, finish
end

local function star_or_number(text, next_value)
  if text ~= "*" then
    return text ~= "" and math.tointeger(tonumber(text)) or nil
  end
  local n = number(next_value())
  return math.type(n) == "integer" and n or S.fail("* in a format: expected an integer")
end

--- v % values.
function M.format(v, values)
  local s = T.raw(v)
  local is_safe = type(v) ~= "string" and v.safe
  local next_value, named, finish = source_of(values)
  local parts, n, at = {}, 0, 1
  while true do
    local i = s:find("%", at, true)
    parts[n + 1], n = T.sub(v, at, i and i - 1 or #s), n + 1
    if not i then
      break
    end
    local name, flags, width, dot, precision, c, stop =
      s:match("^%%(%(?[^()%%]*%)?)([-+ #0]*)([%d*]*)(%.?)([%d*]*)[hlL]?(.?)()", i)
    if not name or name ~= "" and not name:find("^%(.*%)$") then
      name = ""
      flags, width, dot, precision, c,
        stop = s:match("^%%([-+ #0]*)([%d*]*)(%.?)([%d*]*)[hlL]?(.?)()", i)
    end
    if c == "%" then
      parts[n + 1] = T.like("%", v)
    else
      if c == "" then
        S.fail("format ends inside a conversion")
      end
      local is_named = name ~= ""
      width = star_or_number(width, next_value) or 0
      if width < 0 then
        flags, width = flags .. "-", -width
      end
      local places = star_or_number(precision, next_value) or (dot ~= "" and 0 or nil)
      local value
      if is_named then
        value = named(name:sub(2, -2))
      else
        value = next_value()
      end
      value = is_safe and T.is(value) and T.escape(value) or value
      parts[n + 1] = convert(value, c, flags, width, places)
    end
    n = n + 1
    at = stop
    S.charge(4)
  end
  finish()
  local out = T.concat(parts, n)
  return is_safe and T.safe(out) or out
end

return M
