-- SPDX-License-Identifier: MIT
-- Filters by name, { spec =, f = }: those of filters_text.lua, and those about lists and dicts.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local access = require "perigee.jinja.access"
local chars = require "perigee.jinja.chars"
local compare = require "perigee.jinja.compare"
local filters_text = require "perigee.jinja.filters_text"
local format = require "perigee.jinja.format"
local ops = require "perigee.jinja.ops"
local spec = require "perigee.jinja.spec"
local tests = require "perigee.jinja.tests"
local unicode = require "perigee.jinja.unicode"

local M = {}
local NONE <const> = V.NONE

for name, f in pairs(filters_text) do
  M[name] = f
end

local function define(names, parameters, f)
  for name in names:gmatch("%S+") do
    M[name] = { spec = parameters and spec(parameters), f = f }
  end
end

local function int_arg(v, what)
  local n = compare.number(v)
  if math.type(n) ~= "integer" then
    S.fail(("%s: found %s, expected an integer"):format(what, V.type_name(v)))
  end
  return n
end

--- The filter of this name; fails when there is none.
---@param name string
---@param at integer?
function M.find(name, at)
  local f = M[name]
  if type(f) ~= "table" then
    S.fail(("found filter '%s', expected the name of a filter such as tojson, trim or join"):format(
      name), at)
  end
  return f
end

--- v | name(args)
function M.apply(f, name, v, args, kwargs)
  if f.spec then
    return f.f(v, access.bind(f.spec, name, args, kwargs))
  end
  return f.f(v, args, kwargs)
end

-- A filter whose result is a generator: it does nothing before its elements are asked for.
local function define_lazy(name, parameters, f)
  define(name, parameters, function(...)
    local args = table.pack(...)
    return V.lazy(function()
      return f(table.unpack(args, 1, args.n))
    end)
  end)
end

------------------------------------------------------------ attributes

-- A function that follows "a.b.0" from an item; default stands for what is undefined.
local function getter(path, default)
  if path == nil or path == NONE then
    return function(item) return item end
  end
  local parts = {}
  if T.is(path) then
    for part in (T.raw(path) .. "."):gmatch("([^.]*)%.") do
      parts[#parts + 1] = part:find("^%d+$") and math.tointeger(tonumber(part)) or part
    end
  else
    parts[1] = path
  end
  return function(item)
    for i = 1, #parts do
      item = access.item(item, parts[i])
      if default ~= nil and default ~= NONE and V.is_undefined(item) then
        item = default
      end
    end
    return item
  end
end

local function ignore_case(v)
  return T.is(v) and unicode.lower((T.raw(v))) or v
end

-- The keys to compare the items by.
local function keys_of(items, n, get, case_sensitive)
  local keys = {}
  S.charge(4 * n)
  for i = 1, n do
    local key = get(items[i])
    if not case_sensitive then
      key = ignore_case(key)
    end
    keys[i] = key
  end
  return keys
end

local function is_true(v)
  return v ~= nil and V.truth(v)
end

------------------------------------------------------------ order

define("sort", "reverse? case_sensitive? attribute?", function(v, reverse, case_sensitive,
  attribute)
  local items, n = V.items(v)
  local get = getter(attribute)
  if attribute ~= nil and T.is(attribute) and T.raw(attribute):find(",", 1, true) then
    local gets, count = {}, 0
    for path in T.raw(attribute):gmatch("[^,]+") do
      count = count + 1
      gets[count] = getter(path)
    end
    get = function(item)
      local out = {}
      for i = 1, count do
        local key = gets[i](item)
        out[i] = is_true(case_sensitive) and key or ignore_case(key)
      end
      return V.tuple(out, count)
    end
  end
  local keys = keys_of(items, n, get, is_true(case_sensitive))
  return V.list(compare.sort(items, keys, n, is_true(reverse), true), n)
end)

define("dictsort", "case_sensitive? by? reverse?", function(v, case_sensitive, by, reverse)
  if V.kind(v) ~= "dict" then
    access.attr(v, "items")
    S.fail(("dictsort: found %s, expected a dict"):format(V.type_name(v)))
  end
  by = by and T.raw(format.str(by)) or "key"
  if by ~= "key" and by ~= "value" then
    S.fail(("dictsort: found by='%s', expected 'key' or 'value'"):format(by))
  end
  local items, n = V.pairs_of(v)
  local keys = keys_of(items, n, function(pair) return pair[by == "key" and 1 or 2] end,
    is_true(case_sensitive))
  return V.list(compare.sort(items, keys, n, is_true(reverse)), n)
end)

define_lazy("unique", "case_sensitive? attribute?", function(v, case_sensitive, attribute)
  local items, n = V.items(v)
  local keys = keys_of(items, n, getter(attribute), is_true(case_sensitive))
  local seen, out, count = V.dict(), {}, 0
  for i = 1, n do
    if V.get(seen, keys[i]) == nil then
      V.set(seen, keys[i], true)
      count = count + 1
      out[count] = items[i]
    end
  end
  return out, count
end)

local function best(sign)
  return function(v, case_sensitive, attribute)
    local items, n = V.items(v)
    if n == 0 then
      return V.undefined("No aggregated item, sequence was empty.")
    end
    local keys = keys_of(items, n, getter(attribute), is_true(case_sensitive))
    local at = 1
    for i = 2, n do
      if sign * compare.order(keys[i], keys[at]) > 0 then
        at = i
      end
    end
    return items[at]
  end
end
define("max", "case_sensitive? attribute?", best(1))
define("min", "case_sensitive? attribute?", best(-1))

define("groupby", "attribute default? case_sensitive?", function(v, attribute, default,
  case_sensitive)
  local items, n = V.items(v)
  local get = getter(attribute, default)
  local keys = keys_of(items, n, get, is_true(case_sensitive))
  local order = {}
  for i = 1, n do
    order[i] = i
  end
  order = compare.sort(order, keys, n, false)
  local out, count = {}, 0
  local i = 1
  while i <= n do
    local group, size = {}, 0
    local key = keys[order[i]]
    while i <= n and compare.eq(keys[order[i]], key) do
      size = size + 1
      group[size] = items[order[i]]
      i = i + 1
    end
    local pair = V.tuple({ is_true(case_sensitive) and key or get(group[1]), V.list(group, size) },
      2)
    pair.names = { grouper = 1, list = 2 }
    count = count + 1
    out[count] = pair
  end
  return V.list(out, count)
end)

define("reverse", "", function(v)
  if T.is(v) then
    return access.slice(v, nil, nil, -1)
  end
  local items, n = V.items(v)
  local out = {}
  S.charge(n >> 2)
  for i = 1, n do
    out[i] = items[n + 1 - i]
  end
  return V.kind(v) == "gen" and not v.is_view and V.list(out, n) or V.gen(out, n, "reversed")
end)

------------------------------------------------------------ elements

define("first", "", function(v)
  if T.is(v) then
    return chars.len(v) > 0 and chars.sub(v, 1, 1)
      or V.undefined("No first item, sequence was empty.")
  end
  local items, n = V.items(v)
  if n == 0 then
    return V.undefined("No first item, sequence was empty.")
  end
  return items[1]
end)

define("last", "", function(v)
  if T.is(v) then
    local n = chars.len(v)
    return n > 0 and chars.sub(v, n, n) or V.undefined("No last item, sequence was empty.")
  elseif V.kind(v) == "gen" and not v.is_view then
    S.fail("last: found a generator, expected a list (the filter `list` makes one)")
  end
  local items, n = V.items(v)
  if n == 0 then
    return V.undefined("No last item, sequence was empty.")
  end
  return items[n]
end)

define("length count", "", function(v)
  return V.len(v) or type(v) == "table" and v.length and v:length() or
    S.fail(("length: found %s, expected text, a list or a dict"):format(V.type_name(v)))
end)

define("list", "", function(v)
  local items, n = V.items(v)
  return V.list(table.move(items, 1, n, 1, {}), n)
end)

define_lazy("items", "", function(v)
  if V.is_undefined(v) then
    return {}, 0
  elseif V.kind(v) ~= "dict" then
    S.fail(("items: found %s, expected a dict"):format(V.type_name(v)))
  end
  return V.pairs_of(v)
end)

define("join", "d? attribute?", function(v, d, attribute)
  local items, n = V.items(v)
  local get = getter(attribute)
  local parts = {}
  S.charge(n)
  for i = 1, n do
    parts[i] = format.str(get(items[i]))
  end
  return T.concat(parts, n, d ~= nil and format.str(d) or nil)
end)

define("sum", "attribute? start?", function(v, attribute, start)
  local items, n = V.items(v)
  local get = getter(attribute)
  local total = start == nil and 0 or start
  if T.is(total) then
    S.fail("sum: found text as start, expected a number (join puts texts together)")
  end
  S.charge(n)
  for i = 1, n do
    total = ops.add(total, get(items[i]))
  end
  return total
end)

local function part(items, from, to)
  local out, n = {}, 0
  for i = from, to do
    n = n + 1
    out[n] = items[i]
  end
  return out, n
end

define_lazy("batch", "linecount fill_with?", function(v, linecount, fill)
  local items, n = V.items(v)
  local size = int_arg(linecount, "batch")
  if size < 1 then
    S.fail(("batch: found %d elements a batch, expected at least 1"):format(size))
  end
  local out, count = {}, 0
  for from = 1, n, size do
    local row, m = part(items, from, math.min(from + size - 1, n))
    if fill ~= nil and fill ~= NONE then
      S.alloc(16 * (size - m))
      S.charge(size - m)
      for i = m + 1, size do
        row[i] = fill
      end
      m = size
    end
    count = count + 1
    out[count] = V.list(row, m)
  end
  return out, count
end)

define_lazy("slice", "slices fill_with?", function(v, slices, fill)
  local items, n = V.items(v)
  local count = int_arg(slices, "slice")
  if count == 0 then
    S.fail("slice: found 0 slices, expected at least 1")
  end
  S.charge(math.max(count, 0))
  local out, at = {}, 1
  for i = 1, count do
    local size = n // count + (i <= n % count and 1 or 0)
    local row, m = part(items, at, at + size - 1)
    if fill ~= nil and fill ~= NONE and i > n % count then
      m = m + 1
      row[m] = fill
    end
    at = at + size
    out[i] = V.list(row, m)
  end
  return out, math.max(count, 0)
end)

define("attr", "name", function(v, name)
  if not T.is(name) then
    S.fail(("attr: found %s, expected the name of an attribute"):format(V.type_name(name)))
  elseif V.kind(v) == "dict" and not access.is_method(v, T.raw(name)) then
    return V.undefined(("'dict object' has no attribute '%s'"):format((T.raw(name))))
  end
  return access.attr(v, (T.raw(name)))
end)

define("default d", "default_value? boolean?", function(v, default, boolean)
  if V.is_undefined(v) or is_true(boolean) and not V.truth(v) then
    return default == nil and "" or default
  end
  return v
end)

------------------------------------------------------------ map, select

local function rest_of(args, from)
  local out = table.move(args, from, args.n, 1, {})
  out.n = math.max(args.n - from + 1, 0)
  return out
end

local function mapper(args, kwargs)
  if args.n > 0 then
    local name = T.is(args[1]) and T.raw(args[1]) or S.fail("map: expected the name of a filter")
    local f, rest = M.find(name), rest_of(args, 2)
    return function(item)
      return M.apply(f, name, item, rest, kwargs)
    end
  end
  local attribute = kwargs and kwargs.map.attribute
  if attribute == nil then
    S.fail("map: found no argument, expected the name of a filter or attribute=")
  end
  for i = 1, kwargs.n do
    if kwargs[i] ~= "attribute" and kwargs[i] ~= "default" then
      S.fail(("map: found argument '%s', expected attribute or default"):format(kwargs[i]))
    end
  end
  return getter(attribute, kwargs.map.default)
end

define_lazy("map", nil, function(v, args, kwargs)
  if not V.truth(v) then
    return {}, 0
  end
  local f = mapper(args, kwargs)
  local items, n = V.items(v)
  local out = {}
  for i = 1, n do
    S.charge(4)
    out[i] = f(items[i])
  end
  return out, n
end)

local function picker(by_attribute, wanted)
  return function(v, args, kwargs)
    if not V.truth(v) then
      return {}, 0
    end
    local get, at = nil, 1
    if by_attribute then
      if args.n == 0 then
        S.fail("found no argument, expected the name of an attribute")
      end
      get, at = getter(args[1]), 2
    end
    local test = args.n >= at and tests.find(T.is(args[at]) and T.raw(args[at]) or "")
    local rest = rest_of(args, at + 1)
    local items, n = V.items(v)
    local out, count = {}, 0
    for i = 1, n do
      S.charge(4)
      local x = items[i]
      if get then
        x = get(x)
      end
      local hit
      if test then
        hit = test.f(x, access.bind(test.spec, "test", rest, kwargs))
      else
        hit = V.truth(x)
      end
      if hit == wanted then
        count = count + 1
        out[count] = items[i]
      end
    end
    return out, count
  end
end
define_lazy("select", nil, picker(false, true))
define_lazy("reject", nil, picker(false, false))
define_lazy("selectattr", nil, picker(true, true))
define_lazy("rejectattr", nil, picker(true, false))

tests.filter = { spec = spec(""), f = function(v)
  return type(M[V.hash(v)]) == "table"
end }

return M
