-- SPDX-License-Identifier: MIT
-- Methods of text.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local chars = require "perigee.jinja.chars"
local percent = require "perigee.jinja.percent"
local strformat = require "perigee.jinja.strformat"
local unicode = require "perigee.jinja.unicode"
local number = require("perigee.jinja.compare").number
local spec = require "perigee.jinja.spec"

local M = {}
local NONE <const> = V.NONE

local function text_arg(v, what)
  if not T.is(v) then
    if V.is_undefined(v) then
      V.fail_undefined(v)
    end
    S.fail(("%s: found %s, expected text"):format(what, V.type_name(v)))
  end
  return v
end

local function int_arg(v, what, default)
  if v == nil or v == NONE and default then
    return default
  end
  local n = number(v)
  if math.type(n) ~= "integer" then
    S.fail(("%s: found %s, expected an integer"):format(what, V.type_name(v)))
  end
  return n
end

-- A method whose result, text or list of text, is safe when the text it is called on is.
local function define(name, parameters, f)
  local function run(v, ...)
    local out = f(v, ...)
    if type(v) ~= "string" and v.safe then
      if T.is(out) then
        return T.safe(out)
      elseif type(out) == "table" and out.n then
        for i = 1, out.n do
          out[i] = T.is(out[i]) and T.safe(out[i]) or out[i]
        end
      end
    end
    return out
  end
  M[name] = { spec = parameters and spec(parameters), f = run }
end

------------------------------------------------------------ case

local function first_upper(v)
  local s = T.raw(v)
  if s == "" then
    return v
  end
  local stop = utf8.offset(s, 2) or #s + 1
  return T.concat({ T.map(T.sub(v, 1, stop - 1), unicode.title), T.map(T.sub(v, stop, #s),
    unicode.lower) }, 2)
end
M.capitalized = first_upper

local function title(v)
  local parts, n, in_word = {}, 0, false
  local list, count = chars.list(T.unsafe(v))
  S.charge(4 * count)
  for i = 1, count do
    local char = T.raw(list[i])
    local f = in_word and unicode.lower or unicode.title
    n = n + 1
    parts[n] = T.map(list[i], f)
    in_word = unicode.case(char) ~= nil
  end
  return T.concat(parts, n)
end

local function swapcase(v)
  S.charge(#T.raw(v))
  return T.map(v, function(s)
    return (s:gsub(utf8.charpattern, function(char)
      return unicode.case(char) == "upper" and unicode.lower(char) or unicode.upper(char)
    end))
  end)
end

define("upper", "", function(v) return T.map(v, unicode.upper) end)
define("lower", "", function(v) return T.map(v, unicode.lower) end)
define("casefold", "", function(v)
  return T.map(v, function(s) return (unicode.lower(s:gsub("ß", "ss"))) end)
end)
define("capitalize", "", first_upper)
define("title", "", title)
define("swapcase", "", swapcase)

------------------------------------------------------------ strip, split, join

local function strip(v, set, left, right)
  local s = T.raw(v)
  if set == NONE then
    set = nil
  end
  local from, to = chars.strip_range(s, set and T.raw(text_arg(set, "strip")), left, right)
  return from == 1 and to == #s and v or T.sub(v, from, to)
end
M.strip_text = strip

define("strip", "chars?", function(v, set) return strip(v, set, true, true) end)
define("lstrip", "chars?", function(v, set) return strip(v, set, true, false) end)
define("rstrip", "chars?", function(v, set) return strip(v, set, false, true) end)

-- First and last bytes of the words of s.
local function word_spans(s)
  local from, to, n = {}, {}, 0
  local at, last = chars.strip_range(s, nil, true, true)
  while at <= last do
    local i, j = chars.find_space(s, at)
    S.charge(1)
    n = n + 1
    from[n], to[n] = at, i and math.min(i - 1, last) or last
    at = (j or last) + 1
  end
  return from, to, n
end

local function split_space(v, max, from_right)
  local s = T.raw(v)
  local from, to, n = word_spans(s)
  local parts = {}
  if not max or n <= max + 1 and n > 0 and max > 0 then
    for i = 1, n do
      parts[i] = T.sub(v, from[i], to[i])
    end
    if max and n == max + 1 then
      parts[from_right and 1 or n] = from_right and T.sub(v, 1, to[1]) or T.sub(v, from[n], #s)
    end
    return V.list(parts, n)
  elseif n == 0 then
    return V.list({}, 0)
  end
  local rest = n - max
  if from_right then
    parts[1] = T.sub(v, 1, to[rest])
    for i = 1, max do
      parts[i + 1] = T.sub(v, from[rest + i], to[rest + i])
    end
  else
    for i = 1, max do
      parts[i] = T.sub(v, from[i], to[i])
    end
    parts[max + 1] = T.sub(v, from[max + 1], #s)
  end
  return V.list(parts, max + 1)
end

local function split_last(v, sep, max)
  local s, plain = T.raw(v), T.raw(sep)
  local back, n, stop = {}, 0, #s
  local at = #s - #plain + 1
  while at >= 1 and (not max or n < max) do
    if s:sub(at, at + #plain - 1) == plain then
      n = n + 1
      back[n] = T.sub(v, at + #plain, stop)
      stop = at - 1
      at = at - #plain
    else
      at = at - 1
    end
    S.charge(1)
  end
  back[n + 1] = T.sub(v, 1, stop)
  local parts = {}
  for i = 1, n + 1 do
    parts[i] = back[n + 2 - i]
  end
  return V.list(parts, n + 1)
end

local function split(v, sep, max, from_right)
  max = int_arg(max, "maxsplit", -1)
  max = max >= 0 and max or nil
  if sep == nil or sep == NONE then
    return split_space(v, max, from_right)
  end
  local plain = T.raw(text_arg(sep, "separator"))
  if plain == "" then
    S.fail("separator: found an empty text, expected at least one character")
  elseif from_right and max then
    return split_last(v, sep, max)
  end
  local parts, n = T.cut(v, function(s, from)
    return s:find(plain, from, true)
  end, max)
  return V.list(parts, n)
end
define("split", "sep? maxsplit?", function(v, sep, max) return split(v, sep, max, false) end)
define("rsplit", "sep? maxsplit?", function(v, sep, max) return split(v, sep, max, true) end)

local function splitlines(v, keepends)
  local s = T.raw(v)
  local parts, n, at = {}, 0, 1
  local keep = keepends ~= nil and V.truth(keepends)
  while at <= #s do
    local i, j = chars.find_break(s, at)
    n = n + 1
    S.charge(1)
    parts[n] = T.sub(v, at, i and (keep and j or i - 1) or #s)
    at = (j or #s) + 1
  end
  return V.list(parts, n)
end
M.lines = splitlines
define("splitlines", "keepends?", splitlines)

local function partition(v, sep, from_right)
  local s, plain = T.raw(v), T.raw(text_arg(sep, "separator"))
  if plain == "" then
    S.fail("separator: found an empty text, expected at least one character")
  end
  local i = s:find(plain, 1, true)
  while from_right and i do
    local more = s:find(plain, i + 1, true)
    S.charge(1)
    if not more then
      break
    end
    i = more
  end
  if not i then
    return V.tuple(from_right and { "", "", v } or { v, "", "" }, 3)
  end
  local j = i + #plain
  return V.tuple({ T.sub(v, 1, i - 1), T.sub(v, i, j - 1), T.sub(v, j, #s) }, 3)
end
define("partition", "sep", function(v, sep) return partition(v, sep, false) end)
define("rpartition", "sep", function(v, sep) return partition(v, sep, true) end)

define("join", "iterable", function(v, iterable)
  local items, n = V.items(iterable)
  local parts = {}
  S.charge(n)
  for i = 1, n do
    local item = text_arg(items[i], ("element %d of join"):format(i - 1))
    parts[i] = type(v) ~= "string" and v.safe and T.escape(item) or item
  end
  return T.concat(parts, n, v)
end)

------------------------------------------------------------ search

-- Bytes of the part of s that start and end (in characters) leave.
local function window(s, start, stop)
  local n = chars.len(s)
  local from, to = int_arg(start, "start", 0), int_arg(stop, "end", n)
  from = from < 0 and math.max(from + n, 0) or from
  to = to < 0 and to + n or math.min(to, n)
  if from > to or from > n then
    return nil
  end
  return chars.byte_of_index(s, from + 1), chars.byte_of_index(s, to + 1) - 1
end

local function affix(v, wanted, start, stop, at_end)
  local s = T.raw(v)
  local from, to = window(s, start, stop)
  local list = V.kind(wanted) == "tuple" and wanted or { n = 1, wanted }
  for i = 1, list.n do
    local part = T.raw(text_arg(list[i], at_end and "endswith" or "startswith"))
    local fits = from and #part <= to - from + 1
    if fits and (at_end and s:sub(to - #part + 1, to) or s:sub(from, from + #part - 1)) == part then
      return true
    end
  end
  return false
end
define("startswith", "prefix start? end?", function(v, p, i, j) return affix(v, p, i, j, false) end)
define("endswith", "suffix start? end?", function(v, p, i, j) return affix(v, p, i, j, true) end)

local function find(v, wanted, start, stop, from_right)
  local s, part = T.raw(v), T.raw(text_arg(wanted, "find"))
  local from, to = window(s, start, stop)
  S.charge(#s >> 6)
  if not from then
    return -1
  end
  local found
  local i = s:find(part, from, true)
  while i and i + #part - 1 <= to do
    found = i
    if not from_right then
      break
    end
    S.charge(1)
    i = s:find(part, i + 1, true)
  end
  return found and chars.index_of_byte(s, found) or -1
end
define("find", "sub start? end?", function(v, p, i, j) return find(v, p, i, j, false) end)
define("rfind", "sub start? end?", function(v, p, i, j) return find(v, p, i, j, true) end)

local function index(v, p, i, j, from_right)
  local at = find(v, p, i, j, from_right)
  return at >= 0 and at or S.fail("index: the text has no such part")
end
define("index", "sub start? end?", function(v, p, i, j) return index(v, p, i, j, false) end)
define("rindex", "sub start? end?", function(v, p, i, j) return index(v, p, i, j, true) end)

define("count", "sub start? end?", function(v, wanted, start, stop)
  local s, part = T.raw(v), T.raw(text_arg(wanted, "count"))
  local from, to = window(s, start, stop)
  if not from then
    return 0
  elseif part == "" then
    return chars.len(s:sub(from, to)) + 1
  end
  local n, at = 0, from
  while true do
    local i, j = s:find(part, at, true)
    if not i or j > to then
      return n
    end
    S.charge(1)
    n, at = n + 1, j + 1
  end
end)

------------------------------------------------------------ replace, fill, classes

local function replace(v, old, new, count)
  count = int_arg(count, "count", -1)
  local max = count >= 0 and count or nil
  text_arg(new, "replacement")
  if type(v) ~= "string" and v.safe then
    old, new = T.escape(text_arg(old, "old text")), T.escape(new)
  end
  local plain = T.raw(text_arg(old, "old text"))
  if plain ~= "" then
    return T.replace(v, plain, new, max)
  end
  local list, n = chars.list(v)
  local parts, m = {}, 0
  for i = 1, n + 1 do
    if not max or i <= max then
      m = m + 1
      parts[m] = new
    end
    if i <= n then
      m = m + 1
      parts[m] = list[i]
    end
  end
  return T.concat(parts, m)
end
M.replaced = replace
define("replace", "old new count?", replace)

local function pad(align)
  return function(v, width, fill)
    fill = fill == nil and " " or T.unsafe(text_arg(fill, "fill"))
    if chars.len(fill) ~= 1 then
      S.fail("fill: expected one character")
    end
    width = int_arg(width, "width")
    local missing = width - chars.len(v)
    if align == "^" and missing > 0 then
      local left = missing // 2 + (missing & width & 1)
      percent.check_width(width)
      return T.concat({ T.rep(fill, left), T.unsafe(v), T.rep(fill, missing - left) }, 3)
    end
    return missing > 0 and percent.pad(v, width, align, fill) or v
  end
end
define("ljust", "width fillchar?", pad("<"))
define("rjust", "width fillchar?", pad(">"))
define("center", "width fillchar?", pad("^"))

define("zfill", "width", function(v, width)
  local s = T.raw(v)
  local missing = percent.check_width(math.max(int_arg(width, "width"), 0)) - chars.len(v)
  if missing <= 0 then
    return v
  end
  local sign = s:find("^[-+]") and 1 or 0
  return T.concat({ T.sub(v, 1, sign), ("0"):rep(missing), T.sub(v, sign + 1, #s) }, 3)
end)

define("expandtabs", "tabsize?", function(v, size)
  size = percent.check_width(math.max(int_arg(size, "tabsize", 8), 0))
  local list, n = chars.list(T.unsafe(v))
  local column = 0
  for i = 1, n do
    local char = T.raw(list[i])
    if char == "\t" then
      local gap = size > 0 and size - column % size or 0
      S.alloc(gap)
      list[i], column = T.like((" "):rep(gap), list[i]), column + gap
    else
      column = (char == "\n" or char == "\r") and 0 or column + 1
    end
  end
  return T.concat(list, n)
end)

define("removeprefix", "prefix", function(v, p)
  local s, part = T.raw(v), T.raw(text_arg(p, "prefix"))
  return s:sub(1, #part) == part and T.sub(v, #part + 1, #s) or v
end)
define("removesuffix", "suffix", function(v, p)
  local s, part = T.raw(v), T.raw(text_arg(p, "suffix"))
  return part ~= "" and s:sub(-#part) == part and T.sub(v, 1, #s - #part) or v
end)

M.format = { f = strformat.format }
M.format_map = { spec = spec("mapping"), f = function(v, mapping)
  if V.kind(mapping) ~= "dict" then
    S.fail(("format_map: found %s, expected a dict"):format(V.type_name(mapping)))
  end
  return strformat.format(v, { n = 0 }, { n = 0, map = mapping.map })
end }

-- is-methods: true when there is a character and all of them pass.
local function all(test)
  return function(v)
    local s = T.raw(v)
    S.charge(#s >> 1)
    for char in s:gmatch(utf8.charpattern) do
      if not test(char, #char > 1 and utf8.codepoint(char)) then
        return false
      end
    end
    return s ~= ""
  end
end

local function is_digit(char, code)
  return code and unicode.is("digit", code) or not code and char:find("%d") ~= nil
end

local function is_cased(wanted)
  return function(v)
    local found = false
    local s = T.raw(v)
    S.charge(#s >> 1)
    for char in s:gmatch(utf8.charpattern) do
      local case = unicode.case(char)
      if case and case ~= wanted then
        return false
      end
      found = found or case ~= nil
    end
    return found
  end
end

local function is_title(v)
  local found, in_word = false, false
  local s = T.raw(v)
  S.charge(#s >> 1)
  for char in s:gmatch(utf8.charpattern) do
    local case = unicode.case(char)
    if case == "upper" and in_word or case == "lower" and not in_word then
      return false
    end
    in_word = case ~= nil
    found = found or in_word
  end
  return found
end

M.has_case = is_cased
define("isalpha", "", all(unicode.is_alpha))
define("isdigit", "", all(is_digit))
define("isdecimal", "", all(is_digit))
define("isnumeric", "", all(function(char, code)
  return is_digit(char, code) or code and unicode.is("numeric", code)
end))
define("isalnum", "", all(function(char, code)
  return unicode.is_alpha(char) or is_digit(char, code) or code and unicode.is("numeric", code)
end))
define("isspace", "", all(function(char) return chars.space_at(char, 1) ~= nil end))
define("isascii", "", function(v) return chars.is_ascii((T.raw(v))) end)
define("isupper", "", is_cased("upper"))
define("islower", "", is_cased("lower"))
define("istitle", "", is_title)
define("isprintable", "", function(v)
  return T.raw(v) == "" or all(function(char, code)
    return code and not unicode.is("unprintable", code) or not code and not char:find("%c")
  end)(v)
end)
define("isidentifier", "", function(v) return T.raw(v):find("^[%a_][%w_]*$") ~= nil end)

return M
