-- SPDX-License-Identifier: MIT
-- JSON Schema as GBNF.  What the grammar accepts fits the schema; it may accept less: objects have
-- the properties that are named, in their order (others only where additionalProperties says so),
-- whole numbers have at most 18 digits, white space is short.  A keyword that a grammar cannot
-- keep is an error that names it and its path, never left out.
local apart = require "perigee.grammar.apart"
local check = require "perigee.check"
local json = require "perigee.sys.json"
local pieces = require "perigee.grammar.json"
local problem = require "perigee.grammar.problem"
local strings = require "perigee.grammar.strings"
local text = require "perigee.grammar.text"

local M = {}

---@class perigee.grammar.state
---@field rules perigee.grammar.rules
---@field root table
---@field refs table<string, string>   names of the rules of references
---@field depth integer

local DEPTH <const> = 64

local fail <const>, count <const> = problem.fail, problem.count

-- Notes, which say nothing about the text.
local NOTES <const> = {}
for _, name in ipairs { "title", "description", "default", "examples", "$comment", "$schema", "$id",
  "deprecated", "readOnly", "writeOnly", "$defs", "definitions", "contentMediaType" } do
  NOTES[name] = true
end

-- Keywords by the type they are about.
local OF <const> = {
  string = { "minLength", "maxLength", "pattern", "format" },
  integer = { "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum" },
  number = {},
  array = { "items", "prefixItems", "minItems", "maxItems", "uniqueItems" },
  object = { "properties", "required", "additionalProperties" },
  boolean = {}, null = {},
}
local OWNER <const> = {}
for kind, list in next, OF do
  for _, name in ipairs(list) do OWNER[name] = kind end
end
local SHAPES <const> = { "$ref", "const", "enum", "anyOf", "oneOf", "allOf" }
local IS_SHAPE <const> = {}
for _, name in ipairs(SHAPES) do IS_SHAPE[name] = true end

local visit

local function join(path, key) return check.join(path, key) end

local VISIT <const> = {}

function VISIT.string(state, schema, path) return strings.body(state, schema, path) end

-- ---- numbers ----

local BOUNDS <const> = { { "minimum", 0 }, { "exclusiveMinimum", 1 }, { "maximum", 0 },
  { "exclusiveMaximum", -1 } }

function VISIT.integer(_, schema, path)
  local bound = {}
  for i, row in ipairs(BOUNDS) do
    local v = schema[row[1]]
    local n = v ~= nil and math.tointeger(v)
    if v ~= nil and (type(v) ~= "number" or not n or math.abs(n) > 10 ^ 17) then
      fail(join(path, row[1]), "found %s, expected a whole number of at most 17 digits",
        check.describe(v))
    end
    bound[i] = n and n + row[2] or nil
  end
  local least = bound[1] and bound[2] and math.max(bound[1], bound[2]) or bound[1] or bound[2]
  local most = bound[3] and bound[4] and math.min(bound[3], bound[4]) or bound[3] or bound[4]
  if least and most and least > most then fail(path, "no whole number is in the range") end
  return pieces.integer(least, most)
end

function VISIT.number(state, schema, path)
  for _, key in ipairs(OF.integer) do
    if schema[key] ~= nil then
      fail(join(path, key), "a grammar keeps ranges of whole numbers only; use type integer")
    end
  end
  return pieces.number(state.rules)
end

function VISIT.boolean() return '"true" | "false"' end
function VISIT.null() return '"null"' end

-- ---- arrays ----

function VISIT.array(state, schema, path)
  if schema.uniqueItems == true then
    fail(join(path, "uniqueItems"), "a grammar cannot keep it")
  end
  pieces.space(state.rules)
  local least, most = count(schema, "minItems", path) or 0, count(schema, "maxItems", path)
  local first, items = schema.prefixItems or {}, schema.items
  if most and least > most then fail(path, "minItems %d is more than maxItems %d", least, most) end
  if not check.is_array(first) and #first == 0 and next(first) ~= nil then
    fail(join(path, "prefixItems"), "expected a list of schemas")
  end
  if items == false then most = math.min(most or #first, #first) end
  if most and least > most then fail(path, "minItems is %d, but there are at most %d", least, most)
  end
  if most == 0 then return '"[" ws "]"' end
  -- From the end: what may follow the k-th item.
  local rest = ""
  if not most or most > #first then
    local item = visit(state, items == nil and true or items, join(path, "items"), "item")
    if #first == 0 then
      local more = text.times(("(ws \",\" ws %s)"):format(item), math.max(least - 1, 0),
        most and most - 1)
      if most == 1 then more = "" end
      local body = ("%s %s ws"):format(item, more)
      if least == 0 then body = "(" .. body .. ")?" end
      return ('"[" ws %s "]"'):format(body)
    end
    rest = text.times(("(ws \",\" ws %s)"):format(item), math.max(least - #first, 0),
      most and most - #first)
  end
  for i = math.min(#first, most or #first), 1, -1 do
    local item = visit(state, first[i], join(path, "prefixItems") .. "[" .. i .. "]", "item")
    rest = ("%s%s %s"):format(i > 1 and 'ws "," ws ' or "", item, rest)
    if i > least then rest = "(" .. rest .. ")?" end
  end
  return ('"[" ws %s ws "]"'):format(rest)
end

-- ---- objects ----

local KEY_CHAR <const> = [==[[^"\\\x00-\x1F\x7F]]==]

-- A key that is none of the names: a tree of their characters, with a rule for each place in it.
local function other_key(state, names)
  local tree = {}
  for _, name in ipairs(names) do
    local node = tree
    for _, c in utf8.codes(name) do
      node.child = node.child or {}
      node.child[c] = node.child[c] or {}
      node = node.child[c]
    end
    node.is_name = true
  end
  local function rule(node)
    local out, taken = {}, { { 0, 31 }, { 34, 34 }, { 92, 92 }, { 127, 127 } }
    local points = {}
    for c in next, node.child or {} do points[#points + 1] = c end
    table.sort(points)
    for _, c in ipairs(points) do
      out[#out + 1] = text.class { { c, c } } .. " " .. rule(node.child[c])
      taken[#taken + 1] = { c, c }
    end
    out[#out + 1] = text.class(text.complement(taken)) .. " " .. KEY_CHAR .. "*"
    if not node.is_name then out[#out + 1] = '""' end
    return state.rules:add(state.rules:name "key", table.concat(out, " | "))
  end
  return rule(tree)
end

local function more_members(state, schema, names, path)
  local more = schema.additionalProperties
  if more == nil then more = #names == 0 and schema.required == nil end
  if more == false then return nil end
  local value = visit(state, more, join(path, "additionalProperties"), "value")
  local key = #names == 0 and KEY_CHAR .. "*" or other_key(state, names)
  local member = ([["\"" %s "\"" ws ":" ws %s]]):format(key, value)
  return state.rules:add(state.rules:name "more", member)
end

local function required_names(schema, properties, path)
  local out = {}
  for i, name in ipairs(schema.required or {}) do
    if properties[name] == nil then
      fail(("%s[%d]"):format(join(path, "required"), i), "%s is none of the properties",
        json.encode(name))
    end
    out[name] = true
  end
  return out
end

function VISIT.object(state, schema, path)
  local properties = schema.properties or {}
  if type(properties) ~= "table" then
    fail(join(path, "properties"), "found %s, expected a table of schemas",
      check.describe(properties))
  end
  pieces.space(state.rules)
  local names = check.keys(properties)
  local required = required_names(schema, properties, path)
  local more = more_members(state, schema, names, path)
  -- first: what may stand when nothing did before; rest: behind a member
  local first = more and ("(%s (ws \",\" ws %s)*)?"):format(more, more) or '""'
  local rest = more and ("(ws \",\" ws %s)*"):format(more) or '""'
  for i = #names, 1, -1 do
    local name = names[i]
    local value = visit(state, properties[name], join(join(path, "properties"), name), name)
    local member = ([[%s ws ":" ws %s]]):format(text.literal(json.encode(name)), value)
    rest = state.rules:add(state.rules:name "rest", rest)
    local with = ("%s %s"):format(member, rest)
    first = required[name] and with or ("%s | %s"):format(with, first)
    if i > 1 and not required[name] then
      first = state.rules:add(state.rules:name "members", first)
    end
    rest = required[name] and ([[ws "," ws %s]]):format(with)
      or ([[(ws "," ws %s)? %s]]):format(member, rest)
  end
  return ('"{" ws (%s) ws "}"'):format(first)
end

-- ---- shapes ----

local function type_of_value(v)
  if v == json.null then return "null" end
  if check.is_number(v) then return "number" end
  if type(v) == "table" then return check.is_array(v) and "array" or "object" end
  if type(v) == "number" then return math.tointeger(v) and "integer" or "number" end
  return type(v)
end

local function fits_types(v, types)
  if not types then return true end
  local kind = type_of_value(v)
  for _, one in ipairs(types) do
    if one == kind or (one == "number" and kind == "integer") then return true end
  end
  return false
end

local function values_rule(values, types, path)
  local out = {}
  for _, v in ipairs(values) do
    if fits_types(v, types) then out[#out + 1] = text.literal(json.encode(v)) end
  end
  if #out == 0 then fail(path, "none of the values has the type") end
  return table.concat(out, " | ")
end

-- Only this keyword, its type and notes: a grammar cannot keep two shapes at once.
local function alone(schema, shape, path, allowed)
  for _, key in ipairs(check.keys(schema)) do
    if key ~= shape and key ~= allowed and not NOTES[key] then
      fail(join(path, key), "a grammar cannot keep it together with %s", shape)
    end
  end
end

local function list_of(schema, shape, path)
  local list = schema[shape]
  if type(list) ~= "table" or #list == 0 then
    fail(join(path, shape), "found %s, expected a list of schemas", check.describe(list))
  end
  return list
end

local function choices(state, schema, shape, path)
  alone(schema, shape, path)
  local out = {}
  for i, one in ipairs(list_of(schema, shape, path)) do
    out[i] = visit(state, one, ("%s[%d]"):format(join(path, shape), i), "choice")
  end
  return table.concat(out, " | ")
end

local SHAPE <const> = {}

SHAPE["$ref"] = function(state, schema, path)
  alone(schema, "$ref", path)
  local ref = schema["$ref"]
  if not state.refs[ref] then
    local target = apart.resolved(state, ref, join(path, "$ref"))
    local name = state.rules:name(ref:match("([^/]*)$"):gsub("^#$", "self"))
    state.refs[ref] = name
    state.rules:add(name, visit(state, target, ref, "body"))
  end
  return state.refs[ref]
end

function SHAPE.const(_, schema, path)
  alone(schema, "const", path, "type")
  return values_rule({ schema.const }, apart.types_of(schema, path), join(path, "const"))
end

function SHAPE.enum(_, schema, path)
  alone(schema, "enum", path, "type")
  if type(schema.enum) ~= "table" or #schema.enum == 0 then
    fail(join(path, "enum"), "found %s, expected a list of values", check.describe(schema.enum))
  end
  return values_rule(schema.enum, apart.types_of(schema, path), join(path, "enum"))
end

function SHAPE.anyOf(state, schema, path) return choices(state, schema, "anyOf", path) end

function SHAPE.oneOf(state, schema, path)
  local list = list_of(schema, "oneOf", path)
  for i = 2, #list do
    for k = 1, i - 1 do
      if not apart.is_apart(state, list[k], list[i], join(path, "oneOf")) then
        fail(join(path, "oneOf"), "a value may fit choice %d and choice %d, which a grammar cannot "
          .. "tell; use anyOf, or give them different types or values", k, i)
      end
    end
  end
  return choices(state, schema, "oneOf", path)
end

-- Objects laid over each other.
function SHAPE.allOf(state, schema, path)
  local list = table.move(list_of(schema, "allOf", path), 1, #schema.allOf, 1, {})
  local own, properties, required, more = {}, {}, {}, nil
  for _, key in ipairs(check.keys(schema)) do
    if key ~= "allOf" and not NOTES[key] then own[#own + 1] = { key, schema[key] } end
  end
  if #own == 0 and #list == 1 then
    return visit(state, list[1], join(path, "allOf") .. "[1]", "body")
  end
  if #own > 0 then list[#list + 1] = json.object(own) end
  for i, one in ipairs(list) do
    local where = ("%s[%d]"):format(join(path, "allOf"), i)
    if type(one) == "table" and one["$ref"] then
      alone(one, "$ref", where)
      one = apart.resolved(state, one["$ref"], where)
    end
    if type(one) ~= "table" then fail(where, "found %s, expected an object's schema",
      check.describe(one)) end
    if one.type ~= nil and one.type ~= "object" or one.type == nil and one.properties == nil
      and one.required == nil then
      fail(where, "a grammar lays only schemas of objects over each other")
    end
    for _, key in ipairs(check.keys(one)) do
      if OWNER[key] ~= "object" and key ~= "type" and not NOTES[key] then
        fail(join(where, key), "a grammar cannot keep it inside allOf")
      end
    end
    for _, name in ipairs(check.keys(one.properties or {})) do
      for _, have in ipairs(properties) do
        if have[1] == name then fail(where, "the property %s stands in it twice", name) end
      end
      properties[#properties + 1] = { name, one.properties[name] }
    end
    table.move(one.required or {}, 1, #(one.required or {}), #required + 1, required)
    if one.additionalProperties ~= nil then
      if one.additionalProperties ~= true then
        fail(join(where, "additionalProperties"), "a grammar cannot keep it inside allOf")
      end
    end
    more = false
  end
  return VISIT.object(state, json.object { { "type", "object" },
    { "properties", json.object(properties) }, { "required", json.array(required) },
    { "additionalProperties", more } }, path)
end

-- ---- a schema ----

-- The types it is about; without type those that its keywords name.
local function kinds_of(schema, path)
  local types = apart.types_of(schema, path)
  if types then return types end
  local out, seen = {}, {}
  for _, key in ipairs(check.keys(schema)) do
    local kind = OWNER[key]
    if kind == "integer" then fail(join(path, key), "add type = \"integer\" to the schema") end
    if kind and not seen[kind] then
      out[#out + 1], seen[kind] = kind, true
    end
  end
  return out
end

local function check_keywords(schema, path)
  for _, key in ipairs(check.keys(schema)) do
    local is_known = NOTES[key] or OWNER[key] or IS_SHAPE[key] or key == "type"
    if not is_known then
      fail(join(path, tostring(key)), "this keyword of a schema is not supported in a grammar")
    end
  end
end

local function body_of(state, schema, path)
  if schema == true then return pieces.value(state.rules) end
  if type(schema) ~= "table" or schema == json.null then
    fail(path, "found %s, expected a schema", check.describe(schema))
  end
  check_keywords(schema, path)
  for _, shape in ipairs(SHAPES) do
    if schema[shape] ~= nil then return SHAPE[shape](state, schema, path) end
  end
  local kinds, out = kinds_of(schema, path), {}
  if #kinds == 0 then return pieces.value(state.rules) end
  for i, kind in ipairs(kinds) do out[i] = VISIT[kind](state, schema, path) end
  return table.concat(out, " | ")
end

---The name of a rule for the schema.
function visit(state, schema, path, name)
  state.depth = state.depth + 1
  if state.depth > DEPTH then fail(path, "more than %d levels of schemas", DEPTH) end
  local body = body_of(state, schema, path)
  state.depth = state.depth - 1
  if body:find("^[%w-]+$") then return body end
  return state.rules:add(state.rules:name(name), body)
end

---The rule of a schema, among the rules given.
---@param rules perigee.grammar.rules
---@param schema table|boolean
---@param path string   for messages
---@return string? name
---@return string? text
function M.add(rules, schema, path)
  local state = { rules = rules, root = schema, refs = {}, depth = 0 }
  local ok, result = pcall(visit, state, schema, path, "schema")
  if ok then return result end
  if type(result) ~= "table" or not result.message then error(result, 0) end
  return nil, result.message
end

return M
