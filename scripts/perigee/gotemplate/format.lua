-- SPDX-License-Identifier: MIT
-- Values as Go's fmt prints them: Sprint, Sprintln and Sprintf with flags, width, precision and
-- argument indexes.  Marks of strings are kept.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.gotemplate.value"
local numbers = require "perigee.gotemplate.numbers"
local quote = require "perigee.gotemplate.quote"

local M = {}
local MAX_DEPTH <const> = 160

local function add(out, text)
  local n = out.n + 1
  out.n, out[n] = n, text
end

local function char_count(s)
  return utf8.len(s) or #s
end

-- Text padded to the width.
local function pad(out, v, f)
  local missing = f.width and f.width - char_count((T.raw(v))) or 0
  if missing <= 0 then
    return add(out, v)
  end
  S.alloc(missing)
  local fill = (f.zero and not f.minus and "0" or " "):rep(missing)
  add(out, f.minus and v or fill)
  add(out, f.minus and fill or v)
end

local print_value

local function bad_verb(out, verb, v, f)
  add(out, "%!" .. verb .. "(")
  if V.is_nothing(v) then
    add(out, "<nil>")
  else
    add(out, V.type_name(v) .. "=")
    print_value(out, "v", v, f, 0)
  end
  add(out, ")")
end

------------------------------------------------------------ scalars

local BASES <const> = { v = 10, d = 10, b = 2, o = 8, O = 8, x = 16, X = 16 }
local PREFIXES <const> = { b = "0b", x = "0x", X = "0X" }

local function integer(out, verb, v, f)
  local digits = numbers.digits(v, BASES[verb], verb == "X")
  local sign = v < 0 and "-" or f.plus and "+" or f.space and " " or ""
  if f.precision == 0 and v == 0 then
    return pad(out, "", { width = f.width, minus = f.minus })
  end
  local wanted = f.precision
  if not wanted and f.zero and f.width and not f.minus then
    wanted = f.width - #sign
  end
  if wanted and wanted > #digits then
    S.alloc(wanted)
    digits = ("0"):rep(wanted - #digits) .. digits
  end
  if f.sharp and verb == "o" and digits:sub(1, 1) ~= "0" then
    digits = "0" .. digits
  elseif f.sharp and PREFIXES[verb] then
    digits = PREFIXES[verb] .. digits
  elseif verb == "O" then
    digits = "0o" .. digits
  end
  pad(out, sign .. digits, { width = f.width, minus = f.minus })
end

local function print_int(out, verb, v, f)
  if BASES[verb] then
    return integer(out, verb, v, f)
  elseif verb == "c" then
    local code = (v < 0 or v > 0x10FFFF or v >= 0xD800 and v < 0xE000) and 0xFFFD or v
    return pad(out, utf8.char(code), f)
  elseif verb == "q" then
    return pad(out, quote.quote_char(v, f.plus), f)
  elseif verb == "U" then
    local text = ("U+%0" .. math.max(f.precision or 4, 4) .. "X"):format(v)
    if f.sharp and v >= 32 and v <= 0x10FFFF then
      text = text .. " '" .. utf8.char(v) .. "'"
    end
    return pad(out, text, { width = f.width, minus = f.minus })
  end
  bad_verb(out, verb, v, f)
end

local FLOATS <const> = { v = "g", g = "g", G = "G", e = "e", E = "E", f = "f", F = "f", x = "x",
  X = "X", b = "b" }

local function print_float(out, verb, v, f)
  if not FLOATS[verb] then
    return bad_verb(out, verb, v, f)
  end
  local precision = f.precision
  if not precision and (verb == "e" or verb == "E" or verb == "f" or verb == "F") then
    precision = 6
  end
  S.alloc(precision or 0)
  local text = numbers.float(v, FLOATS[verb], precision)
  local sign = text:match("^[+-]") or ""
  local body = text:sub(#sign + 1)
  local is_number = body:find("^%d") ~= nil
  if sign ~= "-" then
    sign = f.plus and "+" or f.space and " " or (sign == "+" and verb ~= "v" and "+" or sign)
  end
  if not is_number then
    return pad(out, sign .. body, { width = f.width, minus = f.minus })
  end
  local missing = (f.width or 0) - #sign - #body
  if f.zero and not f.minus and missing > 0 then
    S.alloc(missing)
    return add(out, sign .. ("0"):rep(missing) .. body)
  end
  pad(out, sign .. body, { width = f.width, minus = f.minus })
end

-- At most the first `precision` characters.
local function truncated(v, f)
  local s = T.raw(v)
  if f.precision and char_count(s) > f.precision then
    return T.sub(v, 1, (utf8.offset(s, f.precision + 1) or f.precision + 1) - 1)
  end
  return v
end

local function print_hex(out, verb, v, f)
  local s = T.raw(v)
  if f.precision and f.precision < #s then
    v = T.sub(v, 1, f.precision)
  end
  local pattern = verb == "x" and "%02x" or "%02X"
  local prefix = f.sharp and "0" .. verb or ""
  S.alloc(5 * #s)
  local text = T.map(v, function(piece)
    return (piece:gsub(".", function(c)
      return (f.space and prefix or "") .. pattern:format(c:byte()) .. (f.space and " " or "")
    end))
  end)
  local raw = T.raw(text)
  if raw ~= "" then
    text = f.space and T.sub(text, 1, #raw - 1) or T.concat({ prefix, text }, 2)
  end
  pad(out, text, f)
end

local function print_string(out, verb, v, f)
  if verb == "s" or verb == "v" and not f.sharp then
    return pad(out, truncated(v, f), f)
  elseif verb == "q" or verb == "v" then
    v = truncated(v, f)
    if f.sharp and verb == "q" and quote.can_backquote((T.raw(v))) then
      return pad(out, T.concat({ "`", v, "`" }, 3), f)
    end
    return pad(out, quote.quote(v, f.plus and verb == "q"), f)
  elseif verb == "x" or verb == "X" then
    return print_hex(out, verb, v, f)
  end
  bad_verb(out, verb, v, f)
end

local function print_bool(out, verb, v, f)
  if verb == "t" or verb == "v" then
    return pad(out, tostring(v), f)
  end
  bad_verb(out, verb, v, f)
end

------------------------------------------------------------ composites

local function print_list(out, verb, v, f, depth)
  local is_go = f.sharp and verb == "v"
  if is_go and v.is_nil then
    return add(out, v.type.name .. "(nil)")
  end
  add(out, is_go and v.type.name .. "{" or "[")
  for i = 1, v.n do
    if i > 1 then
      add(out, is_go and ", " or " ")
    end
    print_value(out, verb, v[i], f, depth + 1)
  end
  add(out, is_go and "}" or "]")
end

local function print_map(out, verb, v, f, depth)
  local is_go = f.sharp and verb == "v"
  if is_go and v.is_nil then
    return add(out, v.type.name .. "(nil)")
  end
  add(out, is_go and v.type.name .. "{" or "map[")
  for i, k in ipairs(v.keys) do
    if i > 1 then
      add(out, is_go and ", " or " ")
    end
    print_value(out, verb, k, f, depth + 1)
    add(out, ":")
    print_value(out, verb, v.map[T.raw(k)], f, depth + 1)
  end
  add(out, is_go and "}" or "]")
end

local function print_struct(out, verb, v, f, depth)
  local is_go = f.sharp and verb == "v"
  add(out, is_go and v.type.name .. "{" or "{")
  for i, name in ipairs(v.type.fields) do
    if i > 1 then
      add(out, is_go and ", " or " ")
    end
    if is_go or f.names and verb == "v" then
      add(out, name .. ":")
    end
    print_value(out, verb, v.f[name], f, depth + 1)
  end
  add(out, "}")
end

local PRINT <const> = { slice = print_list, map = print_map, struct = print_struct,
  string = print_string, int = print_int, float = print_float, bool = print_bool }
local WITH_TEXT <const> = { v = true, s = true, q = true, x = true, X = true }

print_value = function(out, verb, v, f, depth)
  S.charge(6)
  S.alloc(32)
  if depth > MAX_DEPTH then
    S.fail(("value nested deeper than %d cannot be printed"):format(MAX_DEPTH))
  end
  local kind = V.kind(v)
  if kind == "nil" then
    if depth > 0 then
      add(out, f.sharp and verb == "v" and "interface {}(nil)" or "<nil>")
    elseif verb == "v" then
      pad(out, "<nil>", f)
    else
      bad_verb(out, verb, v, f)
    end
    return
  end
  local text = (kind == "slice" or kind == "map" or kind == "struct") and v.type.text
  if text and WITH_TEXT[verb] and not (f.sharp and verb == "v") then
    return print_string(out, verb, text(v), f)
  end
  PRINT[kind](out, verb, v, f, depth)
end

------------------------------------------------------------ Sprint, Sprintln, Sprintf

local NO_FLAGS <const> = {}

--- The arguments one after another, a blank between two that are no strings.
---@param args any[]
---@param n integer
function M.sprint(args, n)
  local out, was_string = { n = 0 }, true
  for i = 1, n do
    local is_string = T.is(args[i])
    if i > 1 and not is_string and not was_string then
      add(out, " ")
    end
    print_value(out, "v", args[i], NO_FLAGS, 0)
    was_string = is_string
  end
  return T.concat(out, out.n)
end

--- The arguments with blanks between them and a line break.
function M.sprintln(args, n)
  local out = { n = 0 }
  for i = 1, n do
    if i > 1 then
      add(out, " ")
    end
    print_value(out, "v", args[i], NO_FLAGS, 0)
  end
  add(out, "\n")
  return T.concat(out, out.n)
end

local FLAGS <const> = { ["+"] = "plus", ["-"] = "minus", ["#"] = "sharp", [" "] = "space",
  ["0"] = "zero" }
local MAX_SIZE <const> = 1000000

local Spec = {}
Spec.__index = Spec

-- An index [n] at byte i of the format.
function Spec:index(i)
  if self.s:sub(i, i) ~= "[" then
    return i
  end
  self.reordered = true
  local close = self.s:find("]", i, true)
  local number = close and self.s:sub(i + 1, close - 1):match("^%d+$")
  number = number and #number < 8 and tonumber(number)
  if number and number >= 1 and number <= self.n then
    self.arg, self.after_index = number, true
  else
    self.good = false
  end
  return close and close + 1 or i + 1
end

-- A number or * at byte i: its value, the byte after, and whether the argument for * is bad.
function Spec:size(i)
  if self.s:sub(i, i) == "*" then
    self.after_index = false
    local v = self.args[self.arg]
    local is_good = self.arg <= self.n and math.type(v) == "integer" and math.abs(v) <= MAX_SIZE
    self.arg = self.arg <= self.n and self.arg + 1 or self.arg
    return is_good and v or nil, i + 1, not is_good
  end
  local digits = self.s:match("^%d+", i)
  if not digits then
    return nil, i
  end
  local value = #digits < 8 and tonumber(digits)
  return value and value <= MAX_SIZE and value or nil, i + #digits
end

-- Flags, width and precision from byte i; returns the byte of the verb.
function Spec:read(i)
  local f = {}
  self.f, self.good, self.after_index = f, true, false
  while FLAGS[self.s:sub(i, i)] do
    f[FLAGS[self.s:sub(i, i)]] = true
    i = i + 1
  end
  i = self:index(i)
  local bad
  f.width, i, bad = self:size(i)
  if bad then
    add(self.out, "%!(BADWIDTH)")
  elseif f.width and f.width < 0 then
    f.width, f.minus = -f.width, true
  end
  if f.width and self.after_index then
    self.good = false
  end
  if self.s:sub(i, i) == "." then
    i = i + 1
    if self.after_index then
      self.good = false
    end
    i = self:index(i)
    f.precision, i, bad = self:size(i)
    if bad or f.precision and f.precision < 0 then
      f.precision = nil
      add(self.out, "%!(BADPREC)")
    elseif not f.precision then
      f.precision = 0
    end
  end
  f.zero = f.zero and not f.minus
  return self.after_index and i or self:index(i)
end

-- The verb at byte i; returns the byte after it.
function Spec:verb(i)
  local verb = self.s:match("^[\0-\x7f\xc2-\xf4][\x80-\xbf]*", i)
  if not verb then
    add(self.out, "%!(NOVERB)")
    return #self.s + 1
  end
  local v, f = self.args[self.arg], self.f
  if verb == "v" and f.plus then
    f.plus, f.names = false, true
  end
  if verb == "%" then
    add(self.out, "%")
  elseif not self.good then
    add(self.out, "%!" .. verb .. "(BADINDEX)")
  elseif self.arg > self.n then
    add(self.out, "%!" .. verb .. "(MISSING)")
  else
    self.arg = self.arg + 1
    if verb == "T" and V.is_nothing(v) then
      pad(self.out, "<nil>", f)
    elseif verb == "T" then
      print_string(self.out, "s", V.type_name(v), f)
    else
      print_value(self.out, verb, v, f, 0)
    end
  end
  return i + #verb
end

local function add_extra(self)
  if self.reordered or self.arg > self.n then
    return
  end
  add(self.out, "%!(EXTRA ")
  for i = self.arg, self.n do
    local v = self.args[i]
    if i > self.arg then
      add(self.out, ", ")
    end
    if V.is_nothing(v) then
      add(self.out, "<nil>")
    else
      add(self.out, V.type_name(v) .. "=")
      print_value(self.out, "v", v, NO_FLAGS, 0)
    end
  end
  add(self.out, ")")
end

--- Sprintf.
---@param format string|perigee.jinja.Str
---@param args any[]
---@param n integer
function M.sprintf(format, args, n)
  local s = T.raw(format)
  local self = setmetatable({ s = s, args = args, n = n, arg = 1, out = { n = 0 } }, Spec)
  local at = 1
  while at <= #s do
    S.charge(1)
    local i = s:find("%", at, true)
    if not i then
      add(self.out, T.sub(format, at, #s))
      break
    end
    if i > at then
      add(self.out, T.sub(format, at, i - 1))
    end
    at = self:verb(self:read(i + 1))
  end
  add_extra(self)
  return T.concat(self.out, self.out.n)
end

return M
