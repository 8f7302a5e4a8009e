-- SPDX-License-Identifier: MIT
-- Regular expressions as GBNF: characters, . classes \d \w \s \D \W \S, ( ) (?: ), |, * + ? {m,n},
-- and ^ $ at the ends.  An expression without ^ or $ may be surrounded by other text there, as in
-- JSON Schema.  What a grammar cannot say (\b, look-around, back references) is an error with its
-- place.
local text = require "perigee.grammar.text"

local M = {}

local SETS <const> = {
  d = { { 48, 57 } },
  w = { { 48, 57 }, { 65, 90 }, { 95, 95 }, { 97, 122 } },
  s = { { 9, 13 }, { 32, 32 }, { 0xA0, 0xA0 }, { 0x1680, 0x1680 }, { 0x2000, 0x200A },
    { 0x2028, 0x2029 }, { 0x202F, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 },
    { 0xFEFF, 0xFEFF } },
}
local CONTROL <const> = { n = 10, r = 13, t = 9, f = 12, v = 11 }
local DEPTH <const> = 64

local alternatives

local function fail(p, message)
  error({ message = ("character %d: %s"):format(p.at, message) }, 0)
end

local function peek(p) return p.chars[p.at] end

local function take(p)
  local c = p.chars[p.at]
  p.at = p.at + 1
  return c
end

local function hex(p, n)
  local digits = table.concat(p.chars, "", p.at, math.min(p.at + n - 1, #p.chars))
  if not digits:find("^%x+$") or #digits ~= n then
    fail(p, ("expected %d hexadecimal digits"):format(n))
  end
  p.at = p.at + n
  return tonumber(digits, 16)
end

-- Behind a backslash: ranges.
local function escape(p)
  local c = take(p)
  if not c then fail(p, "found the end, expected a character after \\") end
  local set = SETS[c:lower()]
  if set then return c:find("%l") and set or text.complement(set) end
  local cp = CONTROL[c]
  if c == "x" then cp = hex(p, 2) elseif c == "u" then cp = hex(p, 4) end
  if not cp and c:find("^%w") then
    p.at = p.at - 1
    fail(p, ("\\%s is not supported in a grammar"):format(c))
  end
  cp = cp or utf8.codepoint(c)
  return { { cp, cp } }
end

local function class_item(p)
  local c = take(p)
  if not c then fail(p, "found the end, expected ]") end
  if c == "\\" then return escape(p) end
  local cp = utf8.codepoint(c)
  return { { cp, cp } }
end

local function class(p)
  local ranges, is_not = {}, peek(p) == "^"
  if is_not then take(p) end
  while peek(p) ~= "]" do
    local item = class_item(p)
    local is_one = #item == 1 and item[1][1] == item[1][2]
    if is_one and peek(p) == "-" and p.chars[p.at + 1] ~= "]" then
      take(p)
      local last = class_item(p)
      if #last ~= 1 or last[1][2] < item[1][1] then fail(p, "this range of characters is empty") end
      item = { { item[1][1], last[1][2] } }
    end
    table.move(item, 1, #item, #ranges + 1, ranges)
  end
  take(p)
  if #ranges == 0 then fail(p, "an empty class of characters") end
  return is_not and text.complement(ranges) or text.normal(ranges)
end

local function group(p)
  if peek(p) == "?" then
    take(p)
    if take(p) ~= ":" then
      fail(p, "look-around and named groups are not supported in a grammar")
    end
  end
  p.depth = p.depth + 1
  if p.depth > DEPTH then fail(p, ("more than %d groups inside one another"):format(DEPTH)) end
  local inner = alternatives(p)
  p.depth = p.depth - 1
  if take(p) ~= ")" then fail(p, "found the end, expected )") end
  return "(" .. inner .. ")"
end

local ANY <const> = text.complement { { 10, 10 }, { 13, 13 } }

local function atom(p)
  local c = take(p)
  if c == "(" then return group(p) end
  if c == "[" then return p.class(class(p)) end
  if c == "." then return p.class(ANY) end
  if c == "\\" then return p.class(escape(p)) end
  if c == "^" or c == "$" or c:find("^[*+?{]$") then
    p.at = p.at - 1
    fail(p, c .. " is not supported in this place")
  end
  local cp = utf8.codepoint(c)
  return p.class { { cp, cp } }
end

local function counts(p)
  local rest = table.concat(p.chars, "", p.at, math.min(p.at + 20, #p.chars))
  local all, least, comma, most = rest:match("^({(%d+)(,?)(%d*)})")
  if not all then fail(p, "expected {m}, {m,} or {m,n}") end
  p.at = p.at + #all
  least, most = math.tointeger(tonumber(least)), math.tointeger(tonumber(most))
  return least, comma == "" and least or most
end

local function repeated(p)
  local item, c = atom(p), peek(p)
  local least, most
  if c == "*" or c == "?" then least = 0 end
  if c == "+" then least = 1 end
  if c == "?" then most = 1 end
  if least then take(p) elseif c == "{" then least, most = counts(p) end
  if not least then return item end
  c = peek(p)
  if c == "?" or c == "+" or c == "*" then
    fail(p, "lazy, possessive and doubled repetitions are not supported in a grammar")
  end
  return text.times(item, least, most)
end

local function sequence(p)
  local out, is_open_left, is_open_right = {}, false, false
  local is_top = p.depth == 0
  if is_top and peek(p) == "^" then take(p) else is_open_left = is_top end
  while peek(p) and peek(p) ~= "|" and peek(p) ~= ")" do
    if is_top and peek(p) == "$" and (p.chars[p.at + 1] or "|") == "|" then break end
    out[#out + 1] = repeated(p)
  end
  if is_top and peek(p) == "$" then take(p) else is_open_right = is_top end
  if is_open_left and p.around then table.insert(out, 1, p.around) end
  if is_open_right and p.around then out[#out + 1] = p.around end
  return #out > 0 and table.concat(out, " ") or '""'
end

function alternatives(p)
  local out = { sequence(p) }
  while peek(p) == "|" do
    take(p)
    out[#out + 1] = sequence(p)
  end
  return table.concat(out, " | ")
end

---An expression as GBNF, to stand in ( ).
---@param source string
---@param as_class fun(ranges: perigee.grammar.range[]): string   one character of these
---@param around? string   what may stand before and behind an expression without ^ and $
---@return string?
---@return string? message   with the place
function M.read(source, as_class, around)
  local p = { chars = {}, at = 1, depth = 0, class = as_class, around = around }
  if not utf8.len(source) then return nil, "it is no UTF-8" end
  for _, c in utf8.codes(source) do p.chars[#p.chars + 1] = utf8.char(c) end
  local ok, result = pcall(function()
    local body = alternatives(p)
    if peek(p) then fail(p, ("found %s, expected the end"):format(peek(p))) end
    return body
  end)
  if ok then return result end
  if type(result) ~= "table" or not result.message then error(result, 0) end
  return nil, result.message
end

return M
