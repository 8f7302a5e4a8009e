-- SPDX-License-Identifier: MIT
-- Characters: Python counts code points, Lua counts bytes.  Text without bytes above 127 takes the
-- short way.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"

local M = {}

local function is_ascii(s)
  return utf8.len(s) == #s
end
M.is_ascii = is_ascii

--- s with each byte that is not UTF-8 replaced by U+FFFD.
---@param s string
---@return string
function M.valid(s)
  if is_ascii(s) or utf8.len(s) then
    return s
  end
  local parts, at = {}, 1
  while at <= #s do
    local _, bad = utf8.len(s, at)
    if not bad then
      break
    end
    parts[#parts + 1] = s:sub(at, bad - 1)
    parts[#parts + 1] = "\u{FFFD}"
    at = bad + 1
  end
  parts[#parts + 1] = s:sub(at)
  return table.concat(parts)
end

--- Number of characters.
---@param v string|perigee.jinja.Str
---@return integer
function M.len(v)
  local s = T.raw(v)
  S.charge(#s >> 8)
  if is_ascii(s) then
    return #s
  end
  S.charge(#s >> 6)
  return utf8.len(s) or #s
end

--- Characters i to j (from 1, inclusive, within the text).
function M.sub(v, i, j)
  local s = T.raw(v)
  if i > j then
    return T.sub(v, 1, 0)
  end
  S.charge(#s >> 8)
  if is_ascii(s) then
    return T.sub(v, i, j)
  end
  local from = utf8.offset(s, i)
  local to = utf8.offset(s, j - i + 2, from)
  return T.sub(v, from, to and to - 1 or #s)
end

--- All characters of v as string values.
---@return table list, integer n
function M.list(v)
  local s = T.raw(v)
  S.charge(#s)
  S.alloc(16 * #s)
  local out, n = {}, 0
  local is_plain = type(v) == "string"
  for from, char in s:gmatch("()([\0-\x7f\xc2-\xf4][\x80-\xbf]*)") do
    n = n + 1
    out[n] = is_plain and char or T.sub(v, from, from + #char - 1)
  end
  return out, n
end

--- Number of characters before byte i.
function M.index_of_byte(s, i)
  local head = s:sub(1, i - 1)
  return is_ascii(head) and #head or utf8.len(head) or #head
end

--- Byte at which character i (from 1) starts; one past the end when i is one past the last.
function M.byte_of_index(s, i)
  if is_ascii(s) then
    return i
  end
  return utf8.offset(s, i) or #s + 1
end

-- Characters Python strips and splits at: ASCII, then the longer ones as UTF-8.
local SPACE <const> = "[\t-\r\x1c-\x20]"
local WIDE <const> = {}
for _, code in ipairs { 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 } do
  WIDE[utf8.char(code)] = true
end
for code = 0x2000, 0x200A do
  WIDE[utf8.char(code)] = true
end

--- Length in bytes of the white space character at byte i, or nil.
---@return integer?
function M.space_at(s, i)
  local b = s:byte(i)
  if not b then
    return nil
  elseif b < 0x80 then
    return s:find(SPACE, i) == i and 1 or nil
  end
  for length = 2, 3 do
    if WIDE[s:sub(i, i + length - 1)] then
      return length
    end
  end
  return nil
end

--- First and last byte that stay when characters are stripped; chars nil: white space.
---@param s string
---@param chars string?
---@param left boolean
---@param right boolean
function M.strip_range(s, chars, left, right)
  local set
  if chars then
    set = {}
    for char in chars:gmatch(utf8.charpattern) do
      set[char] = true
    end
  end
  local from, to = 1, #s
  if left and not set then
    from = s:find("[^\t-\r\x1c-\x20]") or #s + 1
  end
  while left and from <= to do
    local char = s:match("^[\0-\x7f\xc2-\xf4][\x80-\xbf]*", from) or s:sub(from, from)
    if not (set and set[char] or not set and M.space_at(s, from)) then
      break
    end
    from = from + #char
  end
  while right and not set and to >= from do
    local b = s:byte(to)
    if b > 32 or b < 9 or b > 13 and b < 28 then
      break
    end
    to = to - 1
  end
  while right and to >= from do
    local start = to
    while start > from and s:byte(start) & 0xC0 == 0x80 do
      start = start - 1
    end
    if not (set and set[s:sub(start, to)] or not set and M.space_at(s, start)) then
      break
    end
    to = start - 1
  end
  S.charge(#s - (to - from + 1))
  return from, to
end

--- Next run of white space from byte `at`: first and last byte, or nil.
function M.find_space(s, at)
  while at <= #s do
    local i = s:find("[\t-\r\x1c-\x20\xc2\xe1\xe2\xe3]", at)
    if not i then
      return nil
    end
    local length = M.space_at(s, i)
    if length then
      local j = i + length
      local more = M.space_at(s, j)
      while more do
        j = j + more
        more = M.space_at(s, j)
      end
      return i, j - 1
    end
    at = i + 1
  end
  return nil
end

local BREAKS <const> = { ["\u{85}"] = true, ["\u{2028}"] = true, ["\u{2029}"] = true }

--- Next line break from byte `at`, as str.splitlines sees it: first and last byte, or nil.
function M.find_break(s, at)
  while at <= #s do
    local i = s:find("[\n-\r\x1c-\x1e\xc2\xe2]", at)
    if not i then
      return nil
    end
    local b = s:byte(i)
    if b == 13 and s:byte(i + 1) == 10 then
      return i, i + 1
    elseif b < 0x80 then
      return i, i
    end
    local length = b == 0xC2 and 2 or 3
    if BREAKS[s:sub(i, i + length - 1)] then
      return i, i + length - 1
    end
    at = i + 1
  end
  return nil
end

--- Order of two texts by code point: negative, 0 or positive.  (Lua's < depends on the locale.)
function M.order(a, b)
  if a == b then
    return 0
  end
  local n = #a < #b and #a or #b
  for i = 1, n, 64 do
    local last = i + 63 < n and i + 63 or n
    if a:sub(i, last) ~= b:sub(i, last) then
      for k = i, last do
        local x, y = a:byte(k), b:byte(k)
        if x ~= y then
          return x - y
        end
      end
    end
  end
  S.charge(n >> 6)
  return #a - #b
end

return M
