-- SPDX-License-Identifier: MIT
-- Tests of `x is name`: { spec =, f = }.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local compare = require "perigee.jinja.compare"
local format = require "perigee.jinja.format"
local methods_text = require "perigee.jinja.methods_text"
local ops = require "perigee.jinja.ops"
local spec = require "perigee.jinja.spec"

local M = {}
local kind = V.kind

local function define(names, parameters, f)
  for name in names:gmatch("%S+") do
    M[name] = { spec = spec(parameters), f = f }
  end
end

local function kinds(...)
  local set = {}
  for _, name in ipairs { ... } do
    set[name] = true
  end
  return function(v)
    return set[kind(v)] == true
  end
end

define("defined", "", function(v) return not V.is_undefined(v) end)
define("undefined", "", V.is_undefined)
define("none", "", function(v) return v == V.NONE end)
define("boolean", "", function(v) return type(v) == "boolean" end)
define("true", "", function(v) return v == true end)
define("false", "", function(v) return v == false end)
define("integer", "", kinds("int", "big"))
define("float", "", kinds("float"))
define("number", "", kinds("int", "float", "bool", "big"))
define("string", "", T.is)
define("mapping", "", kinds("dict"))
define("sequence", "", kinds("str", "list", "tuple", "dict", "range", "undefined"))
define("iterable", "", kinds("str", "list", "tuple", "dict", "range", "gen", "undefined", "loop"))
define("escaped", "", function(v) return type(v) == "table" and v.safe == true and T.is(v) end)
define("callable", "", function(v)
  return kind(v) == "func" or type(v) == "table" and getmetatable(v).call ~= nil
    or V.is_undefined(v)
end)
define("upper", "", function(v) return methods_text.has_case("upper")(format.str(v)) end)
define("lower", "", function(v) return methods_text.has_case("lower")(format.str(v)) end)
define("odd", "", function(v) return compare.eq(ops.mod(v, 2), 1) end)
define("even", "", function(v) return compare.eq(ops.mod(v, 2), 0) end)
define("divisibleby", "num", function(v, num) return compare.eq(ops.mod(v, num), 0) end)
define("sameas", "other", function(v, other)
  if T.is(v) and T.is(other) then
    return T.raw(v) == T.raw(other)
  end
  return rawequal(v, other) and math.type(v) == math.type(other)
end)
define("in", "seq", function(v, seq) return compare.contains(seq, v) end)
define("eq equalto ==", "other", compare.eq)
define("ne !=", "other", function(v, other) return not compare.eq(v, other) end)
define("lt lessthan <", "other", function(v, other) return compare.order(v, other) < 0 end)
define("le <=", "other", function(v, other) return compare.order(v, other) <= 0 end)
define("gt greaterthan >", "other", function(v, other) return compare.order(v, other) > 0 end)
define("ge >=", "other", function(v, other) return compare.order(v, other) >= 0 end)
define("test", "", function(v) return type(M[V.hash(v)]) == "table" end)

--- The test of this name; fails when there is none.
---@param name string
---@param at integer?
function M.find(name, at)
  local t = M[name]
  if type(t) ~= "table" then
    S.fail(("found test '%s', expected a test such as defined, string or mapping"):format(name), at)
  end
  return t
end

return M
