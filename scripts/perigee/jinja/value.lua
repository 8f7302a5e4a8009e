-- SPDX-License-Identifier: MIT
-- The values of a template: what Python has, as Lua values.
--   str: Lua string or Str (text.lua); int, float, bool: Lua's own;
--   everything else: a table whose metatable names its kind.
-- Values given to render are converted once, when the template first names them.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local chars = require "perigee.jinja.chars"
local json = require "perigee.sys.json"

local M = {}

local function class(kind, python)
  return { kind = kind, python = python or kind }
end

local List, Tuple, Dict = class("list"), class("tuple"), class("dict")
local Undefined, None = class("undefined", "Undefined"), class("none", "NoneType")
local Gen, Range = class("gen", "generator"), class("range")
local Func, Namespace = class("func", "function"), class("namespace", "Namespace")
local Big = class("big", "int")
T.Str.python = "str"

M.Func, M.Namespace, M.Gen, M.Range, M.Big = Func, Namespace, Gen, Range, Big
M.NONE = setmetatable({}, None)

local NONE <const> = M.NONE
local KINDS <const> = { string = "str", boolean = "bool" }

--- One of: str int float bool none undefined list tuple dict gen range func namespace loop big
--- cycler joiner.
---@param v any
---@return string
local function kind(v)
  local t = type(v)
  if t == "table" then
    return getmetatable(v).kind
  elseif t == "number" then
    return math.type(v) == "integer" and "int" or "float"
  end
  return KINDS[t]
end
M.kind = kind

--- Python's name of the type of v, for error texts.
function M.type_name(v)
  local t = type(v)
  if t == "table" then
    return v.python or getmetatable(v).python
  elseif t == "number" then
    return math.type(v) == "integer" and "int" or "float"
  end
  return KINDS[t]
end

--- An undefined value: using it fails with `text`.
---@param text string
function M.undefined(text)
  return setmetatable({ text = text }, Undefined)
end

function M.is_undefined(v)
  return getmetatable(v) == Undefined
end

--- A list of items[1..n]; takes the table over.
function M.list(items, n)
  S.alloc(40 + 16 * n)
  items.n = n
  return setmetatable(items, List)
end

function M.tuple(items, n)
  S.alloc(40 + 16 * n)
  items.n = n
  return setmetatable(items, Tuple)
end

--- Something to iterate over; once only unless it is a view of a dict.
---@param items any[]
---@param n integer
---@param name string? how it prints
---@param is_view boolean?
function M.gen(items, n, name, is_view)
  S.alloc(56 + 16 * n)
  return setmetatable({ items = items, n = n, python = name or "generator", is_view = is_view },
    Gen)
end

--- A generator whose elements are made by make() (items, n) when they are first asked for.
---@param make fun(): any[], integer
function M.lazy(make)
  S.alloc(80)
  return setmetatable({ make = make, items = {}, n = 0, python = "generator" }, Gen)
end

--- A function of templates.  spec: names of the parameters, those with ? may be absent; nil:
--- f(self, args, kwargs).
---@param name string
---@param spec table?
---@param f function
---@param self any
function M.func(name, spec, f, self)
  return setmetatable({ name = name, spec = spec, f = f, self = self }, Func)
end

------------------------------------------------------------ dicts

local function hash_tuple(k, depth)
  local parts = {}
  for i = 1, k.n do
    local h = M.hash(k[i], depth + 1)
    parts[i] = type(h) == "string" and ("%d:%s"):format(#h, h) or tostring(h)
  end
  return "\0(" .. table.concat(parts, ",") .. ")"
end

--- The key under which k is kept: equal values have equal keys (1, 1.0 and true are equal).
---@param k any
---@param depth integer?
function M.hash(k, depth)
  local t = type(k)
  if t == "string" then
    return k
  elseif t == "number" then
    return math.tointeger(k) or k == k and k or "\0nan"
  elseif t == "boolean" then
    return k and 1 or 0
  end
  local which = kind(k)
  if which == "str" then
    return k.s
  elseif which == "big" then
    return "\0" .. k.digits
  elseif which == "tuple" then
    if (depth or 0) > 100 then
      S.fail("tuple nested too deep to be a key")
    end
    return hash_tuple(k, depth or 0)
  elseif which == "undefined" then
    return Undefined
  elseif which == "list" or which == "dict" then
    S.fail(("found a %s as key, expected a value that cannot change (unhashable type)"):format(
      which))
  end
  return k
end

---@class perigee.jinja.Dict
---@field n integer
---@field keys any[] keys in order
---@field hash any[] their hashes, in the same order
---@field map table<any, any> values by hash
function M.dict()
  S.alloc(200)
  return setmetatable({ n = 0, keys = {}, hash = {}, map = {} }, Dict)
end

function M.set(d, k, v)
  local h = M.hash(k)
  if d.map[h] == nil then
    S.alloc(64)
    local n = d.n + 1
    d.n, d.keys[n], d.hash[n] = n, k, h
  end
  d.map[h] = v
end

function M.get(d, k)
  return d.map[M.hash(k)]
end

--- Take a key out; returns its value or nil.
function M.remove(d, k)
  local h = M.hash(k)
  local v = d.map[h]
  if v ~= nil then
    d.map[h] = nil
    S.charge(d.n >> 2)
    for i = 1, d.n do
      if d.hash[i] == h then
        table.remove(d.keys, i)
        table.remove(d.hash, i)
        break
      end
    end
    d.n = d.n - 1
  end
  return v
end

--- Keys, values or pairs of a dict as a fresh array.
function M.pairs_of(d)
  local out = {}
  for i = 1, d.n do
    out[i] = M.tuple({ d.keys[i], d.map[d.hash[i]] }, 2)
  end
  return out, d.n
end

function M.values_of(d)
  local out = {}
  S.alloc(16 * d.n)
  for i = 1, d.n do
    out[i] = d.map[d.hash[i]]
  end
  return out, d.n
end

------------------------------------------------------------ truth, length, iteration

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
  local which = getmetatable(v).kind
  if which == "str" then
    return v.s ~= ""
  elseif which == "list" or which == "dict" or which == "tuple" or which == "range" then
    return v.n > 0
  elseif which == "gen" and v.is_view then
    return v.n > 0
  end
  return which ~= "none" and which ~= "undefined"
end

--- Length as Python's len, or nil when v has none.
function M.len(v)
  local which = kind(v)
  if which == "str" then
    return chars.len(v)
  elseif which == "list" or which == "dict" or which == "tuple" or which == "range" then
    return v.n
  elseif which == "undefined" then
    return 0
  elseif which == "gen" and v.is_view then
    return v.n
  end
  return nil
end

--- The elements v yields, as an array that must not be changed, and their number; nil when v cannot
--- be iterated.
---@return any[]?, integer?
function M.try_items(v)
  local which = kind(v)
  if which == "list" or which == "tuple" then
    return v, v.n
  elseif which == "dict" then
    return v.keys, v.n
  elseif which == "gen" then
    if v.is_view then
      return v.items, v.n
    end
    local items, n, make = v.items, v.n, v.make
    v.items, v.n, v.make = {}, 0, nil
    if make then
      return make()
    end
    return items, n
  elseif which == "str" then
    return chars.list(v)
  elseif which == "undefined" then
    return {}, 0
  elseif which == "range" then
    local out = {}
    S.charge(v.n)
    S.alloc(16 * v.n)
    for i = 1, v.n do
      out[i] = v.start + (i - 1) * v.step
    end
    return out, v.n
  end
  return nil
end

--- Like try_items; fails when v cannot be iterated.
---@return any[], integer
function M.items(v)
  local items, n = M.try_items(v)
  if not items then
    S.fail(("found %s, expected something to iterate over ('%s' object is not iterable)"):format(
      M.type_name(v), M.type_name(v)))
  end
  return items, n
end

--- Fail because of undefined value v.
function M.fail_undefined(v)
  S.fail(v.text)
end

------------------------------------------------------------ values from outside

local MAX_DEPTH <const> = 128
local OURS <const> = {}
for _, c in ipairs { T.Str, List, Tuple, Dict, Undefined, None, Gen, Range, Func, Namespace,
  Big } do
  OURS[c] = true
end

local function from_array(v, depth, mark)
  local out, n = {}, #v
  for i = 1, n do
    out[i] = M.from(v[i], depth + 1, mark)
  end
  return M.list(out, n)
end

local function from_object(v, is_ordered, depth, mark)
  local names = {}
  for k in pairs(v) do
    names[#names + 1] = k
  end
  if not is_ordered then
    table.sort(names, function(a, b)
      return chars.order(tostring(a), tostring(b)) < 0
    end)
  end
  local out = M.dict()
  for _, k in ipairs(names) do
    M.set(out, M.from(k, depth + 1, mark), M.from(v[k], depth + 1, mark))
  end
  return out
end

--- A value of the template from a Lua value: decoded JSON, or plain tables (with an element 1: a
--- list).
---@param v any
---@param depth integer?
---@param mark boolean? all strings, keys too, count as input
function M.from(v, depth, mark)
  depth = depth or 0
  local t = type(v)
  if t == "string" then
    v = chars.valid(v)
    return mark and T.input(v) or v
  elseif t == "number" or t == "boolean" then
    return v
  elseif t == "table" and OURS[getmetatable(v)] then
    return v
  end
  local which = json.kind(v)
  if which == "null" then
    return NONE
  elseif which == "number" then
    return setmetatable({ digits = tostring(v) }, Big)
  elseif t ~= "table" then
    S.fail(("found a %s among the values, expected text, numbers, booleans and tables"):format(t))
  elseif depth >= MAX_DEPTH then
    S.fail(("values nested deeper than %d"):format(MAX_DEPTH))
  end
  if which == "array" or which == "table" and v[1] ~= nil then
    return from_array(v, depth, mark)
  end
  return from_object(v, which == "object", depth, mark)
end

return M
