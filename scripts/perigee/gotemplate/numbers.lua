-- SPDX-License-Identifier: MIT
-- Numbers as Go's strconv writes them.
local S = require "perigee.jinja.state"

local M = {}
-- %g without a precision changes to the e form from this exponent on.
local SHORTEST_LIMIT <const> = 6

-- Shortest decimal digits that read back as v (finite, from 0), and the exponent of the first.
local function shortest(v)
  if v < 1e15 and v == v // 1 then
    local text = ("%d"):format(v)
    return text, #text - 1
  end
  S.charge(40)
  for precision = 0, 16 do
    local text = ("%." .. precision .. "e"):format(v)
    if tonumber(text) == v then
      local head, exponent = text:match("^([%d.]+)e([+-]%d+)$")
      return (head:gsub("%.", "")), tonumber(exponent)
    end
  end
  return "0", 0
end

local function plain(digits, exponent)
  if exponent < 0 then
    return "0." .. ("0"):rep(-exponent - 1) .. digits
  elseif #digits <= exponent + 1 then
    return digits .. ("0"):rep(exponent + 1 - #digits)
  end
  return digits:sub(1, exponent + 1) .. "." .. digits:sub(exponent + 2)
end

local function scientific(digits, exponent, width)
  return digits:sub(1, 1) .. (#digits > 1 and "." .. digits:sub(2) or "")
    .. ("e%s%0" .. width .. "d"):format(exponent < 0 and "-" or "+", math.abs(exponent))
end

local function special(v)
  if v ~= v then
    return "NaN"
  elseif v == math.huge then
    return "+Inf"
  elseif v == -math.huge then
    return "-Inf"
  end
  return nil
end

local function is_negative(v)
  return v < 0 or v == 0 and 1 / v < 0
end

-- Whole mantissa and binary exponent.
local function binary(v)
  local bits = string.unpack("<i8", string.pack("<d", v))
  local mantissa, exponent = bits & (1 << 52) - 1, bits >> 52 & 0x7FF
  if exponent == 0 then
    exponent = 1
  else
    mantissa = mantissa | 1 << 52
  end
  return ("%dp%+d"):format(mantissa, exponent - 1075)
end

--- A float as the verb (b e E f F g G x X) with this precision (nil: as many digits as needed).
---@param v number
---@param verb string
---@param precision integer?
---@return string
function M.float(v, verb, precision)
  local word = special(v)
  if word then
    return word
  end
  local lower = verb:lower()
  local sign = is_negative(v) and "-" or ""
  local text
  v = math.abs(v)
  if lower == "b" then
    text = binary(v)
  elseif lower == "x" then
    text = (precision and ("%." .. precision .. "a") or "%a"):format(v)
      :gsub("(p[+-])(%d)$", "%10%2")
  elseif precision then
    text = ("%." .. precision .. lower):format(v)
  else
    local digits, exponent = shortest(v)
    digits = digits:gsub("0+$", "")
    digits = digits == "" and "0" or digits
    if lower == "f" or lower == "g" and exponent >= -4 and exponent < SHORTEST_LIMIT then
      text = plain(digits, exponent)
    else
      text = scientific(digits, exponent, 2)
    end
  end
  return sign .. (verb == lower and text or text:upper())
end

--- A float in JSON.
---@param v number
---@return string
function M.json(v)
  if special(v) then
    return "null"
  end
  local size = math.abs(v)
  local sign = is_negative(v) and "-" or ""
  local digits, exponent = shortest(size)
  digits = digits:gsub("0+$", "")
  if digits == "" then
    return sign .. "0"
  elseif size < 1e-6 or size >= 1e21 then
    return sign .. scientific(digits, exponent, 1)
  end
  return sign .. plain(digits, exponent)
end

--- An integer in a base.
---@param v integer
---@param base integer
---@param upper boolean?
---@return string digits without sign
function M.digits(v, base, upper)
  if base == 10 then
    return (("%d"):format(v):gsub("^-", ""))
  end
  local out, rest = {}, v < 0 and -v or v
  local bits = base == 16 and 4 or base == 8 and 3 or 1
  repeat
    local d = rest & (base - 1)
    table.insert(out, 1, ("%x"):format(d))
    rest = rest >> bits
  until rest == 0
  local text = table.concat(out)
  return upper and text:upper() or text
end

return M
