-- SPDX-License-Identifier: MIT
-- Macros and the bodies of call blocks: functions of templates whose result is what they write.
local S = require "perigee.jinja.state"
local V = require "perigee.jinja.value"
local compile_expr = require "perigee.jinja.compile_expr"
local scope = require "perigee.jinja.scope"

local M = {
  -- Set by compile.lua when that is loaded.
  capture = nil, ---@type function
  inner = nil, ---@type function
  block = nil, ---@type function
}

-- Names a body may read without declaring them.
local SPECIAL <const> = { "caller", "kwargs", "varargs" }

local function copy_names(kwargs)
  local rest = { n = kwargs and kwargs.n or 0, map = {}, keys = kwargs and kwargs.keys }
  for i = 1, rest.n do
    local name = kwargs[i]
    rest[i], rest.map[name] = name, kwargs.map[name]
  end
  return rest
end

-- Put the arguments into the frame; returns the named ones that are left.
local function bind_parameters(p, frame, args, kwargs)
  local rest = kwargs and copy_names(kwargs)
  local n = #p.params
  for i = 1, n do
    local v = args[i]
    if i > args.n then
      v = nil
      if rest then
        v = rest.map[p.params[i]]
        rest.map[p.params[i]] = nil
      end
    end
    frame[p.slots[i]] = v
  end
  return rest
end

local function fill_defaults(p, frame)
  for i = 1, #p.params do
    if frame[p.slots[i]] == nil then
      local default = p.defaults[i]
      if default then
        frame[p.slots[i]] = default(frame)
      else
        frame[p.slots[i]] = V.undefined(("parameter '%s' was not provided"):format(p.params[i]))
      end
    end
  end
end

-- caller, kwargs and varargs, as far as the body reads them; what nobody takes is an error.
local function bind_special(p, frame, args, rest)
  local special = p.special
  if special.caller then
    frame[special.caller] = rest and rest.map.caller
      or V.undefined("no caller: the macro was not called by a call block")
    if rest then
      rest.map.caller = nil
    end
  end
  if special.kwargs then
    local d = V.dict()
    for i = 1, rest and rest.n or 0 do
      if rest.map[rest[i]] ~= nil then
        V.set(d, rest.keys and rest.keys[rest[i]] or rest[i], rest.map[rest[i]])
      end
    end
    frame[special.kwargs] = d
  elseif rest and next(rest.map) ~= nil then
    S.fail(("%s: found argument '%s', expected %s"):format(p.name or "caller", next(rest.map),
      p.text))
  end
  local n = #p.params
  if special.varargs then
    local more = math.max(args.n - n, 0)
    frame[special.varargs] = V.tuple(table.move(args, n + 1, args.n, 1, {}), more)
  elseif args.n > n then
    S.fail(("%s: found %d arguments, expected %s"):format(p.name or "caller", args.n, p.text))
  end
end

-- Call macro m.
local function invoke(m, args, kwargs)
  local p = m.p
  S.enter()
  S.alloc(160)
  S.charge(6)
  local frame = { [0] = m.frame }
  local rest = bind_parameters(p, frame, args, kwargs)
  bind_special(p, frame, args, rest)
  fill_defaults(p, frame)
  local text = M.capture(p.body, frame)
  S.depth = S.depth - 1
  return text
end

--- A function of the frame that makes the macro of a statement.
---@param c perigee.jinja.context
---@param s table
---@param name string?
function M.compile(c, s, name)
  local c2, s2 = M.inner(c, s.body, true)
  c2.in_loop = false
  local p = { name = name, params = s.params, slots = {}, defaults = {}, special = {},
    text = #s.params == 0 and "no arguments" or "(" .. table.concat(s.params, ", ") .. ")" }
  for i, param in ipairs(s.params) do
    p.slots[i] = scope.declare(s2, param)
  end
  local before = {}
  for _, special in ipairs(SPECIAL) do
    before[special] = s2.slots[special] == nil and scope.declare(s2, special) or nil
  end
  for i, default in pairs(s.defaults) do
    p.defaults[i] = compile_expr.expression(c2, default)
  end
  p.body = M.block(c2, s.body)
  for special, slot in pairs(before) do
    p.special[special] = s2.used[special] and slot or nil
  end
  return function(frame)
    local m = V.func(name, nil, invoke)
    m.macro, m.p, m.frame, m.self, m.python = true, p, frame, m, "Macro"
    m.arguments = V.tuple(table.move(p.params, 1, #p.params, 1, {}), #p.params)
    return m
  end
end

return M
