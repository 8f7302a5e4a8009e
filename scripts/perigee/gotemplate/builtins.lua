-- SPDX-License-Identifier: MIT
-- The functions of templates: those of Go and those of Ollama.  Each has the kinds of its
-- parameters: "value" sees what is there, "any" sees NIL instead of nothing, "string" is text.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.gotemplate.value"
local chars = require "perigee.jinja.chars"
local clock = require "perigee.jinja.clock"
local format = require "perigee.gotemplate.format"
local json = require "perigee.gotemplate.json"
local schema = require "perigee.gotemplate.schema"
local unicode = require "perigee.jinja.unicode"

local M = {}

---@class perigee.gotemplate.func
---@field fixed integer how many arguments it needs
---@field more string? kind of the further ones; nil: there are none
---@field kinds string[] kinds of the needed ones
---@field f fun(args: any[], n: integer): any

---@type table<string, perigee.gotemplate.func>
local F = {}
M.functions = F

local function define(name, kinds, more, f)
  local list = {}
  for kind in kinds:gmatch("%a+") do
    list[#list + 1] = kind
  end
  F[name] = { fixed = #list, more = more, kinds = list, f = f }
end

-- "and" and "or" do not see all their arguments; exec.lua runs them.
define("and", "value", "value", nil)
define("or", "value", "value", nil)
define("not", "value", nil, function(args)
  return not V.truth(args[1])
end)

------------------------------------------------------------ comparison

-- Kind of a value that has an order or an equality of its own.
local BASIC <const> = { bool = true, int = true, float = true, string = true }

local function incomparable(a, b)
  S.fail(("found %s and %s, expected values of one kind to compare"):format(V.type_name(a),
    V.type_name(b)))
end

local function is_nil(v)
  local kind = V.kind(v)
  return kind == "nil" or (kind == "slice" or kind == "map") and v.is_nil == true
end

local function equal(a, b)
  local ka, kb = V.kind(a), V.kind(b)
  if BASIC[ka] or BASIC[kb] then
    if ka ~= kb then
      if ka == "nil" or kb == "nil" then
        return false
      end
      incomparable(a, b)
    elseif ka == "string" then
      return T.raw(a) == T.raw(b)
    end
    return a == b
  elseif ka ~= "nil" and kb ~= "nil" and ka ~= kb then
    incomparable(a, b)
  elseif is_nil(a) or is_nil(b) then
    return is_nil(a) == is_nil(b)
  end
  S.fail(("found %s, expected a value that can be compared"):format(V.type_name(a)))
end

local function less(a, b)
  local ka, kb = V.kind(a), V.kind(b)
  if ka ~= kb or ka ~= "int" and ka ~= "float" and ka ~= "string" then
    S.fail(("found %s and %s, expected two numbers of one kind or two texts"):format(
      V.type_name(a), V.type_name(b)))
  elseif ka == "string" then
    return chars.order((T.raw(a)), (T.raw(b))) < 0
  end
  return a < b
end

local function at_most(a, b)
  return less(a, b) or equal(a, b)
end

define("eq", "value", "value", function(args, n)
  if n < 2 then
    S.fail("found one argument of eq, expected at least two")
  end
  for i = 2, n do
    if equal(args[1], args[i]) then
      return true
    end
  end
  return false
end)
define("ne", "value value", nil, function(a) return not equal(a[1], a[2]) end)
define("lt", "value value", nil, function(a) return less(a[1], a[2]) end)
define("le", "value value", nil, function(a) return at_most(a[1], a[2]) end)
define("gt", "value value", nil, function(a) return not at_most(a[1], a[2]) end)
define("ge", "value value", nil, function(a) return not less(a[1], a[2]) end)

------------------------------------------------------------ parts

local function size_of(v, name)
  local kind = V.kind(v)
  if kind == "string" then
    return #T.raw(v)
  elseif kind == "slice" or kind == "map" then
    return v.n
  end
  S.fail(("%s: found %s, expected text, a list or a map"):format(name,
    V.is_nothing(v) and "nil" or V.type_name(v)))
end

local function check_index(i, limit, name)
  if math.type(i) ~= "integer" then
    S.fail(("%s: found an index of type %s, expected int"):format(name,
      V.is_nothing(i) and "nil" or V.type_name(i)))
  elseif i < 0 or i > limit then
    S.fail(("%s: found the index %d, expected 0 to %d"):format(name, i, limit))
  end
  return i
end

local function index_one(v, i)
  local kind = V.kind(v)
  if kind == "map" then
    if V.kind(i) ~= "string" then
      S.fail(("index: found a key of type %s, expected string"):format(
        V.is_nothing(i) and "nil" or V.type_name(i)))
    end
    local key = T.raw(i)
    local found = v.map[key]
    return found == nil and V.zero(v) or found
  end
  local size = size_of(v, "index")
  i = check_index(i, size - 1, "index")
  return kind == "string" and T.raw(v):byte(i + 1) or v[i + 1]
end

define("index", "value", "value", function(args, n)
  local v = args[1]
  if V.is_nothing(v) then
    S.fail("index: found nil, expected text, a list or a map")
  end
  for i = 2, n do
    v = index_one(v, args[i])
  end
  return v
end)

define("len", "value", nil, function(args)
  return size_of(args[1], "len")
end)

define("slice", "value", "value", function(args, n)
  local v, kind = args[1], V.kind(args[1])
  if kind ~= "string" and kind ~= "slice" then
    S.fail(("slice: found %s, expected text or a list"):format(
      V.is_nothing(v) and "nil" or V.type_name(v)))
  elseif n > (kind == "string" and 3 or 4) then
    S.fail(("slice: found %d indexes, expected at most %d"):format(n - 1,
      kind == "string" and 2 or 3))
  end
  local size = size_of(v, "slice")
  local bounds = { 0, size, size }
  for i = 2, n do
    bounds[i - 1] = check_index(args[i], size, "slice")
  end
  local from, to = bounds[1], bounds[2]
  if from > to or to > bounds[3] then
    S.fail(("slice: found the indexes %d, %d and %d, expected rising ones"):format(from, to,
      bounds[3]))
  elseif kind == "string" then
    return T.sub(v, from + 1, to)
  end
  local out = {}
  for i = from + 1, to do
    out[i - from] = v[i]
  end
  return V.list(out, to - from, v.type, v.is_nil)
end)

define("call", "value", "value", function(args)
  S.fail(("call: found %s, expected a function (the data of a template has none)"):format(
    V.is_nothing(args[1]) and "nil" or V.type_name(args[1])))
end)

------------------------------------------------------------ text

define("print", "", "any", format.sprint)
define("println", "", "any", format.sprintln)
define("printf", "string", "any", function(args, n)
  return format.sprintf(args[1], table.move(args, 2, n, 1, {}), n - 1)
end)

-- The arguments of an escaper as one text.
local function joined(args, n)
  if n == 1 and T.is(args[1]) then
    return args[1]
  end
  local out = {}
  for i = 1, n do
    out[i] = V.is_nothing(args[i]) and "<no value>" or args[i]
  end
  return format.sprint(out, n)
end

local HTML <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&#34;",
  ["'"] = "&#39;", ["\0"] = "\u{FFFD}" }

define("html", "", "any", function(args, n)
  return T.map(joined(args, n), function(s)
    return (s:gsub("[&<>\"'\0]", HTML))
  end)
end)

local JS <const> = { ["\\"] = "\\\\", ["'"] = "\\'", ['"'] = '\\"', ["<"] = "\\u003C",
  [">"] = "\\u003E", ["&"] = "\\u0026", ["="] = "\\u003D" }

local function js_wide(char)
  local code = utf8.codepoint(char)
  return unicode.is("unprintable", code) and ("\\u%04X"):format(code) or char
end

define("js", "", "any", function(args, n)
  return T.map(joined(args, n), function(s)
    S.charge(#s >> 2)
    s = s:gsub("[%c\\'\"<>&=]", function(c)
      return JS[c] or c ~= "\127" and ("\\u00%02X"):format(c:byte()) or nil
    end)
    return (s:gsub("[\xc2-\xf4][\x80-\xbf]+", js_wide))
  end)
end)

define("urlquery", "", "any", function(args, n)
  return T.map(joined(args, n), function(s)
    S.charge(#s >> 2)
    return (s:gsub("[^A-Za-z0-9_.~-]", function(c)
      return c == " " and "+" or ("%%%02X"):format(c:byte())
    end))
  end)
end)

------------------------------------------------------------ Ollama's

define("json", "any", nil, function(args)
  return json.encode(args[1])
end)

local function date(days)
  local fields = clock.fields(S.now)
  return clock.strftime("%Y-%m-%d", (fields.days + days) * 86400)
end

define("currentDate", "", "string", function() return date(0) end)
define("yesterdayDate", "", nil, function() return date(-1) end)
define("toTypeScriptType", "any", nil, function(args) return schema.typescript(args[1]) end)

return M
