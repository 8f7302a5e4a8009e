-- SPDX-License-Identifier: MIT
-- Go's quoted texts and characters: reading those of a template, and writing them as %q does.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local unicode = require "perigee.jinja.unicode"

local M = {}

local SIMPLE <const> = { a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v",
  ["\\"] = "\\" }
local HEX <const> = { x = 2, u = 4, U = 8 }

-- The escape whose backslash is at byte `at`: its code, whether it is one byte, the byte after.
local function read_escape(source, at, mark)
  local c = source:sub(at + 1, at + 1)
  if SIMPLE[c] then
    return SIMPLE[c]:byte(), false, at + 2
  elseif c == mark then
    return c:byte(), false, at + 2
  end
  local octal = source:match("^[0-7][0-7][0-7]", at + 1)
  if octal and tonumber(octal, 8) < 256 then
    return tonumber(octal, 8), true, at + 4
  end
  local digits = HEX[c] and source:match("^" .. ("%x"):rep(HEX[c]), at + 2)
  local code = digits and tonumber(digits, 16)
  if not code or c ~= "x" and (code > 0x10FFFF or code >= 0xD800 and code < 0xE000) then
    S.fail(("found the escape \\%s, expected one of \\a \\b \\f \\n \\r \\t \\v \\\\ \\%s, three "
      .. "octal digits, \\xHH, \\uHHHH or \\UHHHHHHHH"):format(c, mark), at)
  end
  return code, c == "x", at + 2 + #digits
end

--- The quoted text that starts at byte `at`, and the byte after it.
---@return string, integer
function M.read(source, at)
  local parts, from = {}, at + 1
  while true do
    local i = source:find('["\\\n]', from)
    local c = i and source:sub(i, i)
    if not i or c == "\n" then
      S.fail('found a text without end, expected a closing " in the same line', at)
    end
    S.charge(1)
    parts[#parts + 1] = source:sub(from, i - 1)
    if c == '"' then
      return table.concat(parts), i + 1
    end
    local code, is_byte, after = read_escape(source, i, '"')
    parts[#parts + 1] = is_byte and string.char(code) or utf8.char(code)
    from = after
  end
end

--- The character constant that starts at byte `at`, and the byte after it.
---@return integer, integer
function M.read_char(source, at)
  local code, after
  if source:sub(at + 1, at + 1) == "\\" then
    local _
    code, _, after = read_escape(source, at + 1, "'")
  else
    local char = source:match("^[^'\n\x80-\xff]", at + 1)
      or source:match("^[\xc2-\xf4][\x80-\xbf]+", at + 1)
    if not char then
      S.fail("found ' without a character, expected one character between '", at)
    end
    code, after = utf8.codepoint(char), at + 1 + #char
  end
  if source:sub(after, after) ~= "'" then
    S.fail("found a character constant without end, expected one character and a closing '", at)
  end
  return code, after + 1
end

------------------------------------------------------------ writing

local SHORT <const> = { [7] = "\\a", [8] = "\\b", [9] = "\\t", [10] = "\\n", [11] = "\\v",
  [12] = "\\f", [13] = "\\r", [92] = "\\\\" }

-- One character as it stands between the quotes `mark`.
local function escape(char, mark, ascii)
  local code = utf8.codepoint(char)
  if char == mark then
    return "\\" .. char
  elseif SHORT[code] then
    return SHORT[code]
  elseif code < 0x80 and code >= 32 and code ~= 127
    or code >= 0x80 and not ascii and not unicode.is("unprintable", code) then
    return char
  elseif code < 0x80 then
    return ("\\x%02x"):format(code)
  end
  return (code < 0x10000 and "\\u%04x" or "\\U%08x"):format(code)
end

-- Bytes that are no character, and what may stand among them.
local function broken(s)
  return (s:gsub(".", function(byte)
    return ("\\x%02x"):format(byte:byte())
  end))
end

--- v quoted.
---@param v string|perigee.jinja.Str
---@param ascii boolean? escape what is not ASCII
function M.quote(v, ascii)
  local body = T.map(v, function(s)
    S.charge(#s >> 2)
    return (s:gsub('[%c"\\]', function(char)
      return escape(char, '"', ascii)
    end):gsub("[\x80-\xff][\x80-\xbf]*", function(char)
      return utf8.len(char) == 1 and escape(char, '"', ascii) or broken(char)
    end))
  end)
  return T.concat({ '"', body, '"' }, 3)
end

--- A character quoted.
---@param code integer
---@param ascii boolean?
function M.quote_char(code, ascii)
  if code < 0 or code > 0x10FFFF or code >= 0xD800 and code < 0xE000 then
    code = 0xFFFD
  end
  return "'" .. escape(utf8.char(code), "'", ascii) .. "'"
end

--- Whether s can stand between backquotes.
function M.can_backquote(s)
  return not (s:gsub("\t", "")):find("[%c`]") and not s:find("\u{FEFF}", 1, true)
end

return M
