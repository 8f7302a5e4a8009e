-- SPDX-License-Identifier: MIT
-- Attributes, items, slices and calls.  An attribute is looked for among the methods first, an item
-- among the elements, as Jinja does it: x.items is the method even when x has a key "items".
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local chars = require "perigee.jinja.chars"
local format = require "perigee.jinja.format"
local methods = require "perigee.jinja.methods"
local strformat = require "perigee.jinja.strformat"
local number = require("perigee.jinja.compare").number

local M = {}
local kind, type_name = V.kind, V.type_name

local function missing_text(obj, name)
  if V.kind(name) == "str" then
    return ("'%s object' has no attribute '%s'"):format(type_name(obj), (T.raw(name)))
  end
  return ("%s object has no element %s"):format(type_name(obj), (T.raw(format.repr(name))))
end

local function missing(obj, name)
  S.alloc(64)
  return V.undefined(missing_text(obj, name))
end

-- A method of obj as a function, another attribute, or nil.
local function attribute(obj, which, name)
  local set = methods[which]
  local m = set and set[name]
  if m then
    S.alloc(80)
    return V.func(name, m.spec, m.f, obj)
  end
  local meta = type(obj) == "table" and getmetatable(obj)
  if meta and meta.attribute then
    return meta.attribute(obj, name)
  elseif which == "namespace" then
    return obj.dict.map[name]
  elseif which == "tuple" and obj.names then
    return obj.names[name] and obj[obj.names[name]]
  elseif which == "func" and obj.macro then
    local special = obj.p.special
    return ({ name = obj.name or V.NONE, arguments = obj.arguments, caller = special.caller ~= nil,
      catch_kwargs = special.kwargs ~= nil, catch_varargs = special.varargs ~= nil })[name]
  end
  return nil
end

--- Whether obj has a method of this name.
function M.is_method(obj, name)
  local set = methods[kind(obj)]
  return set ~= nil and set[name] ~= nil
end

--- obj.name
function M.attr(obj, name)
  local which = kind(obj)
  if which == "dict" then
    if not methods.dict[name] then
      local v = obj.map[name]
      if v ~= nil then
        return v
      end
      return missing(obj, name)
    end
  elseif which == "undefined" then
    V.fail_undefined(obj)
  end
  local v = attribute(obj, which, name)
  if v ~= nil then
    return v
  end
  return missing(obj, name)
end

local function element(obj, which, key)
  if which == "list" or which == "tuple" then
    local i = number(key)
    if math.type(i) == "integer" then
      return obj[i < 0 and obj.n + i + 1 or i + 1]
    end
  elseif which == "str" then
    local i = number(key)
    if math.type(i) == "integer" then
      local n = chars.len(obj)
      i = i < 0 and n + i + 1 or i + 1
      return i >= 1 and i <= n and chars.sub(obj, i, i) or nil
    end
  elseif which == "range" then
    local i = number(key)
    if math.type(i) == "integer" then
      i = i < 0 and obj.n + i or i
      return i >= 0 and i < obj.n and obj.start + i * obj.step or nil
    end
  end
  return nil
end

--- obj[key]
function M.item(obj, key)
  local which = kind(obj)
  local v
  if which == "dict" then
    local k = kind(key)
    if k ~= "list" and k ~= "dict" then
      v = obj.map[V.hash(key)]
    end
  elseif which == "undefined" then
    V.fail_undefined(obj)
  else
    v = element(obj, which, key)
  end
  if v == nil and T.is(key) then
    v = attribute(obj, which, (T.raw(key)))
  end
  if v ~= nil then
    return v
  end
  return missing(obj, key)
end

local function bound(v, what)
  if v == nil or v == V.NONE then
    return nil
  end
  local i = number(v)
  if math.type(i) ~= "integer" then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("%s of a slice: found %s, expected an integer or None"):format(what, type_name(v)))
  end
  return i
end

-- First index (from 0), step and number of elements of a slice of n elements.
local function slice_range(n, from, to, step)
  from, to, step = bound(from, "start"), bound(to, "end"), bound(step, "step") or 1
  if step == 0 then
    S.fail("step of a slice: found 0, expected another number")
  end
  local low, high = step > 0 and 0 or -1, step > 0 and n or n - 1
  local function clip(i, default)
    if not i then
      return default
    end
    i = i < 0 and i + n or i
    return i < low and low or i > high and high or i
  end
  local first = clip(from, step > 0 and 0 or n - 1)
  local last = clip(to, step > 0 and n or -1)
  local count = step > 0 and (last - first + step - 1) // step or (first - last - step - 1) // -step
  if math.abs(step) > n then
    count = (step > 0 and last > first or step < 0 and first > last) and 1 or 0
  end
  return first, step, count > 0 and count or 0, last
end

local function slice_text(obj, from, to, step)
  local n = chars.len(obj)
  local first, by, count = slice_range(n, from, to, step)
  if by == 1 then
    return chars.sub(obj, first + 1, first + count)
  end
  local list = chars.list(obj)
  local out = {}
  for i = 1, count do
    out[i] = list[first + (i - 1) * by + 1]
  end
  local v = T.concat(out, count)
  return type(obj) ~= "string" and obj.safe and T.safe(v) or v
end

--- obj[from:to:step]; nil where a bound is left out.
function M.slice(obj, from, to, step)
  local which = kind(obj)
  if which == "str" then
    return slice_text(obj, from, to, step)
  elseif which == "undefined" then
    V.fail_undefined(obj)
  elseif which ~= "list" and which ~= "tuple" and which ~= "range" then
    S.fail(("found a slice of %s, expected text, a list or a tuple"):format(type_name(obj)))
  end
  local first, by, count, last = slice_range(obj.n, from, to, step)
  if which == "range" then
    return setmetatable({ start = obj.start + first * obj.step, step = obj.step * by, n = count,
      stop = obj.start + last * obj.step }, V.Range)
  end
  local out = {}
  S.charge(count >> 2)
  for i = 1, count do
    out[i] = obj[first + (i - 1) * by + 1]
  end
  return (which == "list" and V.list or V.tuple)(out, count)
end

local function bind_names(spec, name, args, kwargs)
  local out = table.move(args, 1, args.n, 1, {})
  for i = 1, kwargs.n do
    local key = kwargs[i]
    local at = spec.index[key]
    if not at then
      S.fail(("%s: found argument '%s', expected %s"):format(name, key, spec.text))
    elseif out[at] ~= nil then
      S.fail(("%s: argument '%s' given twice"):format(name, key))
    end
    out[at] = kwargs.map[key]
  end
  for i = 1, spec.required do
    if out[i] == nil then
      S.fail(("%s: argument '%s' missing, expected %s"):format(name, spec[i], spec.text))
    end
  end
  return out
end

--- The values for the parameters of spec; nil for those left out.
---@param spec perigee.jinja.spec
---@param name string
---@param args table
---@param kwargs table?
function M.bind(spec, name, args, kwargs)
  local n = args.n
  if n > spec.n then
    S.fail(("%s: found %d arguments, expected %s"):format(name, n, spec.text))
  elseif kwargs then
    args = bind_names(spec, name, args, kwargs)
  elseif n < spec.required then
    S.fail(("%s: argument '%s' missing, expected %s"):format(name, spec[n + 1], spec.text))
  end
  return table.unpack(args, 1, spec.n)
end

--- f(args, kwargs); args.n and args[1..n]; kwargs nil or { n, names..., map = values by name, keys
--- = names behind ** as they were, with their marks }.
function M.call(f, args, kwargs)
  local which = kind(f)
  if which == "func" then
    if f.spec then
      return f.f(f.self, M.bind(f.spec, f.name, args, kwargs))
    end
    return f.f(f.self, args, kwargs)
  end
  local meta = type(f) == "table" and getmetatable(f)
  if meta and meta.call then
    return meta.call(f, args, kwargs)
  elseif which == "undefined" then
    V.fail_undefined(f)
  end
  S.fail(("found %s, expected something to call ('%s' object is not callable)"):format(type_name(f),
    type_name(f)))
end

--- obj.name(args), without making a function of the method first.
function M.call_method(obj, name, args, kwargs)
  local set = methods[kind(obj)]
  local m = set and set[name]
  if not m then
    return M.call(M.attr(obj, name), args, kwargs)
  elseif m.spec then
    return m.f(obj, M.bind(m.spec, name, args, kwargs))
  end
  return m.f(obj, args, kwargs)
end

strformat.access = M

return M
