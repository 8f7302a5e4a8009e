-- SPDX-License-Identifier: MIT
-- Arguments that stand in a reply as raw text get the type the tool's schema gives them: "2" is a
-- text for a string and a number for an integer.  What does not fit stays text, and the check of
-- the arguments says so (validate.lua).  Without a schema, text that reads as JSON is that.
local check = require "perigee.check"
local json = require "perigee.sys.json"
local literal = require "perigee.formats.literal"

local M = {}

local MAX_DEPTH <const> = 8

local function add_kind(out, name)
  if type(name) == "string" then out[name == "integer" and "number" or name] = true end
end

-- The kinds of value a schema allows; false when it does not say.
local function collect(schema, out, depth)
  if not check.is_object(schema) or depth > MAX_DEPTH then return false end
  local says = false
  if type(schema.type) == "table" then
    for _, name in ipairs(schema.type) do add_kind(out, name) end
    says = true
  elseif schema.type ~= nil then
    add_kind(out, schema.type)
    says = true
  elseif check.is_array(schema.enum) then
    for _, v in ipairs(schema.enum) do add_kind(out, json.kind(v)) end
    says = true
  elseif schema.const ~= nil then
    add_kind(out, json.kind(schema.const))
    says = true
  end
  for _, key in ipairs { "anyOf", "oneOf" } do
    for _, one in ipairs(check.is_array(schema[key]) and schema[key] or {}) do
      says = collect(one, out, depth + 1) or says
    end
  end
  return says
end

local function decode(text)
  local v = json.decode(text)
  if v == nil then v = literal.value(text) end
  return v
end

---@param text string     as it stands in the reply
---@param schema any      of the tool's parameters
---@param key string      the argument
---@return any
function M.value(text, schema, key)
  local properties = check.is_object(schema) and schema.properties
  local own = check.is_object(properties) and properties[key]
  local kinds = {}
  local says = own and collect(own, kinds, 1)
  if not says then
    local v = json.decode(text)
    if v == nil then return text end
    return v
  end
  if kinds.string and next(kinds) == "string" and next(kinds, "string") == nil then return text end
  local v = decode(text)
  if v ~= nil and kinds[json.kind(v)] then return v end
  return text
end

return M
