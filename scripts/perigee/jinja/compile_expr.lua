-- SPDX-License-Identifier: MIT
-- Expressions to Lua functions: each takes the frame and returns the value.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local access = require "perigee.jinja.access"
local compare = require "perigee.jinja.compare"
local filters = require "perigee.jinja.filters"
local format = require "perigee.jinja.format"
local ops = require "perigee.jinja.ops"
local scope = require "perigee.jinja.scope"
local tests = require "perigee.jinja.tests"

local M = {}
local truth, eq = V.truth, compare.eq

---@class perigee.jinja.context
---@field scope perigee.jinja.scope
---@field in_loop boolean break and continue have a loop here
---@field in_for boolean? anywhere inside a for loop
---@field soft boolean inside a condition: an unknown filter matters only when reached

local COMPILE <const> = {}

--- The function of an expression.
---@param c perigee.jinja.context
---@param node table
---@return fun(frame: table, value: any?): any
local function expression(c, node)
  return COMPILE[node.t](c, node)
end
M.expression = expression

local function all(c, nodes)
  local out = {}
  for i = 1, #nodes do
    out[i] = expression(c, nodes[i])
  end
  return out, #nodes
end

function COMPILE.const(_, node)
  local value = node.value
  return function()
    return value
  end
end

function COMPILE.none()
  return function()
    return V.NONE
  end
end

function COMPILE.big(_, node)
  local value = setmetatable({ digits = node.digits }, V.Big)
  return function()
    return value
  end
end

function COMPILE.name(c, node)
  return scope.loader(c.scope, node.name)
end

local function sequence(make)
  return function(c, node)
    local items, n = all(c, node.items)
    return function(frame)
      local out = {}
      for i = 1, n do
        out[i] = items[i](frame)
      end
      return make(out, n)
    end
  end
end
COMPILE.list = sequence(V.list)
COMPILE.tuple = sequence(V.tuple)

function COMPILE.dict(c, node)
  local keys, n = all(c, node.keys)
  local values = all(c, node.values)
  local at = node.at
  return function(frame)
    local d = V.dict()
    for i = 1, n do
      local k = keys[i](frame)
      local v = values[i](frame)
      S.at = at
      V.set(d, k, v)
    end
    return d
  end
end

------------------------------------------------------------ access

function COMPILE.attr(c, node)
  local object, name, at = expression(c, node.object), node.name, node.at
  local attr = access.attr
  return function(frame)
    local o = object(frame)
    S.at = at
    return attr(o, name)
  end
end

function COMPILE.item(c, node)
  local object, key, at = expression(c, node.object), expression(c, node.key), node.at
  local item = access.item
  return function(frame)
    local o, k = object(frame), key(frame)
    S.at = at
    return item(o, k)
  end
end

function COMPILE.slice(c, node)
  local object, at = expression(c, node.object), node.at
  local function bound(part)
    return part and expression(c, part) or function() end
  end
  local from, to, step = bound(node.from), bound(node.to), bound(node.step)
  return function(frame)
    local o, a, b, by = object(frame), from(frame), to(frame), step(frame)
    S.at = at
    return access.slice(o, a, b, by)
  end
end

------------------------------------------------------------ arguments

local function add_name(kwargs, name, value)
  if kwargs.map[name] ~= nil then
    S.fail(("argument '%s' given twice"):format(name))
  end
  kwargs.n = kwargs.n + 1
  kwargs[kwargs.n], kwargs.map[name] = name, value
end

local function add_stars(frame, args, kwargs, star, star_star)
  if star then
    local items, n = V.items(star(frame))
    table.move(items, 1, n, args.n + 1, args)
    S.charge(n)
    args.n = args.n + n
  end
  if star_star then
    local d = star_star(frame)
    if V.kind(d) ~= "dict" then
      S.fail(("found ** %s, expected a dict"):format(V.type_name(d)))
    end
    for i = 1, d.n do
      local key = d.keys[i]
      if not T.is(key) then
        S.fail(("found a key of type %s behind **, expected text"):format(V.type_name(key)))
      end
      add_name(kwargs, T.raw(key), d.map[d.hash[i]])
      kwargs.keys = kwargs.keys or {}
      kwargs.keys[T.raw(key)] = key
    end
  end
end

-- A function of the frame giving args and kwargs (nil when there are none).
local function arguments(c, a)
  local positional, n = all(c, a)
  local values, n_name = all(c, a.values)
  local star, star_star = a.star and expression(c, a.star), a.star_star and expression(c,
    a.star_star)
  local names = a.names
  return function(frame)
    local args = { n = n }
    for i = 1, n do
      args[i] = positional[i](frame)
    end
    if n_name == 0 and not star and not star_star then
      return args, nil
    end
    local kwargs = { n = 0, map = {} }
    for i = 1, n_name do
      add_name(kwargs, names[i], values[i](frame))
    end
    add_stars(frame, args, kwargs, star, star_star)
    return args, kwargs.n > 0 and kwargs or nil
  end
end

--- The function of a call; with caller (a function of the frame) its value is passed under that
--- name.
function M.call(c, node, caller)
  local args_of, at = arguments(c, node.args), node.at
  local is_method = node.f.t == "attr"
  local f = expression(c, is_method and node.f.object or node.f)
  local name = node.f.name
  return function(frame)
    local callee = f(frame)
    local args, kwargs = args_of(frame)
    S.at = at
    if caller then
      kwargs = kwargs or { n = 0, map = {} }
      add_name(kwargs, "caller", caller(frame))
    end
    if is_method then
      return access.call_method(callee, name, args, kwargs)
    end
    return access.call(callee, args, kwargs)
  end
end
COMPILE.call = M.call

-- What stands for an unknown filter or test inside a condition: an error when it is reached.
local function find(c, set, name, at)
  if c.soft and type(set[name]) ~= "table" then
    return { f = function() set.find(name, at) end }
  end
  return set.find(name, at)
end

local function is_empty(args)
  return #args == 0 and #args.names == 0 and not args.star and not args.star_star
end

function COMPILE.filter(c, node)
  local object = node.object and expression(c, node.object) or function(_, value) return value end
  local name, at = node.name, node.at
  local filter = find(c, filters, name, at)
  local f = filter.f
  if is_empty(node.args) and filter.spec and filter.spec.required == 0 then
    return function(frame, value)
      local v = object(frame, value)
      S.at = at
      return f(v)
    end
  end
  local args_of = arguments(c, node.args)
  return function(frame, value)
    local v = object(frame, value)
    local args, kwargs = args_of(frame)
    S.at = at
    return filters.apply(filter, name, v, args, kwargs)
  end
end

function COMPILE.test(c, node)
  local object, name, at = expression(c, node.object), node.name, node.at
  local test = find(c, tests, name, at)
  local f = test.f
  if is_empty(node.args) and test.spec and test.spec.required == 0 then
    return function(frame)
      local v = object(frame)
      S.at = at
      return f(v)
    end
  end
  local args_of = arguments(c, node.args)
  return function(frame)
    local v = object(frame)
    local args, kwargs = args_of(frame)
    S.at = at
    if not test.spec then
      return f(v)
    end
    return f(v, access.bind(test.spec, name, args, kwargs))
  end
end

------------------------------------------------------------ operators

local BINARY <const> = { ["+"] = ops.add, ["-"] = ops.sub, ["*"] = ops.mul, ["/"] = ops.div,
  ["//"] = ops.floordiv, ["%"] = ops.mod, ["**"] = ops.pow }

function COMPILE.binary(c, node)
  local a, b, at = expression(c, node.a), expression(c, node.b), node.at
  local op = BINARY[node.op]
  return function(frame)
    local x, y = a(frame), b(frame)
    S.at = at
    return op(x, y)
  end
end

local function unary(op)
  return function(c, node)
    local a, at = expression(c, node.a), node.at
    return function(frame)
      local x = a(frame)
      S.at = at
      return op(x)
    end
  end
end
COMPILE.neg = unary(ops.neg)
COMPILE.pos = unary(ops.pos)

COMPILE["not"] = function(c, node)
  local a = expression(c, node.a)
  return function(frame)
    return not truth(a(frame))
  end
end

COMPILE["and"] = function(c, node)
  local a, b = expression(c, node.a), expression(c, node.b)
  return function(frame)
    local v = a(frame)
    if truth(v) then
      return b(frame)
    end
    return v
  end
end

COMPILE["or"] = function(c, node)
  local a, b = expression(c, node.a), expression(c, node.b)
  return function(frame)
    local v = a(frame)
    if truth(v) then
      return v
    end
    return b(frame)
  end
end

function COMPILE.cond(c, node)
  local test = expression(c, node.test)
  local inner = { scope = c.scope, in_loop = c.in_loop, soft = true }
  local a, b = expression(inner, node.a), node.b and expression(inner, node.b)
  return function(frame)
    if truth(test(frame)) then
      return a(frame)
    elseif b then
      return b(frame)
    end
    return V.undefined("the condition was false and there was no else")
  end
end

function COMPILE.concat(c, node)
  local items, n = all(c, node.items)
  local at = node.at
  return function(frame)
    local out = {}
    for i = 1, n do
      out[i] = format.str(items[i](frame))
    end
    S.at = at
    return T.concat(out, n)
  end
end

local COMPARE <const> = {
  ["=="] = eq,
  ["!="] = function(a, b) return not eq(a, b) end,
  ["<"] = function(a, b) return compare.order(a, b) < 0 end,
  ["<="] = function(a, b) return compare.order(a, b) <= 0 end,
  [">"] = function(a, b) return compare.order(a, b) > 0 end,
  [">="] = function(a, b) return compare.order(a, b) >= 0 end,
  ["in"] = function(a, b) return compare.contains(b, a) end,
  ["not in"] = function(a, b) return not compare.contains(b, a) end,
}

function COMPILE.compare(c, node)
  local items, n = all(c, node.items)
  local at = node.at
  if n == 2 then
    local a, b, op = items[1], items[2], COMPARE[node.operators[1]]
    return function(frame)
      local x, y = a(frame), b(frame)
      S.at = at
      return op(x, y)
    end
  end
  local operators = {}
  for i = 1, n - 1 do
    operators[i] = COMPARE[node.operators[i]]
  end
  return function(frame)
    local x = items[1](frame)
    for i = 2, n do
      local y = items[i](frame)
      S.at = at
      if not operators[i - 1](x, y) then
        return false
      end
      x = y
    end
    return true
  end
end

return M
