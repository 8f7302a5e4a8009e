-- SPDX-License-Identifier: MIT
-- Go's values as templates see them:
--   string: Lua string or marked Str (jinja/text.lua); bool, int, float: Lua's own;
--   List, Map and Struct below; NIL an empty interface, NONE no value at all (what a pipeline makes
--   of NIL).  Maps answer an absent key with their zero value, structs know their fields.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local chars = require "perigee.jinja.chars"
local json = require "perigee.sys.json"

local M = {}

local List, Map, Struct = { kind = "slice" }, { kind = "map" }, { kind = "struct" }
local Nothing = { kind = "nil" }

M.NIL = setmetatable({}, Nothing)
M.NONE = setmetatable({}, Nothing)
local NIL <const>, NONE <const> = M.NIL, M.NONE

--- One of: string bool int float slice map struct nil.
---@param v any
---@return string
function M.kind(v)
  local t = type(v)
  if t == "table" then
    return getmetatable(v) == T.Str and "string" or getmetatable(v).kind
  elseif t == "number" then
    return math.type(v) == "integer" and "int" or "float"
  end
  return t == "boolean" and "bool" or t
end

---@class perigee.gotemplate.type
---@field name string Go's name of the type
---@field elem string? its elements: "any", "string" or the name of a struct
---@field zero any? what an absent key of a map is
---@field text boolean? prints as JSON
---@field fields string[]? of a struct, in order
---@field methods table<string, fun(v: any): any>? called when a field of that name is asked for

M.ANY_LIST = { name = "[]interface {}", elem = "any" }
M.STRING_LIST = { name = "[]string", elem = "string" }
M.ANY_MAP = { name = "map[string]interface {}", elem = "any", zero = NIL }

--- Name of the type of v.
function M.type_name(v)
  local kind = M.kind(v)
  if kind == "slice" or kind == "map" or kind == "struct" then
    return v.type.name
  elseif v == NIL then
    return "interface {}"
  end
  return kind == "float" and "float64" or kind
end

--- A slice of items[1..n]; takes the table over.
---@param items any[]
---@param n integer
---@param type perigee.gotemplate.type?
---@param is_nil boolean?
function M.list(items, n, type, is_nil)
  S.alloc(48 + 16 * n)
  items.n, items.type, items.is_nil = n, type or M.ANY_LIST, is_nil
  return setmetatable(items, List)
end

--- A map of sorted keys (string values) and values by text of the key.
---@param keys any[]
---@param map table<string, any>
---@param type perigee.gotemplate.type?
---@param is_nil boolean?
function M.map(keys, map, type, is_nil)
  S.alloc(120 + 64 * #keys)
  return setmetatable({ keys = keys, n = #keys, map = map, type = type or M.ANY_MAP,
    is_nil = is_nil }, Map)
end

--- A struct; takes the table of fields over.
---@param fields table<string, any>
---@param type perigee.gotemplate.type
function M.struct(fields, type)
  S.alloc(200)
  return setmetatable({ f = fields, type = type }, Struct)
end

--- Sort string values by their bytes.
function M.sort(keys)
  S.charge(8 * #keys)
  table.sort(keys, function(a, b)
    return chars.order((T.raw(a)), (T.raw(b))) < 0
  end)
  return keys
end

--- Whether v counts as true.
---@param v any
---@return boolean
function M.truth(v)
  local t = type(v)
  if t == "boolean" then
    return v
  elseif t == "string" then
    return v ~= ""
  elseif t == "number" then
    return v ~= 0
  end
  local meta = getmetatable(v)
  if meta == T.Str then
    return v.s ~= ""
  elseif meta == List or meta == Map then
    return v.n > 0
  end
  return meta == Struct
end

------------------------------------------------------------ values from outside

local MAX_DEPTH <const> = 128

--- Keys of a decoded object or a plain table, in the object's order, else sorted.
---@param v table
---@return string[]
function M.keys_of(v)
  local out = {}
  for k in pairs(v) do
    if type(k) ~= "string" then
      S.fail(("found a key of type %s, expected text"):format(type(k)))
    end
    out[#out + 1] = k
  end
  if json.kind(v) ~= "object" then
    M.sort(out)
  end
  return out
end

--- A value as encoding/json would read it into an `any`: numbers are floats, keys sorted.
---@param v any
---@param mark boolean strings and keys count as input
---@param depth integer?
function M.from(v, mark, depth)
  depth = depth or 0
  S.charge(1)
  local t = type(v)
  if t == "string" then
    v = chars.valid(v)
    return mark and T.input(v) or v
  elseif t == "number" then
    return v + 0.0
  elseif t == "boolean" then
    return v
  elseif getmetatable(v) == T.Str then
    return v
  end
  local which = v == nil and "null" or json.kind(v)
  if which == "null" then
    return NIL
  elseif which == "number" then
    return tonumber(tostring(v)) + 0.0
  elseif t ~= "table" then
    S.fail(("found a %s among the values, expected text, numbers, booleans and tables"):format(t))
  elseif depth >= MAX_DEPTH then
    S.fail(("values nested deeper than %d"):format(MAX_DEPTH))
  elseif which == "array" or which == "table" and v[1] ~= nil then
    local out, n = {}, #v
    for i = 1, n do
      out[i] = M.from(v[i], mark, depth + 1)
    end
    return M.list(out, n)
  end
  local keys, map = {}, {}
  for i, k in ipairs(M.keys_of(v)) do
    local key = chars.valid(k)
    keys[i] = mark and T.input(key) or key
    map[key] = M.from(v[k], mark, depth + 1)
  end
  return M.map(M.sort(keys), map)
end

--- What an absent key of a map is.
function M.zero(v)
  local zero = v.type.zero
  if type(zero) == "function" then
    return zero()
  end
  return zero
end

--- The value of a field of a map or struct, or the result of a method; nil: there is none.
---@param v any
---@param name string
function M.field(v, name)
  local meta = getmetatable(v)
  local method = (meta == Struct or meta == Map or meta == List) and v.type.methods
    and v.type.methods[name]
  if method then
    return method(v), true
  elseif meta == Struct then
    return v.f[name]
  elseif meta == Map then
    local found = v.map[name]
    return found == nil and M.zero(v) or found
  end
  return nil
end

function M.is_nothing(v)
  return v == NIL or v == NONE
end

return M
