-- SPDX-License-Identifier: MIT
-- Running template code under a budget, for both template languages: limits, and errors with line
-- and column.
local S = require "perigee.jinja.state"

local M = {}

---@class perigee.jinja.error
---@field code string "template", or "budget" when a limit was reached
---@field message string "NAME:LINE:COLUMN: found ..., expected ..."
---@field template string
---@field line integer
---@field column integer
local Error = { __tostring = function(e) return e.message end }

--- Line and column (in characters) of byte `at`.
---@param source string
---@param at integer
---@return integer line
---@return integer column
function M.position(source, at)
  local head = source:sub(1, at - 1)
  local _, line = head:gsub("\n", "")
  local last = head:match("[^\n]*$")
  return line + 1, (utf8.len(last) or #last) + 1
end

local function make_error(self, fault)
  local line, column = M.position(self.source, fault.at)
  return setmetatable({
    code = fault.code, template = self.name, line = line, column = column,
    message = ("%s:%d:%d: %s"):format(self.name, line, column, fault.text),
  }, Error)
end

--- Run f under a budget; its result, or nil and the error.
---@param self { source: string, name: string }
---@param limit perigee.jinja.budget
---@param f fun(): any
---@return any?
---@return perigee.jinja.error? err
function M.run(self, limit, f)
  local saved = S.begin(limit)
  local ok, result = pcall(f)
  local at = S.at
  S.finish(saved)
  if ok then
    return result
  elseif S.is_fault(result) then
    return nil, make_error(self, result)
  elseif type(result) == "string" and result:find("stack overflow", 1, true) then
    return nil, make_error(self, { code = "budget", at = at,
      text = "found calls nested deeper than the stack, expected a simpler template" })
  elseif result == "not enough memory" then
    return nil, make_error(self, { code = "budget", at = at,
      text = "template uses too much memory: found more than the state may hold" })
  end
  error(result, 0)
end

--- The default limits with those of a budget in their place; a mistake is the caller's caller's.
---@param budget table<string, integer>?
---@return perigee.jinja.budget
function M.limits(budget)
  local limit = {}
  for name, value in pairs(S.defaults) do
    limit[name] = value
  end
  for name, value in pairs(budget or {}) do
    if not S.defaults[name] then
      error(("unknown budget '%s', expected steps, output, string, memory or depth"):format(
        tostring(name)), 3)
    elseif math.type(value) ~= "integer" or value < 0 then
      error(("budget %s: found %s, expected a whole number from 0"):format(name, tostring(value)),
        3)
    end
    limit[name] = value
  end
  return limit
end

return M
