-- SPDX-License-Identifier: MIT
-- Filters that make text or numbers of one value.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local chars = require "perigee.jinja.chars"
local compare = require "perigee.jinja.compare"
local format = require "perigee.jinja.format"
local host_json = require "perigee.sys.json"
local json = require "perigee.jinja.json"
local methods_text = require "perigee.jinja.methods_text"
local ops = require "perigee.jinja.ops"
local percent = require "perigee.jinja.percent"
local spec = require "perigee.jinja.spec"
local unicode = require "perigee.jinja.unicode"

local M = {}
local NONE <const> = V.NONE

local function define(names, parameters, f)
  for name in names:gmatch("%S+") do
    M[name] = { spec = parameters and spec(parameters), f = f }
  end
end

local function truth_arg(v)
  return v ~= nil and V.truth(v)
end

local function int_arg(v, what, default)
  if v == nil then
    return default
  end
  local n = compare.number(v)
  if math.type(n) ~= "integer" then
    S.fail(("%s: found %s, expected an integer"):format(what, V.type_name(v)))
  end
  return n
end

-- A filter of soft_str(value) that is a method of text.
local function by_method(name, method)
  local m = methods_text[method]
  M[name] = { spec = m.spec, f = function(v, ...)
    return m.f(format.soft_str(v), ...)
  end }
end
by_method("upper", "upper")
by_method("lower", "lower")
by_method("capitalize", "capitalize")
by_method("trim", "strip")

local function word_start(s, from)
  while from <= #s do
    local i = s:find("[-\t-\r\x1c-\x20({%[<\xc2\xe1\xe2\xe3]", from)
    if not i then
      return nil
    end
    local length = chars.space_at(s, i)
    if length or s:byte(i) < 0x80 then
      return i, i + (length or 1) - 1
    end
    from = i + 1
  end
  return nil
end

define("title", "", function(v)
  v = format.str(v)
  local s = T.raw(v)
  local parts, n, at = {}, 0, 1
  while at <= #s do
    local i, j = word_start(s, at)
    local stop = i and i - 1 or #s
    if stop >= at then
      local first = (utf8.offset(s, 2, at) or #s + 1) - 1
      parts[n + 1] = T.map(T.sub(v, at, first), unicode.upper)
      parts[n + 2] = T.map(T.sub(v, first + 1, stop), unicode.lower)
      n = n + 2
    end
    if i then
      n = n + 1
      parts[n] = T.sub(v, i, j)
    end
    S.charge(10)
    at = (j or #s) + 1
  end
  return T.concat(parts, n)
end)

define("replace", "old new count?", function(v, old, new, count)
  if count == NONE then
    count = nil
  end
  return methods_text.replaced(format.str(v), format.str(old), format.str(new), count)
end)

define("string", "", format.soft_str)
define("safe", "", function(v) return T.safe(format.str(v)) end)
define("escape e", "", function(v) return T.escape(format.soft_str(v)) end)
define("forceescape", "", function(v) return T.escape(format.str(v)) end)

define("center", "width?", function(v, width)
  return methods_text.center.f(format.soft_str(v), width or 80)
end)

define("indent", "width? first? blank?", function(v, width, first, blank)
  if not T.is(v) then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("indent: found %s, expected text"):format(V.type_name(v)))
  end
  local is_safe = type(v) ~= "string" and v.safe
  local pad = width ~= nil and T.is(width) and width
    or (" "):rep(percent.check_width(math.max(int_arg(width, "indent", 4), 0)))
  local lines = methods_text.lines(T.join2(T.unsafe(v), "\n"), true)
  local parts, n = {}, 0
  for i = 1, lines.n do
    local line = lines[i]
    local s = T.raw(line)
    local stop = (chars.find_break(s, 1) or #s + 1) - 1
    if truth_arg(first) and i == 1 or i > 1 and (stop > 0 or truth_arg(blank)) then
      n = n + 1
      parts[n] = is_safe and T.unsafe(T.escape(pad)) or pad
    end
    parts[n + 1] = T.sub(line, 1, stop)
    parts[n + 2] = i < lines.n and "\n" or ""
    n = n + 2
  end
  local out = T.concat(parts, n)
  return is_safe and T.safe(out) or out
end)

define("truncate", "length? killwords? end? leeway?", function(v, length, killwords, tail, leeway)
  tail, length, leeway = tail or "...", int_arg(length, "length", 255), int_arg(leeway, "leeway", 5)
  local n = V.len(v) or S.fail(("truncate: found %s, expected text"):format(V.type_name(v)))
  local n_tail = chars.len(tail)
  if length < n_tail or leeway < 0 then
    S.fail(("truncate: found length %d and leeway %d, expected at least %d and 0"):format(length,
      leeway, n_tail))
  elseif n <= length + leeway then
    return v
  end
  local head = chars.sub(v, 1, length - n_tail)
  if not truth_arg(killwords) then
    local s = T.raw(head)
    local at = s:match(".*() ")
    head = at and T.sub(head, 1, at - 1) or head
  end
  return ops.add(head, tail)
end)

define("wordcount", "", function(v)
  local s = T.raw(format.str(v))
  local n, in_word = 0, false
  S.charge(#s >> 1)
  for char in s:gmatch(utf8.charpattern) do
    local is_word = char:find("^[%w_]") or #char > 1 and
      (unicode.is("alpha", utf8.codepoint(char)) or unicode.is("numeric", utf8.codepoint(char)))
    n = n + ((is_word and not in_word) and 1 or 0)
    in_word = is_word
  end
  return n
end)

define("format", nil, function(v, args, kwargs)
  v = format.soft_str(v)
  if args.n > 0 and kwargs then
    S.fail("format: found values both by place and by name")
  elseif kwargs then
    local d = V.dict()
    for i = 1, kwargs.n do
      V.set(d, kwargs[i], kwargs.map[kwargs[i]])
    end
    return percent.format(v, d)
  end
  return percent.format(v, V.tuple(table.move(args, 1, args.n, 1, {}), args.n))
end)

local ENTITIES <const> = { amp = "&", lt = "<", gt = ">", quot = '"', ["#34"] = '"', ["#39"] = "'",
  apos = "'" }

define("striptags", "", function(v)
  v = format.str(v)
  local out = T.map(v, function(s)
    return s
  end)
  for _, pair in ipairs { { "<!--", "-->" }, { "<", ">" } } do
    local parts, n, at, s = {}, 0, 1, T.raw(out)
    while true do
      local i = s:find(pair[1], at, true)
      local _, j = s:find(pair[2], i or #s + 1, true)
      n = n + 1
      S.charge(1)
      parts[n] = T.sub(out, at, i and j and i - 1 or #s)
      if not (i and j) then
        break
      end
      at = j + 1
    end
    out = T.concat(parts, n)
  end
  local words = methods_text.split.f(out)
  out = T.concat(words, words.n, " ")
  return T.map(out, function(s)
    return (s:gsub("&(#?%w+);", function(name)
      return ENTITIES[name]
    end))
  end)
end)

define("urlencode", "", function(v)
  local function quote(item, keep)
    return T.map(format.str(item), function(s)
      return (s:gsub("[^%w_.~" .. keep .. "-]", function(char)
        return ("%%%02X"):format(char:byte())
      end))
    end)
  end
  if T.is(v) or not V.try_items(v) then
    return quote(v, "/")
  end
  local items, n
  if V.kind(v) == "dict" then
    items, n = V.pairs_of(v)
  else
    items, n = V.items(v)
  end
  local parts = {}
  for i = 1, n do
    local pair, two = V.items(items[i])
    if two ~= 2 then
      S.fail(("urlencode: element %d has %d values, expected a key and a value"):format(i - 1, two))
    end
    parts[i] = T.concat({ quote(pair[1], ""), "=", quote(pair[2], "") }, 3)
  end
  local out = T.concat(parts, n, "&")
  return T.map(out, function(s) return (s:gsub("%%20", "+")) end)
end)

define("xmlattr", "autospace?", function(d, autospace)
  if V.kind(d) ~= "dict" then
    S.fail(("xmlattr: found %s, expected a dict"):format(V.type_name(d)))
  end
  local parts, n = {}, 0
  for i = 1, d.n do
    local key, v = d.keys[i], d.map[d.hash[i]]
    if v ~= NONE and not V.is_undefined(v) then
      if not T.is(key) or T.raw(key):find("[%s/>=]") then
        S.fail("xmlattr: found a key that cannot be the name of an attribute")
      end
      n = n + 1
      parts[n] = T.concat({ T.escape(key), '="', T.escape(format.soft_str(v)), '"' }, 4)
    end
  end
  local out = T.concat(parts, n, " ")
  return (autospace == nil or V.truth(autospace)) and n > 0 and T.join2(" ", out) or out
end)

define("tojson", "ensure_ascii? indent? separators? sort_keys?", json.dumps)

define("from_json", "", function(v)
  if not T.is(v) then
    S.fail(("from_json: found %s, expected text"):format(V.type_name(v)))
  end
  local s, r = T.raw(v)
  S.charge(#s >> 3)
  S.alloc(4 * #s)
  local value, err = host_json.decode(s)
  if err ~= nil then
    S.fail("from_json: " .. tostring(err))
  end
  return V.from(value, 0, r ~= nil)
end)

------------------------------------------------------------ numbers

define("abs", "", function(v)
  local n = compare.number(v)
  if not n then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("abs: found %s, expected a number"):format(V.type_name(v)))
  end
  return n < 0 and ops.neg(n) or n == 0 and 0 * n == 0 and math.abs(n) or n
end)

-- Text as an integer in a base, or nil.
local function read_int(s, base)
  s = s:match("^[\t-\r ]*(.-)[\t-\r ]*$"):lower()
  local sign, digits = s:match("^([-+]?)(.*)$")
  local prefix = ({ [2] = "0b", [8] = "0o", [16] = "0x" })[base]
  if prefix and digits:sub(1, 2) == prefix then
    digits = digits:sub(3)
  end
  if not digits:find("^%w[%w_]*$") or digits:find("__", 1, true) or digits:sub(-1) == "_" then
    return nil
  end
  digits = digits:gsub("_", "")
  if base < 2 or base > 36 or not tonumber(digits, base) then
    return nil
  end
  if #digits > 18 then
    local value = base == 10 and math.tointeger(tonumber(sign .. digits))
    if not value then
      digits = digits:gsub("^0+", "")
      return setmetatable({ digits = (sign == "-" and "-" or "") .. digits }, V.Big)
    end
    return value
  end
  return tonumber(sign == "-" and "-" .. digits or digits, base)
end

local function read_float(s)
  s = s:match("^[\t-\r ]*(.-)[\t-\r ]*$"):lower()
  local sign, name = s:match("^([-+]?)(.*)$")
  if name == "inf" or name == "infinity" then
    return sign == "-" and -math.huge or math.huge
  elseif name == "nan" then
    return 0 / 0
  elseif not s:find("^[-+]?%d[%d_]*%.?[%d_]*e?[-+]?%d*$")
    and not s:find("^[-+]?%.%d[%d_]*e?[-+]?%d*$") then
    return nil
  end
  s = s:gsub("(%d)_(%d)", "%1%2"):gsub("(%d)_(%d)", "%1%2"):gsub("^%+", "")
  local n = tonumber(s)
  return n and n + 0.0
end

local function float_of(v)
  local n = compare.number(v)
  if V.is_undefined(v) then
    V.fail_undefined(v)
  elseif V.kind(v) == "big" then
    return tonumber(v.digits) + 0.0
  end
  return n and n + 0.0 or T.is(v) and read_float((T.raw(v))) or nil
end

define("float", "default?", function(v, default)
  if default == nil then
    default = 0.0
  end
  local n = float_of(v)
  return n == nil and default or n
end)

define("int", "default? base?", function(v, default, base)
  if default == nil then
    default = 0
  end
  local which = V.kind(v)
  if which == "int" or which == "big" then
    return v
  elseif which == "str" then
    local n = read_int(T.raw(v), int_arg(base, "base", 10))
    if n then
      return n
    end
  end
  local n = float_of(v)
  if not n or n ~= n or n == math.huge or n == -math.huge then
    if which == "float" and n == n then
      S.fail("int: found infinity, expected a finite number")
    end
    return default
  end
  n = n < 0 and math.ceil(n) or math.floor(n)
  return math.type(n) == "integer" and n or setmetatable({ digits = ("%.0f"):format(n) }, V.Big)
end)

local function round_float(v, precision)
  if v ~= v or v == math.huge or v == -math.huge or precision > 300 then
    return v
  elseif precision >= 0 then
    local text = ("%." .. math.min(precision, 99) .. "f"):format(v)
    return tonumber(precision == 0 and text .. "." or text)
  end
  local power = 10.0 ^ -precision
  local q = v / power
  local down = math.floor(q)
  local up_by = q - down
  local n = (up_by > 0.5 or up_by == 0.5 and down % 2 == 1) and down + 1 or down
  return n * power + 0.0
end

define("round", "precision? method?", function(v, precision, method)
  precision = int_arg(precision, "precision", 0)
  method = method and T.raw(format.str(method)) or "common"
  local n = compare.number(v)
  if not n then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("round: found %s, expected a number"):format(V.type_name(v)))
  elseif method == "common" then
    if math.type(n) == "integer" then
      return precision >= 0 and n or math.tointeger(round_float(n + 0.0, precision)) or n
    end
    return round_float(n, precision)
  elseif method ~= "ceil" and method ~= "floor" then
    S.fail(("round: found method '%s', expected common, ceil or floor"):format(method))
  end
  local power = precision >= 0 and ops.pow(10, precision) or 10.0 ^ precision
  local scaled = n * power
  return (method == "ceil" and math.ceil(scaled) or math.floor(scaled)) / power
end)

define("filesizeformat", "binary?", function(v, binary)
  local n = float_of(v) or S.fail("filesizeformat: expected a number")
  local base = truth_arg(binary) and 1024 or 1000
  local middle = base == 1024 and "i" or ""
  if n == 1 then
    return "1 Byte"
  elseif n < base then
    return ("%d Bytes"):format(n < 0 and math.ceil(n) or math.floor(n))
  end
  local unit = base
  for i = 1, 8 do
    unit = unit * base
    if n < unit or i == 8 then
      local letter = ("kMGTPEZY"):sub(i, i)
      letter = base == 1024 and letter:upper() or letter
      return ("%.1f %s%sB"):format(base * n / unit, letter, middle)
    end
    unit = unit + 0.0
  end
end)

return M
