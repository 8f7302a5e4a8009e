-- SPDX-License-Identifier: MIT
-- ==, <, in, and stable sorting with Python's rules.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local chars = require "perigee.jinja.chars"

local M = {}
local kind, type_name = V.kind, V.type_name
local MAX_DEPTH <const> = 150

-- v as a number, or nil; booleans are numbers.
local function number(v)
  local t = type(v)
  if t == "number" then
    return v
  elseif t == "boolean" then
    return v and 1 or 0
  end
  return nil
end
M.number = number

local eq

local function eq_items(a, b, depth)
  if a.n ~= b.n then
    return false
  end
  for i = 1, a.n do
    if not eq(a[i], b[i], depth) then
      return false
    end
  end
  return true
end

local function eq_dict(a, b, depth)
  if a.n ~= b.n then
    return false
  end
  for i = 1, a.n do
    local other = b.map[a.hash[i]]
    if other == nil or not eq(a.map[a.hash[i]], other, depth) then
      return false
    end
  end
  return true
end

--- a == b.
---@return boolean
function M.eq(a, b, depth)
  if rawequal(a, b) then
    return a == a
  end
  local x, y = kind(a), kind(b)
  if x == "str" or y == "str" then
    return x == y and T.raw(a) == T.raw(b)
  end
  local p, q = number(a), number(b)
  if p or q then
    return p == q
  end
  if x ~= y then
    return false
  end
  depth = (depth or 0) + 1
  S.charge(1)
  if depth > MAX_DEPTH then
    S.fail(("values nested deeper than %d cannot be compared"):format(MAX_DEPTH))
  elseif x == "list" or x == "tuple" then
    return eq_items(a, b, depth)
  elseif x == "dict" then
    return eq_dict(a, b, depth)
  elseif x == "big" then
    return a.digits == b.digits
  elseif x == "range" then
    return a.n == b.n and (a.n == 0 or a.start == b.start and (a.n == 1 or a.step == b.step))
  end
  return x == "undefined"
end
eq = M.eq

local function no_order(a, b)
  if V.is_undefined(a) or V.is_undefined(b) then
    V.fail_undefined(V.is_undefined(a) and a or b)
  end
  S.fail(("found %s and %s, expected two values that have an order"):format(type_name(a),
    type_name(b)))
end

local function big_order(a, b)
  local function parts(v)
    local text = kind(v) == "big" and v.digits or ("%.0f"):format(number(v))
    return text:sub(1, 1) == "-", text:gsub("^[-]", "")
  end
  local a_neg, x = parts(a)
  local b_neg, y = parts(b)
  if a_neg ~= b_neg then
    return a_neg and -1 or 1
  end
  local order = #x ~= #y and #x - #y or chars.order(x, y)
  return a_neg and -order or order
end

--- Negative, 0 or positive as a is before, equal to or behind b; 0/0 (nan) when neither.
function M.order(a, b, depth)
  local p, q = number(a), number(b)
  if p and q then
    return p < q and -1 or p > q and 1 or p == q and 0 or 0 / 0
  end
  local x, y = kind(a), kind(b)
  if x == "str" and y == "str" then
    return chars.order(T.raw(a), T.raw(b))
  elseif (x == "list" or x == "tuple") and x == y then
    depth = (depth or 0) + 1
    if depth > MAX_DEPTH then
      S.fail(("values nested deeper than %d cannot be compared"):format(MAX_DEPTH))
    end
    for i = 1, math.min(a.n, b.n) do
      S.charge(1)
      if not eq(a[i], b[i], depth) then
        return M.order(a[i], b[i], depth)
      end
    end
    return a.n - b.n
  elseif (x == "big" or p) and (y == "big" or q) then
    return big_order(a, b)
  end
  return no_order(a, b)
end

--- item in container.
---@return boolean
function M.contains(container, item)
  local which = kind(container)
  if which == "str" then
    if not T.is(item) then
      S.fail(("found %s in front of 'in', expected text as there is text behind it")
        :format(type_name(item)))
    end
    local s, part = T.raw(container), T.raw(item)
    S.charge(#s >> 6)
    return s:find(part, 1, true) ~= nil
  elseif which == "dict" then
    return container.map[V.hash(item)] ~= nil
  end
  local items, n = V.try_items(container)
  if items and container.python == "dict_keys" then
    V.hash(item)
  end
  if not items then
    S.fail(("found %s behind 'in', expected text, a list or a dict"):format(type_name(container)))
  end
  S.charge(n)
  for i = 1, n do
    if eq(items[i], item) then
      return true
    end
  end
  return false
end

--- Sort items[1..n] by keys[1..n], stable; in place of `items` a new array is returned.
---@param items any[]
---@param keys any[]
---@param n integer
---@param reverse boolean
---@param equal_first boolean? keys that are equal need no order (as elements of lists, in Python)
function M.sort(items, keys, n, reverse, equal_first)
  local from, to = {}, {}
  S.charge(n)
  S.alloc(64 * n)
  for i = 1, n do
    from[i] = i
  end
  local width = 1
  while width < n do
    for left = 1, n, 2 * width do
      local i, mid, last = left, math.min(left + width, n + 1), math.min(left + 2 * width, n + 1)
      local j, at = mid, left
      while at < last do
        local take_left
        if i < mid and j < last then
          S.charge(2)
          local a, b = keys[from[j]], keys[from[i]]
          local order = equal_first and eq(a, b) and 0 or M.order(a, b)
          if reverse then
            order = -order
          end
          local is_before = order < 0 -- false for nan
          take_left = not is_before
        else
          take_left = i < mid
        end
        if take_left then
          to[at], i = from[i], i + 1
        else
          to[at], j = from[j], j + 1
        end
        at = at + 1
      end
    end
    from, to = to, from
    width = 2 * width
  end
  local out = {}
  for i = 1, n do
    out[i] = items[from[i]]
  end
  return out
end

return M
