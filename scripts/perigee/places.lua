-- SPDX-License-Identifier: MIT
-- Where in a file a key stands that a check complains of: a returned table has no lines any more,
-- so the file's text is searched for the key.  A line is told only where there is exactly one.

local M = {}

local function line_of(text, key)
  local found, n = nil, 0
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    n = n + 1
    local code = line:gsub("%-%-.*$", "")
    local is_there = code:find("%f[%w_]" .. key .. "%f[^%w_]%s*=")
    if is_there or code:find('%[%s*"' .. key .. '"%s*%]%s*=') then
      if found then return nil end
      found = n
    end
  end
  return found
end

-- The last name of the path of keys that a text begins with: parameters.temprature, tools[1] (f).x
local function key_of(message)
  local path = message:match("^([%w_%.%[%]%(%)]+[^:%s]*)")
  if not path then return nil end
  local behind = message:match("^[%w_%[%]]+ %([%w_-]+%)([%w_%.%[%]]+)")
  return (behind or path):match("([%a_][%w_]*)[%[%]%d]*:?$")
end

---A text about a table that a file returned, with the file's name and, where it is known, the line.
---@param path string
---@param text string      of the file
---@param message string   of check.lua
---@return string
function M.name(path, text, message)
  local key = key_of(message)
  local line = key and line_of(text, key)
  if line then return ("%s:%d: %s"):format(path, line, message) end
  return path .. ": " .. message
end

---FILE:LINE of a key of a file; the path where the line is not known.
---@param path string
---@param text? string   of the file
---@param key string
---@return string
function M.of_key(path, text, key)
  local line = text and line_of(text, key)
  return line and ("%s:%d"):format(path, line) or path
end

return M
