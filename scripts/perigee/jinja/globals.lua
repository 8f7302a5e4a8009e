-- SPDX-License-Identifier: MIT
-- What templates find without being given it: range, namespace, dict, cycler, joiner,
-- raise_exception, strftime_now.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local clock = require "perigee.jinja.clock"
local compare = require "perigee.jinja.compare"
local format = require "perigee.jinja.format"
local methods = require "perigee.jinja.methods"
local spec = require "perigee.jinja.spec"

local M = {}
local MAX_RANGE <const> = 100000 -- as in Jinja's sandbox

local function define(name, parameters, f)
  M[name] = V.func(name, parameters and spec(parameters), f)
end

local function int_arg(v)
  local n = compare.number(v)
  if math.type(n) ~= "integer" then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("range: found %s, expected an integer"):format(V.type_name(v)))
  end
  return n
end

define("range", "start stop? step?", function(_, start, stop, step)
  start = int_arg(start)
  if stop == nil then
    start, stop = 0, start
  else
    stop = int_arg(stop)
  end
  step = step == nil and 1 or int_arg(step)
  if step == 0 then
    S.fail("range: found step 0, expected another number")
  end
  local span = step > 0 and (stop - start + 0.0) / step or (start - stop + 0.0) / -step
  if span > MAX_RANGE then
    S.fail(("range: found %.0f numbers, at most %d"):format(span, MAX_RANGE), nil, "budget")
  end
  local n = span > 0 and math.ceil(span) or 0
  return setmetatable({ start = start, stop = stop, step = step, n = math.tointeger(n) }, V.Range)
end)

define("dict", nil, function(_, args, kwargs)
  local d = V.dict()
  if args.n > 1 then
    S.fail(("dict: found %d arguments, expected at most 1"):format(args.n))
  end
  methods.fill(d, args[1], kwargs)
  return d
end)

define("namespace", nil, function(_, args, kwargs)
  return setmetatable({ dict = M.dict.f(nil, args, kwargs) }, V.Namespace)
end)

define("raise_exception", "message", function(_, message)
  S.fail("the template says: " .. T.raw(format.str(message)))
end)

define("strftime_now", "format", function(_, text)
  if not T.is(text) then
    S.fail(("strftime_now: found %s, expected a format such as '%%Y-%%m-%%d'"):format(V.type_name(
      text)))
  end
  return T.like(clock.strftime(T.raw(text), S.now), text)
end)

------------------------------------------------------------ cycler, joiner

local Cycler = { kind = "cycler", python = "Cycler" }
local CYCLER <const> = {
  next = function(c)
    local v = c.items[c.at + 1]
    c.at = (c.at + 1) % c.items.n
    return v
  end,
  reset = function(c)
    c.at = 0
    return V.NONE
  end,
}

function Cycler.attribute(c, name)
  if name == "current" then
    return c.items[c.at + 1]
  elseif CYCLER[name] then
    return V.func(name, spec(""), CYCLER[name], c)
  end
  return nil
end

define("cycler", nil, function(_, args)
  if args.n == 0 then
    S.fail("cycler: found no argument, expected at least one item")
  end
  return setmetatable({ items = args, at = 0 }, Cycler)
end)

local Joiner = { kind = "joiner", python = "Joiner" }

function Joiner.call(j)
  if not j.used then
    j.used = true
    return ""
  end
  return j.sep
end

define("joiner", "sep?", function(_, sep)
  return setmetatable({ sep = sep or ", " }, Joiner)
end)

return M
