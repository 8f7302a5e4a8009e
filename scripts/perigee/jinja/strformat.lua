-- SPDX-License-Identifier: MIT
-- text.format(...) with Python's replacement fields: {} {0} {name.attr[key]!r:>8.2f}.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local format = require "perigee.jinja.format"
local percent = require "perigee.jinja.percent"
local chars = require "perigee.jinja.chars"
local number = require("perigee.jinja.compare").number

local M = {
  access = nil, ---@type table perigee.jinja.access, set when that is loaded
}

local function grouped(digits, separator)
  local head, tail = digits:match("^(%d+)(.*)$")
  if not head then
    return digits
  end
  head = head:reverse():gsub("(%d%d%d)", "%1" .. separator):reverse()
  if head:sub(1, 1) == separator then
    head = head:sub(2)
  end
  return head .. tail
end

local BASE <const> = { d = 10, x = 16, X = 16, o = 8, b = 2, n = 10 }
local PREFIX <const> = { x = "0x", X = "0X", o = "0o", b = "0b" }

local function float_text(v, f)
  local kind = f.type
  if kind == "" and not f.precision then
    return (format.float(math.abs(v)))
  elseif kind == "%" then
    return percent.float_digits(v * 100, "f", f.precision) .. "%"
  elseif kind == "" then
    local text = percent.float_digits(v, "g", f.precision)
    return text:find("^%d+$") and #text < math.max(f.precision, 1) and text .. ".0" or text
  elseif not kind:find("^[eEfFgGn]$") then
    S.fail(("found format type '%s' for a float, expected one of e f g n %%"):format(kind))
  end
  return percent.float_digits(v, kind == "n" and "g" or kind, f.precision)
end

local function number_field(v, f)
  local sign = (v < 0 or v == 0 and 1 / v < 0) and "-" or f.sign ~= "-" and f.sign or ""
  local digits
  local is_int = math.type(v) == "integer"
  if is_int and (f.type == "" or BASE[f.type]) then
    if f.precision then
      S.fail("found a precision in the format of an integer, expected none")
    end
    digits = percent.digits(v, BASE[f.type] or 10)
    digits = f.type == "X" and digits:upper() or digits
    sign = sign .. (f.alternate and PREFIX[f.type] or "")
  elseif is_int and f.type == "c" then
    return "", utf8.char(v)
  else
    digits = float_text(v + 0.0, f)
  end
  return sign, f.group ~= "" and grouped(digits, f.group) or digits
end

local function parse_field(text)
  local fill, align, rest = text:match("^([^\x80-\xbf][\x80-\xbf]*)([<>=^])(.*)$")
  if not fill then
    fill, align, rest = " ", text:match("^([<>=^]?)(.*)$")
  end
  local sign, alternate, zero, width, group, dot, precision, kind =
    rest:match("^([-+ ]?)(#?)(0?)(%d*)([,_]?)(%.?)(%d*)([%a%%]?)$")
  if not sign or dot ~= "" and precision == "" then
    S.fail(("found format '%s', expected %s"):format(text,
      "[[fill]align][sign][#][0][width][,][.precision][type]"))
  end
  return { fill = fill, align = align, sign = sign, alternate = alternate ~= "", zero = zero ~= "",
    width = tonumber(width) or 0, group = group, precision = tonumber(precision), type = kind }
end

--- One value under a format specification.
---@param v any
---@param text string
function M.field(v, text)
  if text == "" then
    return format.str(v)
  end
  local f = parse_field(text)
  local x = number(v)
  percent.check_width(math.max(f.width, f.precision or 0))
  if not x then
    if not T.is(v) or f.type ~= "" and f.type ~= "s" or f.sign ~= "" or f.group ~= ""
      or f.align == "=" then
      S.fail(("format '%s' cannot be applied to %s"):format(text, V.type_name(v)))
    end
    local s = format.str(v)
    s = f.precision and chars.sub(s, 1, math.min(f.precision, chars.len(s))) or s
    return percent.pad(s, f.width, f.align ~= "" and f.align or "<", f.zero and f.fill == " "
      and "0" or f.fill)
  end
  local sign, digits = number_field(x, f)
  if f.zero and f.align == "" or f.align == "=" then
    local fill = f.zero and f.fill == " " and "0" or f.fill
    return sign .. fill:rep(f.width - #sign - #digits) .. digits
  end
  return percent.pad(sign .. digits, f.width, f.align ~= "" and f.align or ">", f.zero and "0"
    or f.fill)
end

-- The value a field's name stands for.
local function lookup(path, state, args, kwargs)
  local first, rest = path:match("^([^.%[]*)(.*)$")
  local v
  if first == "" or first:find("^%d+$") then
    local is_auto = first == ""
    if state.auto ~= nil and state.auto ~= is_auto then
      S.fail("numbered and unnumbered fields mixed in a format")
    end
    state.auto = is_auto
    local i = first == "" and state.at or tonumber(first)
    state.at = first == "" and state.at + 1 or state.at
    v = args[i + 1]
  else
    v = kwargs and kwargs.map[first]
  end
  if v == nil then
    S.fail(("format has no value for field '%s'"):format(first))
  end
  while rest ~= "" do
    local name, more = rest:match("^%.([^.%[]+)(.*)$")
    if name then
      v, rest = M.access.attr(v, name), more
    else
      local key
      key, rest = rest:match("^%[([^%]]+)%](.*)$")
      if not key then
        S.fail(("found field '%s', expected name, .attribute or [key]"):format(path))
      end
      v = M.access.item(v, math.tointeger(tonumber(key)) or key)
    end
  end
  return v
end

local CONVERSIONS <const> = { [""] = function(v) return v end, s = format.str, r = format.repr }

--- text.format(args, kwargs)
function M.format(v, args, kwargs)
  local s = T.raw(v)
  local parts, n, at, state = {}, 0, 1, { at = 0 }
  local is_safe = type(v) ~= "string" and v.safe
  local function replace(inner)
    local path, conversion, text = inner:match("^([^!:]*)!?(.?):?(.*)$")
    if not inner:find("^[^!:]*!") then
      path, text = inner:match("^([^:]*):?(.*)$")
      conversion = ""
    end
    local value = lookup(path, state, args, kwargs)
    text = text:gsub("{([^{}]*)}", function(name)
      return (T.raw(format.str(lookup(name, state, args, kwargs))))
    end)
    local f = CONVERSIONS[conversion]
      or S.fail(("found conversion !%s, expected !s or !r"):format(conversion))
    local out = M.field(f(value), text)
    if type(v) ~= "string" and v.r then -- the filling comes from the format
      out = T.input((T.raw(out)))
    end
    return is_safe and T.is(out) and T.unsafe(T.escape(T.is(value) and text == "" and value
      or out)) or out
  end
  while true do
    local i = s:find("[{}]", at)
    n = n + 1
    parts[n] = T.unsafe(T.sub(v, at, i and i - 1 or #s))
    if not i then
      break
    end
    n = n + 1
    S.charge(4)
    if s:sub(i, i) == s:sub(i + 1, i + 1) then
      parts[n], at = T.like(s:sub(i, i), v), i + 2
    else
      local stop = s:match("^%b{}()", i)
      if not stop then
        S.fail("found a single brace in a format, expected {{, }} or {field}")
      end
      parts[n], at = replace(s:sub(i + 1, stop - 2)), stop
    end
  end
  local out = T.concat(parts, n)
  return is_safe and T.safe(out) or out
end

return M
