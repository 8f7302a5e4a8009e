-- SPDX-License-Identifier: MIT
-- What can be told of schemas before they are grammars: their types, what a reference means, and
-- whether two of them have no value in common.
local check = require "perigee.check"
local problem = require "perigee.grammar.problem"
local json = require "perigee.sys.json"

local M = {}

local ORDER <const> = { "object", "array", "string", "number", "integer", "boolean", "null" }
local IS_TYPE <const> = {}
for _, name in ipairs(ORDER) do IS_TYPE[name] = true end

---The types that a schema names.
---@param schema table
---@param path string
---@return string[]?
function M.types_of(schema, path)
  local kind = schema.type
  if kind == nil then return nil end
  local list = type(kind) == "table" and kind or { kind }
  for i, one in ipairs(list) do
    if not IS_TYPE[one] then
      local near = type(one) == "string" and check.nearest(one, ORDER)
      problem.fail(check.join(path, "type"), "found %s, expected one of %s%s",
        check.describe(list[i]), table.concat(ORDER, ", "),
        near and "; did you mean " .. near .. "?" or "")
    end
  end
  if #list == 0 then problem.fail(check.join(path, "type"), "found no type") end
  return list
end

---The schema that a reference means.
---@param state perigee.grammar.state
---@param ref any
---@param path string
---@return table|boolean
function M.resolved(state, ref, path)
  if type(ref) ~= "string" or not ref:find("^#") then
    problem.fail(path, "found %s, expected a reference inside the schema: #/$defs/NAME",
      check.describe(ref))
  end
  local at = state.root
  for part in ref:gmatch("/([^/]*)") do
    part = part:gsub("~1", "/"):gsub("~0", "~")
    local index = type(at) == "table" and check.is_array(at) and math.tointeger(tonumber(part))
    if type(at) == "table" then at = at[index and index + 1 or part] end
    if at == nil or type(at) ~= "table" and type(at) ~= "boolean" then
      problem.fail(path, "%s: there is no %s", ref, part)
    end
  end
  return at
end

---Is it plain that no value fits both: by their types or values, or those of a member that both
---must have?
---@param state perigee.grammar.state
---@param a table|boolean
---@param b table|boolean
---@param path string
---@return boolean
function M.is_apart(state, a, b, path)
  local function seen(s)
    if type(s) == "table" and s["$ref"] then s = M.resolved(state, s["$ref"], path) end
    return type(s) == "table" and s or {}
  end
  a, b = seen(a), seen(b)
  local function values(s) return s.const ~= nil and { s.const } or s.enum end
  local one, two = values(a), values(b)
  if one and two then
    for _, x in ipairs(one) do
      for _, y in ipairs(two) do
        if json.encode(x) == json.encode(y) then return false end
      end
    end
    return true
  end
  local kinds = M.types_of(b, path)
  if kinds and M.types_of(a, path) then
    local has_common = false
    for _, x in ipairs(M.types_of(a, path)) do
      for _, y in ipairs(kinds) do
        local both = (x == "number" or x == "integer") and (y == "number" or y == "integer")
        has_common = has_common or x == y or both
      end
    end
    if not has_common then return true end
  end
  for name, x in next, a.properties or {} do
    local y = (b.properties or {})[name]
    local left, right = seen(x), seen(y)
    if values(left) and values(right) and M.is_apart(state, left, right, path) then
      local in_a, in_b = false, false
      for _, n in ipairs(a.required or {}) do in_a = in_a or n == name end
      for _, n in ipairs(b.required or {}) do in_b = in_b or n == name end
      if in_a and in_b then return true end
    end
  end
  return false
end

return M
