-- SPDX-License-Identifier: MIT
-- What is wrong with a schema: raised as a table, which grammar/schema.lua turns into a message.
local check = require "perigee.check"

local M = {}

---Raise a message that begins with the path.
---@param path string
---@param ... any   format and its arguments
function M.fail(path, ...)
  error({ message = path .. ": " .. (...):format(select(2, ...)) }, 0)
end

---A count that a keyword gives, or nil.
---@param schema table
---@param key string
---@param path string
---@return integer?
function M.count(schema, key, path)
  local v = schema[key]
  if v == nil then return nil end
  local n = math.tointeger(v)
  if not n or n < 0 then
    M.fail(check.join(path, key), "found %s, expected a count of at least 0", check.describe(v))
  end
  return n
end

return M
