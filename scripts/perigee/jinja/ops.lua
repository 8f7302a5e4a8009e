-- SPDX-License-Identifier: MIT
-- Arithmetic with Python's rules.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local percent = require "perigee.jinja.percent"
local number = require("perigee.jinja.compare").number

local M = {}
local kind, type_name = V.kind, V.type_name

local function bad(sign, a, b)
  if V.is_undefined(a) or V.is_undefined(b) then
    V.fail_undefined(V.is_undefined(a) and a or b)
  end
  S.fail(("found %s %s %s, expected operands that %s is made for"):format(type_name(a), sign,
    type_name(b), sign))
end

local function overflow(sign)
  S.fail(("result of %s is larger than 64 bits"):format(sign))
end

-- Two operands as numbers; fails unless both are.
local function both(sign, a, b)
  local x, y = number(a), number(b)
  if not (x and y) then
    bad(sign, a, b)
  end
  return x, y, math.type(x) == "integer" and math.type(y) == "integer"
end

local function join_lists(a, b, make)
  local out, n = {}, a.n
  S.alloc(16 * (a.n + b.n))
  table.move(a, 1, n, 1, out)
  table.move(b, 1, b.n, n + 1, out)
  return make(out, n + b.n)
end

local function add_text(a, b)
  if type(a) ~= "string" and a.safe or type(b) ~= "string" and b.safe then
    return T.safe(T.join2(T.escape(a), T.escape(b)))
  end
  return T.join2(a, b)
end

function M.add(a, b)
  if type(a) == "string" and type(b) == "string" then
    S.alloc(#a + #b)
    return a .. b
  end
  local x, y = kind(a), kind(b)
  if x == "str" and y == "str" then
    return add_text(a, b)
  elseif x == "list" and y == "list" then
    return join_lists(a, b, V.list)
  elseif x == "tuple" and y == "tuple" then
    return join_lists(a, b, V.tuple)
  end
  local p, q, is_int = both("+", a, b)
  local r = p + q
  if is_int and ((p ~ r) & (q ~ r)) < 0 then
    overflow("+")
  end
  return r
end

function M.sub(a, b)
  local p, q, is_int = both("-", a, b)
  local r = p - q
  if is_int and ((p ~ q) & (p ~ r)) < 0 then
    overflow("-")
  end
  return r
end

local function repeated(v, count)
  count = count > 0 and count or 0
  if T.is(v) then
    return T.rep(v, count)
  end
  local n = v.n
  if n * (count + 0.0) > S.limit.string / 16 then
    S.fail(("list too large: found %.0f elements"):format(n * (count + 0.0)), nil, "budget")
  end
  S.charge(n * count)
  local out = {}
  for i = 1, n * count do
    out[i] = v[(i - 1) % n + 1]
  end
  return (kind(v) == "list" and V.list or V.tuple)(out, n * count)
end

local REPEATS <const> = { str = true, list = true, tuple = true }

function M.mul(a, b)
  local p, q = number(a), number(b)
  if p and q then
    local r = p * q
    if math.type(r) == "integer" then
      local f = (p + 0.0) * q
      if f >= 0x1p63 or f < -0x1p63 or (p ~= 0 and r // p ~= q) then
        overflow("*")
      end
    end
    return r
  elseif math.type(q) == "integer" and REPEATS[kind(a)] then
    return repeated(a, q)
  elseif math.type(p) == "integer" and REPEATS[kind(b)] then
    return repeated(b, p)
  end
  bad("*", a, b)
end

local function no_zero(sign, q)
  if q == 0 then
    S.fail(("found %s by zero, expected another divisor"):format(sign))
  end
end

function M.div(a, b)
  local p, q = both("/", a, b)
  no_zero("/", q)
  return p / q
end

function M.floordiv(a, b)
  local p, q, is_int = both("//", a, b)
  no_zero("//", q)
  if is_int and q == -1 and p == math.mininteger then
    overflow("//")
  end
  return p // q
end

function M.mod(a, b)
  if T.is(a) then
    return percent.format(a, b)
  end
  local p, q = both("%", a, b)
  no_zero("%", q)
  local r = p % q
  if r == 0 and math.type(r) == "float" then
    return q < 0 and -0.0 or 0.0
  end
  return r
end

local function int_power(p, q)
  local r, base = 1, p
  while q > 0 do
    if q & 1 == 1 then
      r = M.mul(r, base)
    end
    q = q >> 1
    if q > 0 then
      base = M.mul(base, base)
    end
  end
  return r
end

function M.pow(a, b)
  local p, q, is_int = both("**", a, b)
  if is_int and q >= 0 then
    if p == 1 or p == 0 or p == -1 then
      return (q == 0 or p == 1) and 1 or p == 0 and 0 or (q % 2 == 0 and 1 or -1)
    end
    return int_power(p, q)
  elseif p == 0 and q < 0 then
    S.fail("found 0 ** a negative number, expected another base")
  elseif p < 0 and math.type(q) == "float" and q % 1 ~= 0 then
    S.fail("found a negative number ** a fraction, expected a real result")
  end
  local r = (p + 0.0) ^ q
  if r == math.huge and p ~= math.huge and q ~= math.huge and p ~= -math.huge then
    S.fail("result of ** is out of range")
  end
  return r
end

function M.neg(v)
  local p = number(v)
  if not p then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("found - %s, expected a number"):format(type_name(v)))
  elseif p == math.mininteger and math.type(p) == "integer" then
    overflow("-")
  end
  return -p
end

function M.pos(v)
  if V.is_undefined(v) then
    V.fail_undefined(v)
  end
  return number(v) or S.fail(("found + %s, expected a number"):format(type_name(v)))
end

return M
