-- SPDX-License-Identifier: MIT
-- Go's number constants: decimal, 0x, 0o, 0b and 0 octal, underscores between digits, decimal and
-- hexadecimal floats.
local S = require "perigee.jinja.state"

local M = {}

local DIGITS <const> = { [10] = "[%d_]*", [16] = "[%x_]*", [8] = "[0-7_]*", [2] = "[01_]*" }
local PREFIX <const> = { x = 16, X = 16, o = 8, O = 8, b = 2, B = 2 }

-- Underscores stand between digits, or behind a prefix.
local function has_good_underscores(text, has_prefix)
  return not text:find("__", 1, true) and not text:find("_$")
    and (has_prefix or not text:find("^_"))
    and not text:find("_[.eEpP]") and not text:find("[.+eEpP-]_")
end

local function overflow(text, at)
  S.fail(("found the number %s, expected at most 64 bits"):format(text), at)
end

-- The value of the digits, or nil when one of them does not belong to the base.  Counts down from
-- zero, for the negative numbers reach one further.
local function integer(digits, base, text, at)
  local value = 0
  for digit in digits:gmatch("%x") do
    local d = tonumber(digit, 16)
    if d >= base then
      return nil
    elseif value < -((math.maxinteger - base + 1 - d) // base) - 1 then -- floor((2^63 - d) / base)
      overflow(text, at)
    end
    value = value * base - d
  end
  if text:sub(1, 1) == "-" then
    return value
  end
  return value ~= math.mininteger and -value or overflow(text, at)
end

local function float(body, base, text, at)
  local value = tonumber((base == 16 and "0x" or "") .. body)
  if not value or value ~= value or value == math.huge then
    S.fail(("found the number %s, expected one that a float holds"):format(text), at)
  end
  return text:sub(1, 1) == "-" and -(value + 0.0) or value + 0.0
end

local function bad(text, at)
  S.fail(("found the number %s, expected digits as Go writes them"):format(text), at)
end

-- End of the number whose digits start at byte i.
local function scan(source, i, base)
  local after = select(2, source:find("^" .. DIGITS[base], i)) + 1
  local is_float = false
  if source:sub(after, after) == "." then
    is_float, after = true, select(2, source:find("^" .. DIGITS[base], after + 1)) + 1
  end
  local exponent = base == 10 and "^[eE][+-]?[%d_]*" or base == 16 and "^[pP][+-]?[%d_]*"
  local _, last = nil, nil
  if exponent then
    _, last = source:find(exponent, after)
  end
  return last and last + 1 or after, is_float or last ~= nil
end

--- The number at byte `at`, and the byte after it.
---@param source string
---@param at integer
---@return number, integer
function M.read(source, at)
  local i = source:find("[^+-]", at) == at + 1 and source:find("^[+-]", at) and at + 1 or at
  local base = source:sub(i, i) == "0" and PREFIX[source:sub(i + 1, i + 1)] or 10
  local first = base == 10 and i or i + 2
  local after, is_float = scan(source, first, base)
  local text, body = source:sub(at, after - 1), source:sub(first, after - 1)
  if source:find("^[i+-]", after) then
    S.fail(("found the number %s%s, expected one without imaginary part"):format(text,
      source:sub(after, after)), at)
  elseif not body:find("%x") or not has_good_underscores(body, base ~= 10) then
    bad(text, at)
  end
  body = body:gsub("_", "")
  if is_float then
    if base == 16 and not body:find("[pP]") or base < 10 or body:find("[eEpP][+-]?$") then
      bad(text, at)
    end
    return float(body, base, text, at), after
  elseif base == 10 and body:find("^0.") then
    base, body = 8, body:sub(2)
  end
  return integer(body, base, text, at) or bad(text, at), after
end

return M
