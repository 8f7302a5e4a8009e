-- SPDX-License-Identifier: MIT
-- Arguments of a call against the schema of the tool.  The text that comes out is written for the
-- model that made the call: what is wrong, at which key, and what the call looks like when right.
-- Values of the wrong type that can only mean one thing are taken ("2" for an integer, "true" for a
-- boolean), and each is noted.  Not checked, since they are notes for the model: pattern, format.
local check = require "perigee.check"
local json = require "perigee.sys.json"
local schema_text = require "perigee.schema"

local M = {}

local validate

local function add(state, path, text)
  state.errors[#state.errors + 1] = (path == "" and "the arguments" or path) .. ": " .. text
end

local function describe(v)
  if type(v) == "table" and v ~= json.null and not check.is_number(v) then
    return check.is_array(v) and "an array" or "an object"
  end
  return check.describe(v)
end

local INTEGER <const> = "^%s*-?%d+%s*$"
local NUMBER <const> = "^%s*-?%d+%.?%d*[eE]?[+-]?%d*%s*$"

local function is_of(kind, v)
  if kind == "null" then return v == json.null end
  if v == json.null then return false end
  if kind == "integer" then return math.tointeger(v) ~= nil and type(v) == "number" end
  if kind == "number" then return type(v) == "number" or check.is_number(v) end
  if kind == "array" then return type(v) == "table" and check.is_array(v) end
  if kind == "object" then return type(v) == "table" and check.is_object(v) end
  return type(v) == kind
end

-- The value as `kind`, when it can only have meant that.
local function coerced(kind, v)
  if kind == "integer" and type(v) == "string" and v:find(INTEGER) then
    return math.tointeger(tonumber(v))
  elseif kind == "number" and type(v) == "string" and v:find(NUMBER) then
    return tonumber(v)
  elseif kind == "boolean" and (v == "true" or v == "false") then
    return v == "true"
  elseif kind == "string" and (math.type(v) == "integer" or type(v) == "boolean") then
    return tostring(v)
  end
end

local ARTICLE <const> = {
  string = "a string", integer = "an integer", number = "a number", boolean = "true or false",
  object = "an object", array = "an array", null = "null",
}

local function check_type(state, schema, v, path)
  local kinds = type(schema.type) == "table" and schema.type or { schema.type }
  for _, kind in ipairs(kinds) do
    if is_of(kind, v) then return kind == "integer" and math.tointeger(v) or v, true end
  end
  for _, kind in ipairs(kinds) do
    local other = coerced(kind, v)
    if other ~= nil then
      local note = path .. ": " .. describe(v) .. " was taken as " .. ARTICLE[kind]
      state.notes[#state.notes + 1] = note
      return other, true
    end
  end
  local words = {}
  for i, kind in ipairs(kinds) do words[i] = ARTICLE[kind] end
  add(state, path, "found " .. describe(v) .. ", expected " .. table.concat(words, " or "))
  return v, false
end

local function equal(a, b)
  if a == b then return true end
  return type(a) == "table" and type(b) == "table"
    and json.encode(a, { sort = true }) == json.encode(b, { sort = true })
end

local function check_choice(state, schema, v, path)
  local words = {}
  for i, choice in ipairs(schema.enum) do
    if equal(choice, v) then return end
    words[i] = json.encode(choice)
  end
  add(state, path, "found " .. describe(v) .. ", expected one of " .. table.concat(words, ", "))
end

local function check_number(state, schema, v, path)
  local function bound(name, is_right, words)
    local limit = schema[name]
    if limit and not is_right(limit) then
      add(state, path, ("found %s, expected %s %s"):format(v, words, limit))
    end
  end
  bound("minimum", function(n) return v >= n end, "at least")
  bound("maximum", function(n) return v <= n end, "at most")
  bound("exclusiveMinimum", function(n) return v > n end, "more than")
  bound("exclusiveMaximum", function(n) return v < n end, "less than")
  bound("multipleOf", function(n) return n > 0 and v % n == 0 end, "a multiple of")
end

local function check_size(state, n, least, most, path, words)
  if least and n < least then
    add(state, path, ("found %d %s, expected at least %d"):format(n, words, least))
  elseif most and n > most then
    add(state, path, ("found %d %s, expected at most %d"):format(n, words, most))
  end
end

local function check_array(state, schema, v, path)
  check_size(state, #v, schema.minItems, schema.maxItems, path, "items")
  if type(schema.items) ~= "table" then return v end
  local out = {}
  for i, item in ipairs(v) do
    out[i] = validate(state, schema.items, item, check.join(path, i))
  end
  return json.array(out)
end

local function unknown(state, schema, key, path)
  local names = check.keys(schema.properties or {})
  local near = check.nearest(key, names)
  local text = "is not a parameter"
  if near then text = text .. "; did you mean " .. near .. "?" end
  state.errors[#state.errors + 1] = check.join(path, key) .. " " .. text
end

local function missing(state, schema, v, path)
  for _, key in ipairs(schema.required or {}) do
    if v[key] == nil then
      local property = schema.properties and schema.properties[key] or {}
      local kind = ARTICLE[property.type] or "a value"
      local text = " is missing, expected " .. kind
      state.errors[#state.errors + 1] = check.join(path, key) .. text
    end
  end
end

local function check_object(state, schema, v, path)
  local more = schema.additionalProperties
  if more == nil then more = not state.is_closed end
  local properties, out = schema.properties or {}, {}
  for _, key in ipairs(check.keys(v)) do
    local where, property = check.join(path, key), properties[key]
    if property == nil and type(more) == "table" then property = more end
    if property ~= nil then
      out[#out + 1] = { key, validate(state, property, v[key], where) }
    elseif more == false then
      unknown(state, schema, key, path)
    else
      out[#out + 1] = { key, v[key] }
    end
  end
  missing(state, schema, v, path)
  return json.object(out)
end

-- How many of the schemas take the value; and the value as the first of them takes it.
local function count_matches(state, list, v, path)
  local n, first = 0, v
  for _, schema in ipairs(list) do
    local trial = { errors = {}, notes = {}, is_closed = state.is_closed }
    local taken = validate(trial, schema, v, path)
    if #trial.errors == 0 then
      n = n + 1
      if n == 1 then first = taken end
    end
  end
  return n, first
end

local function check_combined(state, schema, v, path)
  if schema.anyOf then
    local n, first = count_matches(state, schema.anyOf, v, path)
    v = first
    if n == 0 then
      add(state, path, "found " .. describe(v) .. ", which fits none of the choices")
    end
  end
  if schema.oneOf then
    local n, first = count_matches(state, schema.oneOf, v, path)
    v = first
    if n ~= 1 then
      add(state, path, ("found %s, which fits %d of the choices, not one"):format(describe(v), n))
    end
  end
  for _, one in ipairs(schema.allOf or {}) do v = validate(state, one, v, path) end
  local no = schema["not"]
  if type(no) == "table" and count_matches(state, { no }, v, path) == 1 then
    add(state, path, "found " .. describe(v) .. ", which is ruled out")
  end
  return v
end

function validate(state, schema, v, path)
  if type(schema) ~= "table" then return v end
  local is_right = true
  if schema.type then v, is_right = check_type(state, schema, v, path) end
  if not is_right then return v end
  if schema.enum then check_choice(state, schema, v, path) end
  if schema.const ~= nil and not equal(schema.const, v) then
    add(state, path, "found " .. describe(v) .. ", expected " .. json.encode(schema.const))
  end
  if type(v) == "number" then check_number(state, schema, v, path) end
  if type(v) == "string" then
    local n = utf8.len(v) or #v
    check_size(state, n, schema.minLength, schema.maxLength, path, "characters")
  end
  if is_of("array", v) then v = check_array(state, schema, v, path) end
  if is_of("object", v) then v = check_object(state, schema, v, path) end
  return check_combined(state, schema, v, path)
end

---Check the arguments of a call.
---@param name string       of the tool, for texts
---@param schema table      as perigee.schema made it
---@param args any          decoded JSON
---@param is_closed boolean whether arguments the schema does not name are wrong
---@return table? args      a copy, with values taken as the schema wants them
---@return string|string[] text   what is wrong, for the model; else notes on values taken
function M.arguments(name, schema, args, is_closed)
  local state = { errors = {}, notes = {}, is_closed = is_closed }
  local out = validate(state, schema, args, "")
  if #state.errors == 0 then return out, state.notes end
  return nil, ("The arguments of %s are wrong: %s. The call is %s.")
    :format(name, table.concat(state.errors, "; "), schema_text.signature(name, schema))
end

return M
