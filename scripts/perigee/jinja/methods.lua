-- SPDX-License-Identifier: MIT
-- Methods of values, by kind and name: { spec =, f = }; without spec f gets (self, args, kwargs).
-- Lists and dicts can be changed: they are copies of what was given to render.
local S = require "perigee.jinja.state"
local V = require "perigee.jinja.value"
local compare = require "perigee.jinja.compare"
local spec = require "perigee.jinja.spec"

local M = { str = require "perigee.jinja.methods_text", list = {}, tuple = {}, dict = {},
  range = {} }
local NONE <const> = V.NONE

local function define(kinds, name, parameters, f)
  for which in kinds:gmatch("%a+") do
    M[which][name] = { spec = parameters and spec(parameters), f = f }
  end
end

local function int_arg(v, what)
  local n = compare.number(v)
  if math.type(n) ~= "integer" then
    S.fail(("%s: found %s, expected an integer"):format(what, V.type_name(v)))
  end
  return n
end

define("list tuple range", "count", "value", function(v, wanted)
  local items, n = V.items(v)
  local count = 0
  S.charge(n)
  for i = 1, n do
    count = count + (compare.eq(items[i], wanted) and 1 or 0)
  end
  return count
end)

local function index(v, wanted, start, stop)
  local items, n = V.items(v)
  S.charge(n)
  local from, to = start and int_arg(start, "index") or 0, stop and int_arg(stop, "index") or n
  from = from < 0 and math.max(from + n, 0) or from
  to = to < 0 and to + n or math.min(to, n)
  for i = from + 1, to do
    if compare.eq(items[i], wanted) then
      return i - 1
    end
  end
  S.fail("index: the value is not among the elements")
end
define("list tuple range", "index", "value start? end?", index)

------------------------------------------------------------ lists

local function append(v, item)
  S.alloc(16)
  v.n = v.n + 1
  v[v.n] = item
  return NONE
end
define("list", "append", "value", append)

define("list", "extend", "iterable", function(v, iterable)
  local items, n = V.items(iterable)
  S.alloc(16 * n)
  for i = 1, n do
    v[v.n + i] = items[i]
  end
  v.n = v.n + n
  return NONE
end)

define("list", "insert", "index value", function(v, i, item)
  i = int_arg(i, "insert")
  i = i < 0 and math.max(i + v.n, 0) or math.min(i, v.n)
  S.charge(v.n >> 3)
  S.alloc(16)
  table.insert(v, i + 1, item)
  v.n = v.n + 1
  return NONE
end)

define("list", "pop", "index?", function(v, i)
  i = i == nil and -1 or int_arg(i, "pop")
  i = i < 0 and i + v.n or i
  if i < 0 or i >= v.n then
    S.fail(("pop: found index %d, the list has %d elements"):format(i, v.n))
  end
  S.charge(v.n >> 3)
  v.n = v.n - 1
  return table.remove(v, i + 1)
end)

define("list", "remove", "value", function(v, item)
  local at = index(v, item)
  table.remove(v, at + 1)
  v.n = v.n - 1
  return NONE
end)

define("list", "clear", "", function(v)
  for i = 1, v.n do
    v[i] = nil
  end
  v.n = 0
  return NONE
end)

define("list", "copy", "", function(v)
  return V.list(table.move(v, 1, v.n, 1, {}), v.n)
end)

define("list", "reverse", "", function(v)
  for i = 1, v.n // 2 do
    v[i], v[v.n + 1 - i] = v[v.n + 1 - i], v[i]
  end
  return NONE
end)

define("list", "sort", nil, function(v, args, kwargs)
  local key, reverse = kwargs and kwargs.map.key, kwargs and kwargs.map.reverse
  if args.n > 0 or key ~= nil and key ~= NONE then
    S.fail("sort: expected no argument but reverse=; the filter sort takes an attribute")
  end
  local sorted = compare.sort(v, v, v.n, reverse ~= nil and V.truth(reverse))
  table.move(sorted, 1, v.n, 1, v)
  return NONE
end)

------------------------------------------------------------ dicts

define("dict", "get", "key default?", function(v, key, default)
  local found = V.get(v, key)
  if found == nil then
    found = default == nil and NONE or default
  end
  return found
end)

define("dict", "keys", "", function(v)
  return V.gen(v.keys, v.n, "dict_keys", true)
end)

define("dict", "values", "", function(v)
  local items, n = V.values_of(v)
  return V.gen(items, n, "dict_values", true)
end)

define("dict", "items", "", function(v)
  local items, n = V.pairs_of(v)
  return V.gen(items, n, "dict_items", true)
end)

define("dict", "copy", "", function(v)
  local out = V.dict()
  for i = 1, v.n do
    V.set(out, v.keys[i], v.map[v.hash[i]])
  end
  return out
end)

define("dict", "pop", "key default?", function(v, key, default)
  local found = V.remove(v, key)
  if found == nil then
    found = default
  end
  if found == nil then
    S.fail("pop: the dict has no such key and no default is given")
  end
  return found
end)

define("dict", "popitem", "", function(v)
  if v.n == 0 then
    S.fail("popitem: the dict is empty")
  end
  local key = v.keys[v.n]
  return V.tuple({ key, V.remove(v, key) }, 2)
end)

define("dict", "setdefault", "key default?", function(v, key, default)
  local found = V.get(v, key)
  if found == nil then
    found = default == nil and NONE or default
    V.set(v, key, found)
  end
  return found
end)

define("dict", "clear", "", function(v)
  v.n, v.keys, v.hash, v.map = 0, {}, {}, {}
  return NONE
end)

--- Put the pairs of `more` (a dict, or pairs of key and value) and the names of kwargs into dict d.
function M.fill(d, more, kwargs)
  if more ~= nil and V.kind(more) == "dict" then
    for i = 1, more.n do
      V.set(d, more.keys[i], more.map[more.hash[i]])
    end
  elseif more ~= nil then
    local items, n = V.items(more)
    for i = 1, n do
      local pair, two = V.items(items[i])
      if two ~= 2 then
        S.fail(("element %d: found %d values, expected a key and a value"):format(i - 1, two))
      end
      V.set(d, pair[1], pair[2])
    end
  end
  for i = 1, kwargs and kwargs.n or 0 do
    local name = kwargs[i]
    V.set(d, kwargs.keys and kwargs.keys[name] or name, kwargs.map[name])
  end
end

define("dict", "update", nil, function(v, args, kwargs)
  if args.n > 1 then
    S.fail(("update: found %d arguments, expected one dict"):format(args.n))
  end
  M.fill(v, args[1], kwargs)
  return NONE
end)

M.bool, M.int, M.float = {}, {}, {}
define("float", "is_integer", "", function(v) return v == v and v % 1 == 0 and v ~= 1 / 0
  and v ~= -1 / 0 end)

return M
