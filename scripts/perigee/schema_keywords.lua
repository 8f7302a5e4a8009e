-- SPDX-License-Identifier: MIT
-- JSON Schemas as tools bring them: which keywords there are, what each may hold, and a checked
-- copy.  Keywords nobody here knows are kept (they are notes for the model), unless one is nearly a
-- known one: then it is taken for a slip of the pen.  References are not resolved.
local check = require "perigee.check"
local json = require "perigee.sys.json"

local M = {}

local TYPES <const> = { "string", "integer", "number", "boolean", "object", "array", "null" }
local is_type = {}
for _, name in ipairs(TYPES) do is_type[name] = true end

local copy

local function type_word(v, path)
  if is_type[v] then return v end
  local near = type(v) == "string" and check.nearest(v, TYPES)
  local text = check.wrong(path, v, "one of " .. table.concat(TYPES, ", "))
  return nil, near and text .. "; did you mean " .. near .. "?" or text
end

local function read_type(v, path)
  if type(v) ~= "table" then return type_word(v, path) end
  local list, text = check.list(v, path, type_word)
  if text then return nil, text end
  if #list == 0 then return nil, path .. ": found no type, expected at least one" end
  return json.array(list)
end

local function map_of_schemas(v, path)
  if type(v) ~= "table" then
    return nil, check.wrong(path, v, "a table of schemas, one for each name")
  end
  local out = {}
  for key in next, v do
    if type(key) ~= "string" then
      return nil, check.wrong(check.join(path, key), key, "a name as key")
    end
  end
  for i, key in ipairs(check.keys(v)) do
    local schema, text = copy(rawget(v, key), check.join(path, key))
    if text then return nil, text end
    out[i] = { key, schema }
  end
  return json.object(out)
end

local function schema_or_flag(v, path)
  if type(v) == "boolean" then return v end
  return copy(v, path)
end

local function list_of_schemas(v, path)
  local list, text = check.list(v, path, copy)
  if text then return nil, text end
  return json.array(list)
end

local function strings(v, path)
  if type(v) ~= "table" then return nil, check.wrong(path, v, "a list of names") end
  local list, text = check.strings(v, path)
  if text then return nil, text end
  return json.array(list)
end

local function values(v, path)
  local list, text = check.list(v, path, check.copy)
  if text then return nil, text end
  if #list == 0 then return nil, path .. ": found no values, expected at least one" end
  return json.array(list)
end

local function number(v, path)
  if type(v) ~= "number" then return nil, check.wrong(path, v, "a number") end
  return v
end

local function count(v, path)
  local n = math.tointeger(v)
  if not n or n < 0 then return nil, check.wrong(path, v, "a count of at least 0") end
  return n
end

local function words(v, path)
  if type(v) ~= "string" then return nil, check.wrong(path, v, "a string") end
  return v
end

local function reference(_, path)
  return nil, path .. ": references are not resolved here; write the schema in its place"
end

local READ <const> = {
  type = read_type, title = words, description = words, format = words, pattern = words,
  properties = map_of_schemas, required = strings, additionalProperties = schema_or_flag,
  items = schema_or_flag, enum = values, const = check.copy, default = check.copy,
  anyOf = list_of_schemas, oneOf = list_of_schemas, allOf = list_of_schemas,
  ["not"] = schema_or_flag, examples = check.copy,
  minimum = number, maximum = number, exclusiveMinimum = number, exclusiveMaximum = number,
  multipleOf = number, minLength = count, maxLength = count, minItems = count, maxItems = count,
  minProperties = count, maxProperties = count, uniqueItems = check.copy,
  ["$ref"] = reference, ["$schema"] = check.copy, ["$id"] = check.copy,
  ["$comment"] = check.copy, deprecated = check.copy, readOnly = check.copy,
  writeOnly = check.copy, nullable = check.copy,
}
local NAMES <const> = check.keys(READ)

local function read_keyword(key, v, path)
  if READ[key] then return READ[key](v, path) end
  local near = check.nearest(key, NAMES)
  if near then
    return nil, path .. " is no keyword of JSON Schema; did you mean " .. near .. "?"
  end
  return check.copy(v, path)
end

local RANGES <const> = {
  { "minimum", "maximum" }, { "minLength", "maxLength" }, { "minItems", "maxItems" },
}

-- What must hold between keywords.
local function contradiction(schema, path)
  local properties = schema.properties
  for i, name in ipairs(schema.required or {}) do
    if properties and properties[name] == nil then
      local near = check.nearest(name, check.keys(properties))
      local text = ("%s.required[%d]: %q is none of the properties"):format(path, i, name)
      return near and text .. "; did you mean " .. near .. "?" or text
    end
  end
  for _, pair in ipairs(RANGES) do
    local least, most = schema[pair[1]], schema[pair[2]]
    if least and most and least > most then
      return ("%s: %s %s is more than %s %s"):format(path, pair[1], least, pair[2], most)
    end
  end
end

function copy(t, path)
  if type(t) == "string" then
    return nil, check.wrong(path, t, ("a schema; in a JSON Schema write { type = %q }"):format(t))
  end
  if type(t) ~= "table" or t == json.null then
    return nil, check.wrong(path, t, "a schema, { type = ... }")
  end
  if select(2, path:gsub("[.%[]", "")) > 64 then
    return nil, ("%.80s...: found more than 64 levels of schemas"):format(path)
  end
  local out = {}
  for key in next, t do
    if type(key) ~= "string" then
      return nil, check.wrong(check.join(path, key), key, "a keyword as key")
    end
  end
  for i, key in ipairs(check.keys(t)) do
    local v, text = read_keyword(key, rawget(t, key), check.join(path, key))
    if text then return nil, text end
    out[i] = { key, v }
  end
  local schema = json.object(out)
  local text = contradiction(schema, path)
  if text then return nil, text end
  return schema
end

---A checked copy of a JSON Schema as ordered JSON objects.
---@param t table
---@param path string
---@return table? schema
---@return string? text
function M.copy(t, path)
  return copy(t, path)
end

return M
