-- SPDX-License-Identifier: MIT
-- Upper and lower case and classes of characters beyond ASCII, read from unicode_data.lua on first
-- use.
local data = require "perigee.jinja.unicode_data"

local M = {}

local function number36(text)
  return tonumber(text, 36)
end

-- Sorted first and last code points of a class.
local function read_ranges(text)
  local out, last = {}, 0
  for first, more in text:gmatch("(%w+)%-?(%w*)") do
    local from = last + number36(first)
    last = from + (more ~= "" and number36(more) or 0)
    out[#out + 1], out[#out + 2] = from, last
  end
  return out
end

local classes = {}

--- Whether code (above 127) belongs to "alpha", "numeric", "digit" or "unprintable".
---@param class string
---@param code integer
---@return boolean
function M.is(class, code)
  local list = classes[class]
  if not list then
    list = read_ranges(data[class])
    classes[class] = list
  end
  local low, high = 1, #list // 2
  while low <= high do
    local mid = (low + high) // 2
    if code < list[2 * mid - 1] then
      high = mid - 1
    elseif code > list[2 * mid] then
      low = mid + 1
    else
      return true
    end
  end
  return false
end

local maps = {}

local function read_map(name)
  local map = {}
  for first, last, step, offset in (data[name] or ""):gmatch("(%w+),(%w+),(%d+),(%-?%d+)") do
    for code = number36(first), number36(last), tonumber(step) do
      map[utf8.char(code)] = utf8.char(code + tonumber(offset))
    end
  end
  for code, to in ((data[name .. "_one"] or "") .. " " .. data[name
    .. "_special"]):gmatch("(%w+):([%w+]+)") do
    local parts = {}
    for one in to:gmatch("%w+") do
      parts[#parts + 1] = utf8.char(number36(one))
    end
    map[utf8.char(number36(code))] = table.concat(parts)
  end
  return map
end

local function map_of(name)
  local map = maps[name]
  if not map then
    map = read_map(name)
    maps[name] = map
  end
  return map
end

local WIDE <const> = "[\xc2-\xf4][\x80-\xbf]+"

---@param s string
---@return string
function M.upper(s)
  s = s:upper()
  return s:find("[\x80-\xff]") and (s:gsub(WIDE, map_of("upper"))) or s
end

-- A capital sigma at the end of a word becomes the final form.
local function final_sigma(s, from)
  local before = s:sub(1, from - 1):match("[%a\xc2-\xf4][\x80-\xbf]*$")
  local after = s:sub(from + 2):match("^[%a\xc2-\xf4][\x80-\xbf]*")
  local function is_letter(char)
    return char and (#char == 1 or M.is("alpha", utf8.codepoint(char)))
  end
  return is_letter(before) and not is_letter(after)
end

---@param s string
---@return string
function M.lower(s)
  s = s:lower()
  if not s:find("[\x80-\xff]") then
    return s
  end
  if s:find("Σ", 1, true) then
    s = s:gsub("()Σ", function(from)
      return final_sigma(s, from) and "ς" or "σ"
    end)
  end
  return (s:gsub(WIDE, map_of("lower")))
end

--- One character in title case.
---@param char string
---@return string
function M.title(char)
  return map_of("title")[char] or M.upper(char)
end

--- Whether a character has upper or lower case: "upper", "lower" or nil.
---@param char string
---@return string?
function M.case(char)
  if #char == 1 then
    return char:find("[A-Z]") and "upper" or char:find("[a-z]") and "lower" or nil
  elseif map_of("lower")[char] then
    return "upper"
  elseif map_of("upper")[char] then
    return "lower"
  end
  return nil
end

--- Whether a character is a letter.
---@param char string
function M.is_alpha(char)
  return #char == 1 and char:find("[A-Za-z]") ~= nil or #char > 1 and M.is("alpha",
    utf8.codepoint(char))
end

return M
