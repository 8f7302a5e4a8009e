-- SPDX-License-Identifier: MIT
-- The variable `loop`.  Elements are fetched as they are asked for, so that a loop's condition sees
-- what its body did.
local S = require "perigee.jinja.state"
local V = require "perigee.jinja.value"
local compare = require "perigee.jinja.compare"

local M = {}

---@class perigee.jinja.Loop
---@field i integer number of the element, from 1
---@field items any[] elements fetched
---@field n integer their number
---@field fetch (fun(loop: perigee.jinja.Loop): boolean)? gets one more element; nil: all are there
---@field depth integer how many calls of loop() deep, from 0
---@field again (fun(iterable: any, depth: integer): any)? the body on another iterable
local Loop = { kind = "loop", python = "LoopContext" }
Loop.__index = Loop

function M.new(items, n, fetch, depth, again)
  return setmetatable({ i = 0, items = items, n = n, fetch = fetch, depth = depth, again = again },
    Loop)
end

--- Whether there is an element k.
function Loop:has(k)
  while self.n < k do
    if not (self.fetch and self.fetch(self)) then
      return false
    end
  end
  return true
end

function Loop:length()
  while self.fetch and self.fetch(self) do -- luacheck: ignore 542
  end
  return self.n
end

local GET <const> = {
  index = function(l) return l.i end,
  index0 = function(l) return l.i - 1 end,
  first = function(l) return l.i == 1 end,
  last = function(l) return not l:has(l.i + 1) end,
  length = Loop.length,
  revindex = function(l) return l:length() - l.i + 1 end,
  revindex0 = function(l) return l:length() - l.i end,
  depth = function(l) return l.depth + 1 end,
  depth0 = function(l) return l.depth end,
  previtem = function(l)
    if l.i > 1 then
      return l.items[l.i - 1]
    end
    return V.undefined("there is no previous item")
  end,
  nextitem = function(l)
    if l:has(l.i + 1) then
      return l.items[l.i + 1]
    end
    return V.undefined("there is no next item")
  end,
}

local function cycle(l, args)
  if args.n == 0 then
    S.fail("loop.cycle: found no argument, expected at least one item")
  end
  return args[(l.i - 1) % args.n + 1]
end

local function changed(l, args)
  local now = V.tuple(table.move(args, 1, args.n, 1, {}), args.n)
  if l.seen and compare.eq(l.seen, now) then
    return false
  end
  l.seen = now
  return true
end

function Loop.attribute(l, name)
  local get = GET[name]
  if get then
    return get(l)
  elseif name == "cycle" or name == "changed" then
    return V.func(name, nil, name == "cycle" and cycle or changed, l)
  end
  return nil
end

function Loop.call(l, args)
  if not l.again then
    S.fail("found a call of loop, expected the word recursive in the for tag")
  elseif args.n ~= 1 then
    S.fail(("loop: found %d arguments, expected one iterable"):format(args.n))
  end
  return l.again(args[1], l.depth + 1)
end

return M
