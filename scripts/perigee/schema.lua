-- SPDX-License-Identifier: MIT
-- Schemas of tool arguments.  What a script writes is either a JSON Schema (a table with
-- type = "object" and properties), which is checked and passed through, or the short form, which is
-- made into one:
--   { path = "string", line = "int?", unit = { "celsius", "fahrenheit" }, tags = "string[]",
--     depth = { type = "int", min = 1, max = 9, optional = true, description = "How deep." },
--     at = { type = "object", fields = { x = "number", y = "number" } } }
-- "?" marks what may be left out; text after the type is the description ("string: the file's
-- path"); a list of values is a choice.  A Lua table has no order: required ones come first, then
-- by name; { { "path", "string" }, { "line", "int?" } } keeps the order written.  The same input
-- gives the same bytes, so that a prompt that shows tools stays the same from turn to turn.
local check = require "perigee.check"
local json = require "perigee.sys.json"
local keywords = require "perigee.schema_keywords"

local M = {}

local TYPES <const> = {
  string = "string", str = "string", text = "string",
  integer = "integer", int = "integer",
  number = "number", float = "number",
  boolean = "boolean", bool = "boolean",
  object = "object", table = "object",
  array = "array", list = "array",
  any = "any",
}

local FIELDS <const> = {
  type = { kind = "string" },
  description = { kind = "string" },
  optional = { kind = "boolean" },
  enum = { kind = "table", expected = "a list of values" },
  items = {},
  fields = { kind = "table", expected = "a table of fields" },
  min = { kind = "number" },
  max = { kind = "number" },
  default = {},
}

local build

local function unknown_type(word, path)
  local near = check.nearest(word, check.keys(TYPES))
  local text = ("%s: the type %q is unknown"):format(path, word)
  if near then return text .. "; did you mean " .. near .. "?" end
  return text .. "; known are string, int, number, bool, object, array and any"
end

local WORD <const> = "^%s*([%w_]+)(%[?%]?)(%??)%s*:?%s*(.-)%s*$"

-- "int?", "string[]", "string: the file's path" -> spec table
local function parse_word(word, path)
  local base, list, optional, rest = word:match(WORD)
  if not base or (list ~= "" and list ~= "[]") then return nil, unknown_type(word, path) end
  if not TYPES[base] then return nil, unknown_type(base, path) end
  local spec = { type = base, optional = optional == "?" }
  if rest ~= "" then spec.description = rest end
  if list == "[]" then
    spec.items = base
    spec.type = "array"
  end
  return spec
end

local function enum_kind(values)
  local kind
  for _, v in ipairs(values) do
    local one = math.type(v) or type(v)
    one = one == "float" and "number" or one
    if kind and kind ~= one then return nil end
    kind = one
  end
  return kind
end

-- A choice: the type is that of its values.
local function read_enum(values, path)
  local list, text = check.copy(values, path)
  if text then return nil, text end
  if not check.is_array(list) then return nil, path .. ": found no list, expected values" end
  return list
end

local function spec_of(v, path)
  if type(v) == "string" then return parse_word(v, path) end
  if type(v) ~= "table" then
    return nil, check.wrong(path, v, 'a type ("string", "int?"), choices, or { type = ... }')
  end
  if check.is_list(v) then return { enum = v } end
  local spec, text = check.table(v, FIELDS, path, { enums = "enum", properties = "fields" })
  if text then return nil, text end
  if spec.type then
    local word, wrong = parse_word(spec.type, check.join(path, "type"))
    if wrong then return nil, wrong end
    spec.type, spec.items = word.type, spec.items or word.items
    if spec.optional == nil then spec.optional = word.optional end
    spec.description = spec.description or word.description
  end
  return spec
end

local function kind_of(spec, enum)
  if spec.type then return TYPES[spec.type] end
  if enum then return enum_kind(enum) end
  if spec.fields then return "object" end
  return spec.items ~= nil and "array" or "any"
end

-- One property: its schema, and whether it may be left out.
local function property(v, path)
  local spec, text = spec_of(v, path)
  if text then return nil, text end
  local out, enum = {}, nil
  if spec.enum then
    enum, text = read_enum(spec.enum, check.join(path, "enum"))
    if text then return nil, text end
  end
  local kind = kind_of(spec, enum)
  if kind and kind ~= "any" then out[#out + 1] = { "type", kind } end
  if spec.description then out[#out + 1] = { "description", spec.description } end
  if enum then out[#out + 1] = { "enum", enum } end
  if spec.items ~= nil then
    local items, wrong = property(spec.items, check.join(path, "items"))
    if wrong then return nil, wrong end
    out[#out + 1] = { "items", items }
  end
  if spec.min then out[#out + 1] = { "minimum", spec.min } end
  if spec.max then out[#out + 1] = { "maximum", spec.max } end
  if spec.default ~= nil then
    local default, wrong = check.copy(spec.default, check.join(path, "default"))
    if wrong then return nil, wrong end
    out[#out + 1] = { "default", default }
  end
  if not spec.fields then return json.object(out), nil, spec.optional end
  local object, wrong = build(spec.fields, check.join(path, "fields"))
  if wrong then return nil, wrong end
  for _, key in ipairs { "properties", "required" } do out[#out + 1] = { key, object[key] } end
  return json.object(out), nil, spec.optional
end

-- { { "path", "string" }, ... } or { path = "string", ... } -> list of { name, spec, path }
local function entries(t, path)
  local out = {}
  if not check.is_list(t) then
    for key in next, t do
      if type(key) ~= "string" then
        return nil, check.wrong(check.join(path, key), key, "names of parameters")
      end
    end
    for _, name in ipairs(check.keys(t)) do
      out[#out + 1] = { name, rawget(t, name), check.join(path, name) }
    end
    return out, nil, false
  end
  for i = 1, #t do
    local where, row = check.join(path, i), rawget(t, i)
    local name = type(row) == "table" and rawget(row, 1)
    if type(name) ~= "string" or rawget(row, 2) == nil then
      return nil, check.wrong(where, row, '{ "name", "type" }')
    end
    out[i] = { name, rawget(row, 2), where }
  end
  return out, nil, true
end

function build(t, path)
  local list, text, is_ordered = entries(t, path)
  if text then return nil, text end
  local required, left_out, names = {}, {}, json.array {}
  for _, entry in ipairs(list) do
    local name, spec, where = entry[1], entry[2], entry[3]
    local schema, wrong, is_optional = property(spec, where)
    if wrong then return nil, wrong end
    local into = (is_ordered or not is_optional) and required or left_out
    into[#into + 1] = { name, schema }
    if not is_optional then names[#names + 1] = name end
  end
  table.move(left_out, 1, #left_out, #required + 1, required)
  return json.object {
    { "type", "object" }, { "properties", json.object(required) }, { "required", names },
  }
end

local function is_json_schema(t)
  if rawget(t, "type") ~= "object" then return false end
  local properties = rawget(t, "properties")
  if properties ~= nil and type(properties) ~= "table" then return false end
  return properties ~= nil or next(t, "type") == nil and next(t) == "type"
    or rawget(t, "additionalProperties") ~= nil
end

-- Text for what is no short form and was meant as a JSON Schema, but has another type than object.
local function meant_as_schema(t, path)
  local kind = rawget(t, "type")
  if type(rawget(t, "properties")) ~= "table" or kind == "object" then return nil end
  return check.wrong(check.join(path, "type"), kind, '"object": arguments of a call are an object')
end

---The JSON Schema of a tool's arguments, from the short form or a JSON Schema.
---@param t table|nil      nil: no arguments
---@param path string      key path for texts
---@return table? schema   ordered JSON object
---@return string? text
---@return boolean? is_closed   made from the short form: arguments it does not name are wrong
function M.arguments(t, path)
  if t == nil then t = {} end
  if type(t) ~= "table" then
    return nil, check.wrong(path, t, "a table of parameters or a JSON Schema")
  end
  if not is_json_schema(t) then
    local schema, text = build(t, path)
    return schema, text and (meant_as_schema(t, path) or text), true
  end
  local schema, text = keywords.copy(t, path)
  return schema, text, false
end

-- integer, "celsius" | "fahrenheit", string[]
local function type_text(schema)
  if schema.enum then
    local words = {}
    for i, v in ipairs(schema.enum) do words[i] = json.encode(v) end
    return table.concat(words, " | ")
  end
  local kind = schema.type
  if type(kind) == "table" then return table.concat(kind, " | ") end
  if kind == "array" and type(schema.items) == "table" then
    return type_text(schema.items) .. "[]"
  end
  return kind or "any"
end

---A tool's call in one line, for error texts: read_file(path: string, line?: integer).
---@param name string
---@param schema table
---@return string
function M.signature(name, schema)
  local is_required, words = {}, {}
  for _, key in ipairs(schema.required or {}) do is_required[key] = true end
  for _, key in ipairs(check.keys(schema.properties or {})) do
    local mark = is_required[key] and ": " or "?: "
    words[#words + 1] = key .. mark .. type_text(schema.properties[key])
  end
  return name .. "(" .. table.concat(words, ", ") .. ")"
end

return M
