-- SPDX-License-Identifier: MIT
-- The bytes of a Modelfile as text: UTF-8, or UTF-16 with a byte order mark; bytes that are no
-- character become U+FFFD.  And which characters the grammar keeps: those that Go's
-- strconv.IsPrint calls printable (letters, marks, numbers, punctuation, symbols, the space).
-- Go 1.21 to 1.25 carry Unicode 15; jinja/unicode.lua has the classes of Unicode 14, so what 15
-- added stands here (from utf8proc 2.8, which is Unicode 15).
-- Checked: tests/cases/modelfile/encoding.case.
local unicode = require "perigee.jinja.unicode"

local M = {}

local REPLACEMENT <const> = "\u{FFFD}"

-- First and last of each range of printable characters that Unicode 15 added.
local ADDED <const> = {
  0xCF3, 0xCF3, 0xECE, 0xECE, 0x10EFD, 0x10EFF, 0x1123F, 0x11241, 0x11B00, 0x11B09, 0x11F00,
  0x11F10, 0x11F12, 0x11F3A, 0x11F3E, 0x11F59, 0x1342F, 0x1342F, 0x13440, 0x13455, 0x1B132,
  0x1B132, 0x1B155, 0x1B155, 0x1D2C0, 0x1D2D3, 0x1DF25, 0x1DF2A, 0x1E030, 0x1E06D, 0x1E08F,
  0x1E08F, 0x1E4D0, 0x1E4F9, 0x1F6DC, 0x1F6DC, 0x1F774, 0x1F776, 0x1F77B, 0x1F77F, 0x1F7D9,
  0x1F7D9, 0x1FA75, 0x1FA77, 0x1FA87, 0x1FA88, 0x1FAAD, 0x1FAAF, 0x1FABB, 0x1FABD, 0x1FABF,
  0x1FABF, 0x1FACE, 0x1FACF, 0x1FADA, 0x1FADB, 0x1FAE8, 0x1FAE8, 0x1FAF7, 0x1FAF8, 0x2B739,
  0x2B739, 0x31350, 0x323AF,
}

local function was_added(code)
  for i = 1, #ADDED, 2 do
    if code >= ADDED[i] and code <= ADDED[i + 1] then return true end
  end
  return false
end

local known = {}

---Does the grammar keep the character?
---@param code integer
---@return boolean
function M.is_print(code)
  if code < 127 then return code >= 32 end
  local is_print = known[code]
  if is_print == nil then
    is_print = code > 160 and (not unicode.is("unprintable", code) or was_added(code))
    known[code] = is_print
  end
  return is_print
end

-- Text with every byte that is no character replaced, and the places of those in the result.
local function read_utf8(bytes)
  if utf8.len(bytes) then return bytes, {} end
  local parts, bad, at, n = {}, {}, 1, 0
  while at <= #bytes do
    local _, wrong = utf8.len(bytes, at)
    local good = bytes:sub(at, (wrong or #bytes + 1) - 1)
    parts[#parts + 1], n = good, n + #good
    if not wrong then break end
    parts[#parts + 1] = REPLACEMENT
    bad[#bad + 1] = n + 1
    at, n = wrong + 1, n + #REPLACEMENT
  end
  return table.concat(parts), bad
end

-- The code point at byte `at`, and the byte behind it; nil for half a pair or half a unit.
local function unit_at(bytes, at, format)
  if at + 1 > #bytes then return nil, at + 2 end
  local unit = string.unpack(format, bytes, at)
  if unit < 0xD800 or unit > 0xDFFF then return unit, at + 2 end
  if unit > 0xDBFF or at + 3 > #bytes then return nil, at + 2 end
  local low = string.unpack(format, bytes, at + 2)
  if low < 0xDC00 or low > 0xDFFF then return nil, at + 2 end
  return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), at + 4
end

local function read_utf16(bytes, format)
  local parts, bad, at, n = {}, {}, 3, 0
  while at <= #bytes do
    local code, after = unit_at(bytes, at, format)
    if not code then bad[#bad + 1] = n + 1 end
    local char = code and utf8.char(code) or REPLACEMENT
    parts[#parts + 1], n, at = char, n + #char, after
  end
  return table.concat(parts), bad
end

---Bytes of a file as UTF-8 text without a byte order mark.
---@param bytes string
---@return string text
---@return integer[] bad   where U+FFFD stands for bytes that are no character
function M.read(bytes)
  local mark = bytes:sub(1, 2)
  if mark == "\xFF\xFE" then return read_utf16(bytes, "<I2") end
  if mark == "\xFE\xFF" then return read_utf16(bytes, ">I2") end
  return read_utf8(bytes:gsub("^\xEF\xBB\xBF", ""))
end

---Text without the characters that the grammar drops.
---@param text string          UTF-8
---@param dropped fun(code: integer, at: integer)   told of each, with its place in the text
---@return string
function M.keep_printable(text, dropped)
  if not text:find("[^\t\r\n\32-\126]") then return text end
  local parts = {}
  for at, code in utf8.codes(text) do
    if code == 9 or code == 10 or code == 13 or M.is_print(code) then
      parts[#parts + 1] = utf8.char(code)
    else
      dropped(code, at)
    end
  end
  return table.concat(parts)
end

---@class perigee.modelfile.places
---@field text string
---@field private starts integer[]   first byte of each line
local Places = {}
Places.__index = Places

---What tells lines and columns of a text.
---@param text string
---@return perigee.modelfile.places
function M.places(text)
  local starts, at = { 1 }, 1
  while true do
    local stop = text:find("[\r\n]", at)
    if not stop then break end
    at = stop + (text:find("^\r\n", stop) and 2 or 1)
    starts[#starts + 1] = at
  end
  return setmetatable({ text = text, starts = starts }, Places)
end

---Line and column, in characters, of a byte.
---@param at integer
---@return integer line
---@return integer column
function Places:of(at)
  local low, high = 1, #self.starts
  while low < high do
    local mid = (low + high + 1) // 2
    if self.starts[mid] <= at then low = mid else high = mid - 1 end
  end
  local start = self.starts[low]
  return low, (utf8.len(self.text, start, at - 1) or at - start) + 1
end

return M
