-- SPDX-License-Identifier: MIT
-- The JSON that grammars are made of: any value, strings, numbers.  Between tokens there is little
-- white space, as a model that may write any would at times write nothing else.
local text = require "perigee.grammar.text"

local M = {}

---One character of a string.
M.CHAR = [==[[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" hex4)]==]
-- Four digits that are no half of a pair, so that an escape is a character.
local HEX4 <const> = "[0-9a-cA-CefEF] hex hex hex | [dD] [0-7] hex hex"

---White space.
---@param rules perigee.grammar.rules
---@return string
function M.space(rules)
  return rules:once("ws", [[" "? | "\n" [ \t]{0,32}]])
end

---@param rules perigee.grammar.rules
---@return string
function M.char(rules)
  rules:once("hex", "[0-9a-fA-F]")
  rules:once("hex4", HEX4)
  return rules:once("char", M.CHAR)
end

---@param rules perigee.grammar.rules
---@param least? integer   characters
---@param most? integer
---@return string
function M.string(rules, least, most)
  local char = M.char(rules)
  if not least and not most then return rules:once("string", [["\"" char* "\""]]) end
  return ([["\"" %s "\""]]):format(text.times(char, least or 0, most))
end

---@param rules perigee.grammar.rules
---@return string
function M.number(rules)
  return rules:once("number",
    [["-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?]])
end

---Any value.
---@param rules perigee.grammar.rules
---@return string
function M.value(rules)
  M.space(rules)
  M.string(rules)
  M.number(rules)
  rules:once("array", [["[" ws (value (ws "," ws value)*)? ws "]"]])
  rules:once("member", [[string ws ":" ws value]])
  rules:once("object", [["{" ws (member (ws "," ws member)*)? ws "}"]])
  return rules:once("value", [[object | array | string | number | "true" | "false" | "null"]])
end

-- ---- whole numbers in a range ----

-- Texts of digits of one length from lo to hi.
local function between(lo, hi)
  if lo == hi then return text.literal(lo) end
  local n, a, b = #lo, lo:sub(1, 1), hi:sub(1, 1)
  local low, high = lo:sub(2), hi:sub(2)
  if n == 1 then return ("[%s-%s]"):format(a, b) end
  if a == b then return ("%s (%s)"):format(text.literal(a), between(low, high)) end
  local least, most = ("0"):rep(n - 1), ("9"):rep(n - 1)
  local out, first, last = {}, a:byte() - 48, b:byte() - 48
  if low ~= least then
    out[1] = ("%s (%s)"):format(text.literal(a), between(low, most))
    first = first + 1
  end
  if high ~= most then last = last - 1 end
  if first <= last then
    local digit = first == last and ('"%d"'):format(first) or ("[%d-%d]"):format(first, last)
    out[#out + 1] = digit .. " " .. text.times("[0-9]", n - 1, n - 1)
  end
  if high ~= most then
    out[#out + 1] = ("%s (%s)"):format(text.literal(b), between(least, high))
  end
  return table.concat(out, " | ")
end

local MOST_DIGITS <const> = 18

-- From lo to hi, both at least 0; nil: as far as there are digits.
local function natural(lo, hi)
  local out, first = {}, #("%d"):format(lo)
  local last = hi and #("%d"):format(hi) or MOST_DIGITS
  for n = first, last do
    local least = n == first and ("%d"):format(lo) or "1" .. ("0"):rep(n - 1)
    local most = n == last and hi and ("%d"):format(hi) or ("9"):rep(n)
    local is_rest = n > first and not hi
    if is_rest then
      out[#out + 1] = ("[1-9] [0-9]{%d,%d}"):format(n - 1, MOST_DIGITS - 1)
      break
    end
    out[#out + 1] = between(least, most)
  end
  return table.concat(out, " | ")
end

---Whole numbers.
---@param least? integer
---@param most? integer
---@return string
function M.integer(least, most)
  if not least and not most then return [["-"? ("0" | [1-9] [0-9]{0,17})]] end
  local out = {}
  if not least or least < 0 then
    local from = most and most < 0 and -most or 1
    out[1] = ('"-" (%s)'):format(natural(from, least and -least))
  end
  if not most or most >= 0 then
    out[#out + 1] = natural(math.max(least or 0, 0), most)
  end
  return table.concat(out, " | ")
end

return M
