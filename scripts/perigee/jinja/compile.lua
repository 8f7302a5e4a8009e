-- SPDX-License-Identifier: MIT
-- Statements to Lua functions: each takes the frame, writes to S.out, and returns BREAK, CONTINUE,
-- SETTLED (the loop has nothing left to do) or nil.  A body charges the number of its nodes when it
-- begins, so the cost of a render is counted once per body.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local compile_expr = require "perigee.jinja.compile_expr"
local format = require "perigee.jinja.format"
local loop = require "perigee.jinja.loop"
local macro = require "perigee.jinja.macro"
local scope = require "perigee.jinja.scope"
local settle = require "perigee.jinja.settle"

local M = {}
local expression, truth = compile_expr.expression, V.truth
local BREAK <const>, CONTINUE <const>, SETTLED <const> = 1, 2, 3

local COMPILE <const> = {}

local function emit(v)
  local n = S.n_out + 1
  S.n_out, S.out[n] = n, v
  local size = type(v) == "string" and #v or #v.s
  if S.captured == 0 then
    S.output(size)
  end
  S.alloc(size + 16)
end

-- What the filter or call of a block gives must be text already.
local function emit_text(v)
  if not T.is(v) then
    S.fail(("found %s as result of the block, expected text"):format(V.type_name(v)))
  end
  emit(T.unsafe(v))
end

--- What body(frame) writes, as a string value, and its signal.
local function capture(body, frame)
  local out, n_out = S.out, S.n_out
  S.out, S.n_out, S.captured = {}, 0, S.captured + 1
  local signal = body(frame)
  local text = T.concat(S.out, S.n_out)
  S.out, S.n_out, S.captured = out, n_out, S.captured - 1
  return text, signal
end
macro.capture = capture

--- The function of a list of statements.
---@param c perigee.jinja.context
---@param body table[]
local function block(c, body)
  local list, n, weight = {}, #body, 0
  for i = 1, n do
    list[i] = COMPILE[body[i].t](c, body[i])
    weight = weight + body[i].w
  end
  if n == 0 then
    return function() end
  end
  local at = body[1].at
  return function(frame)
    S.at = at
    S.charge(weight)
    for i = 1, n do
      local signal = list[i](frame)
      if signal then
        return signal
      end
    end
  end
end

-- A body with names of its own: c for it, its scope, and a function that forgets what a run before
-- has left.
local function inner(c, body, new_frame)
  local s = scope.new(c.scope, new_frame)
  scope.declare_body(s, body)
  local function forget(frame)
    local list = s.list
    for i = 1, #list do
      frame[list[i]] = nil
    end
  end
  return { scope = s, in_loop = c.in_loop, in_for = c.in_for, soft = false }, s, forget
end
macro.inner, macro.block = inner, block

------------------------------------------------------------ output

function COMPILE.data(_, s)
  local text = s.text
  return function()
    emit(text)
  end
end

function COMPILE.output(c, s)
  local items, n = {}, #s.items
  for i = 1, n do
    items[i] = expression(c, s.items[i])
  end
  local at = s.at
  return function(frame)
    for i = 1, n do
      local v = items[i](frame)
      S.at = at
      emit(format.str(v))
    end
  end
end

------------------------------------------------------------ assignment

local function wrong_count(found, expected)
  S.fail(("found %d values, expected %d to assign to as many names"):format(found, expected))
end

-- A function of frame and value that assigns to a target.
local function assign(c, target)
  if target.t == "name" then
    if target.name == "loop" and c.in_for then
      S.fail("found an assignment to loop, expected another name: it is the for loop's own",
        target.at)
    end
    local slot = scope.declare(c.scope, target.name)
    return function(frame, v)
      frame[slot] = v
    end
  elseif target.t == "ns" then
    local load, attr, at = scope.loader(c.scope, target.name), target.attr, target.at
    return function(frame, v)
      local ns = load(frame)
      S.at = at
      if V.kind(ns) ~= "namespace" then
        S.fail(("found %s, expected a namespace to assign an attribute of"):format(V.type_name(ns)))
      end
      V.set(ns.dict, attr, v)
    end
  end
  local parts, n, at = {}, #target.items, target.at
  for i = 1, n do
    parts[i] = assign(c, target.items[i])
  end
  return function(frame, v)
    S.at = at
    local items, found = V.items(v)
    if found ~= n then
      wrong_count(found, n)
    end
    for i = 1, n do
      parts[i](frame, items[i])
    end
  end
end

function COMPILE.set(c, s)
  local value, to = expression(c, s.value), assign(c, s.target)
  return function(frame)
    to(frame, value(frame))
  end
end

function COMPILE.setblock(c, s)
  local c2, _, forget = inner(c, s.body)
  local body, to = block(c2, s.body), assign(c, s.target)
  local filter = s.filter and expression(c2, s.filter)
  return function(frame)
    forget(frame)
    local text, signal = capture(body, frame)
    if signal then
      return signal
    end
    to(frame, filter and filter(frame, text) or text)
  end
end

function COMPILE.filterblock(c, s)
  local c2, _, forget = inner(c, s.body)
  local body, filter = block(c2, s.body), expression(c2, s.filter)
  local at = s.at
  return function(frame)
    forget(frame)
    local text, signal = capture(body, frame)
    if signal then
      return signal
    end
    local v = filter(frame, text)
    S.at = at
    emit_text(v)
  end
end

function COMPILE.with(c, s)
  local values, targets, n = {}, {}, #s.targets
  for i = 1, n do
    values[i] = expression(c, s.values[i])
  end
  local c2, s2, forget = inner(c, s.body)
  for i = 1, n do
    scope.declare_target(s2, s.targets[i])
    targets[i] = assign(c2, s.targets[i])
  end
  local body = block(c2, s.body)
  return function(frame)
    local found = {}
    for i = 1, n do
      found[i] = values[i](frame)
    end
    forget(frame)
    for i = 1, n do
      targets[i](frame, found[i])
    end
    return body(frame)
  end
end

------------------------------------------------------------ conditions

-- The if that is all of a loop's body: SETTLED where tests that are fixed chose nothing to do.
local function settling_if(tests, bodies, other, s)
  local n, n_fixed = #tests, s.n_fixed
  return function(frame)
    for i = 1, n do
      if truth(tests[i](frame)) then
        if i <= n_fixed and #s.bodies[i] == 0 then
          return SETTLED
        end
        return bodies[i](frame)
      end
    end
    if other then
      return other(frame)
    end
    return n == n_fixed and SETTLED or nil
  end
end

COMPILE["if"] = function(c, s)
  local soft = { scope = c.scope, in_loop = c.in_loop, in_for = c.in_for, soft = true }
  local tests, bodies, n = {}, {}, #s.tests
  for i = 1, n do
    tests[i], bodies[i] = expression(i == 1 and c or soft, s.tests[i]), block(soft, s.bodies[i])
  end
  local other = s.other and block(soft, s.other)
  if s.n_fixed and s.n_fixed > 0 then
    return settling_if(tests, bodies, other, s)
  elseif n == 1 then
    local test, body = tests[1], bodies[1]
    return function(frame)
      if truth(test(frame)) then
        return body(frame)
      elseif other then
        return other(frame)
      end
    end
  end
  return function(frame)
    for i = 1, n do
      if truth(tests[i](frame)) then
        return bodies[i](frame)
      end
    end
    if other then
      return other(frame)
    end
  end
end

local function jump(name, signal)
  return function(c, s)
    if not c.in_loop then
      S.fail(("found %s, expected it inside a for loop"):format(name), s.at)
    end
    return function()
      return signal
    end
  end
end
COMPILE["break"] = jump("break", BREAK)
COMPILE["continue"] = jump("continue", CONTINUE)

------------------------------------------------------------ loops

-- What gets the next element that passes the loop's condition.
local function fetcher(items, n, frame, to, test, is_tuple)
  local at = 0
  return function(l)
    while at < n do
      at = at + 1
      local item = items[at]
      if item == nil then
        break
      end
      to(frame, item)
      S.charge(2)
      if truth(test(frame)) then
        l.n = l.n + 1
        if is_tuple then
          local parts, count = V.items(item)
          item = V.tuple(table.move(parts, 1, count, 1, {}), count)
        end
        l.items[l.n] = item
        return true
      end
    end
    return false
  end
end

-- The numbers of a range, made as they are asked for.
local function range_fetcher(r)
  return function(l)
    local n = l.n
    if n >= r.n then
      return false
    end
    S.charge(1)
    S.alloc(16)
    l.n, l.items[n + 1] = n + 1, r.start + n * r.step
    return true
  end
end

-- Run the body on each element; whether a run came to its end.
local function run(l, frame, p)
  local is_done = false
  local k = 1
  while k <= l.n or l:has(k) do
    local item = l.items[k]
    if item == nil then
      break
    end
    l.i = k
    S.charge(3) -- a body without content costs as well
    p.forget(frame)
    p.to(frame, item)
    if p.loop_slot then
      frame[p.loop_slot] = l
    end
    local signal = p.body(frame)
    if signal == BREAK then
      break
    end
    is_done = is_done or signal == nil or signal == SETTLED
    if signal == SETTLED then
      break
    end
    k = k + 1
  end
  return is_done
end

-- The condition of a loop: a function that makes its fetch, given the elements.
local function condition(c, s)
  local c2, s2 = inner(c, {})
  scope.declare_target(s2, s.target)
  local to, test = assign(c2, s.target), expression(c2, s.test)
  return function(items, n, frame)
    return fetcher(items, n, frame, to, test, s.target.t == "tuple")
  end
end

COMPILE["for"] = function(c, s)
  local iter, at = expression(c, s.iter), s.at
  local fetch_of = s.test and condition(c, s)
  local c2, s2, forget = inner(c, s.body, s.recursive)
  c2.in_loop, c2.in_for = true, true
  scope.declare_target(s2, s.target)
  local loop_slot = scope.declare(s2, "loop")
  local p = { to = assign(c2, s.target), forget = forget }
  settle.mark(s)
  p.body = block(c2, s.body)
  p.loop_slot = (s.recursive or s2.used.loop) and loop_slot
  local c3, _, forget_other = inner(c, s.other or {})
  local other = s.other and block(c3, s.other)

  local function go(outer, frame, iterable, depth, again)
    S.at = at
    local l
    if V.kind(iterable) == "range" and not fetch_of then
      l = loop.new({}, 0, range_fetcher(iterable), depth, again)
    elseif fetch_of then
      local items, n = V.items(iterable)
      l = loop.new({}, 0, fetch_of(items, n, outer), depth, again)
    else
      local items, n = V.items(iterable)
      l = loop.new(items, n, nil, depth, again)
    end
    if not run(l, frame, p) and other then
      forget_other(outer)
      return other(outer)
    end
  end

  if not s.recursive then
    return function(frame)
      return go(frame, frame, iter(frame), 0)
    end
  end
  return function(frame)
    local function again(iterable, depth)
      S.enter()
      local text = capture(function()
        return go(frame, { [0] = frame }, iterable, depth, again)
      end, frame)
      S.depth = S.depth - 1
      return text
    end
    emit(again(iter(frame), 0))
  end
end

------------------------------------------------------------ macros

function COMPILE.macro(c, s)
  local make = macro.compile(c, s, s.name)
  local slot = scope.declare(c.scope, s.name)
  return function(frame)
    frame[slot] = make(frame)
  end
end

function COMPILE.callblock(c, s)
  local call = compile_expr.call(c, s.call, macro.compile(c, s, nil))
  local at = s.at
  return function(frame)
    local v = call(frame)
    S.at = at
    emit_text(v)
  end
end

function COMPILE.generation(c, s)
  local c2, _, forget = inner(c, s.body)
  c2.in_loop = false
  local body = block(c2, s.body)
  return function(frame)
    forget(frame)
    return body(frame)
  end
end

--- The function that runs a template.
---@param body table[]
---@return fun(frame: table)
---@return table<string, boolean> reads   names it may take from the variables of render
function M.template(body)
  local s = scope.new(nil, true)
  scope.declare_body(s, body)
  return block({ scope = s, in_loop = false, soft = false }, body), s.asked
end

return M
