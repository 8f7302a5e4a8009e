-- SPDX-License-Identifier: MIT
-- Strings that remember where they come from.  A plain Lua string is the template's own; a Str is
-- text of which the byte ranges r came from a message ("input"), or that `safe` declared to be HTML
-- already. Everything that makes text does it with sub and concat, so a mark cannot get lost on the
-- way.
local S = require "perigee.jinja.state"

local M = {}

---@class perigee.jinja.Str
---@field s string the text
---@field r integer[]? first and last byte of each input range, in order, not touching
---@field safe boolean? result of the `safe` or `escape` filter
local Str = { kind = "str" }
M.Str = Str

local function make(s, r, safe)
  if r or safe then
    return setmetatable({ s = s, r = r, safe = safe }, Str)
  end
  return s
end
M.make = make

--- Text of a string value, and its input ranges.
---@param v string|perigee.jinja.Str
---@return string, integer[]?
function M.raw(v)
  if type(v) == "string" then
    return v
  end
  return v.s, v.r
end

--- All of v counts as input.
---@param s string
---@return string|perigee.jinja.Str
function M.input(s)
  if s == "" then
    return s
  end
  return make(s, { 1, #s })
end

--- Whether v is a string value.
---@param v any
---@return boolean
function M.is(v)
  return type(v) == "string" or getmetatable(v) == Str
end

local function safe(v)
  local s, r = M.raw(v)
  return make(s, r, true)
end
M.safe = safe

--- The value without the mark "is HTML already".
function M.unsafe(v)
  if type(v) == "string" or not v.safe then
    return v
  end
  return make(v.s, v.r)
end

--- Bytes i to j (positive, inclusive).
---@param v string|perigee.jinja.Str
---@param i integer
---@param j integer
function M.sub(v, i, j)
  if type(v) == "string" then
    S.alloc(j > i and j - i or 0)
    return v:sub(i, j)
  end
  local s = v.s:sub(i, j)
  S.alloc(#s + 16)
  local r, n = nil, 0
  for k = 1, v.r and #v.r or 0, 2 do
    local from, to = v.r[k], v.r[k + 1]
    from, to = from > i and from or i, to < j and to or j
    if from <= to then
      r = r or {}
      r[n + 1], r[n + 2], n = from - i + 1, to - i + 1, n + 2
    end
  end
  return make(s, r, v.safe)
end

local function add_ranges(r, n, more, offset)
  for k = 1, #more, 2 do
    local from, to = more[k] + offset, more[k + 1] + offset
    if n > 0 and r[n] + 1 == from then
      r[n] = to
    else
      r[n + 1], r[n + 2], n = from, to, n + 2
    end
  end
  return n
end

--- One string of list[1..n] (string values); never marked safe.
---@param list (string|perigee.jinja.Str)[]
---@param n integer
---@param sep (string|perigee.jinja.Str)?
function M.concat(list, n, sep)
  local marked, size = sep ~= nil and type(sep) ~= "string", 0
  for i = 1, n do
    local v = list[i]
    if type(v) ~= "string" then
      marked, v = true, v.s
    end
    size = size + #v
  end
  local gap, gap_r = "", nil
  if sep then
    gap, gap_r = M.raw(sep)
  end
  S.alloc(size + (n > 1 and #gap * (n - 1) or 0))
  if not marked then
    return table.concat(list, gap, 1, n)
  end
  local parts, r, n_r, offset = {}, {}, 0, 0
  for i = 1, n do
    local s, more = M.raw(list[i])
    if more then
      n_r = add_ranges(r, n_r, more, offset)
    end
    parts[i], offset = s, offset + #s
    if gap_r and i < n then
      n_r = add_ranges(r, n_r, gap_r, offset)
    end
    offset = offset + #gap
  end
  return make(table.concat(parts, gap), n_r > 0 and r or nil)
end

--- a followed by b.
function M.join2(a, b)
  if type(a) == "string" and type(b) == "string" then
    S.alloc(#a + #b)
    return a .. b
  end
  return M.concat({ a, b }, 2)
end

--- v with f applied to each stretch of equal origin; for mappings that look at one character at a
--- time.
---@param v string|perigee.jinja.Str
---@param f fun(s: string): string
function M.map(v, f)
  if type(v) == "string" then
    S.charge(#v >> 4)
    S.alloc(#v)
    return f(v)
  end
  local parts, n, at = {}, 0, 1
  S.charge(#v.s >> 4)
  for k = 1, v.r and #v.r or 0, 2 do
    local from, to = v.r[k], v.r[k + 1]
    S.charge(4)
    if at < from then
      n = n + 1
      parts[n] = f(v.s:sub(at, from - 1))
    end
    n = n + 1
    parts[n] = M.input(f(v.s:sub(from, to)))
    at = to + 1
  end
  if at <= #v.s then
    n = n + 1
    parts[n] = f(v.s:sub(at))
  end
  local out = M.concat(parts, n)
  return v.safe and safe(out) or out
end

--- v count times (0 and less: nothing).
---@param v string|perigee.jinja.Str
---@param count integer
function M.rep(v, count)
  local s, r = M.raw(v)
  count = count > 0 and count or 0
  if #s * (count + 0.0) > S.limit.string then
    S.fail(("text too large: found %.0f bytes, at most %d"):format(#s * (count + 0.0),
      S.limit.string),
      nil, "budget")
  end
  S.alloc(#s * count)
  if type(v) == "string" then
    return s:rep(count)
  elseif not r or r[1] == 1 and r[2] == #s then
    return make(s:rep(count), r and count > 0 and { 1, #s * count } or nil, v.safe)
  end
  local parts = {}
  S.charge(count)
  for i = 1, count do
    parts[i] = v
  end
  local out = M.concat(parts, count)
  return v.safe and safe(out) or out
end

--- A piece of text made from v as a whole: input when any byte of v is.
---@param s string
---@param v string|perigee.jinja.Str
function M.like(s, v)
  if type(v) ~= "string" and v.r then
    return M.input(s)
  end
  return s
end

--- v cut at each place where find(s, from) reports bytes i..j; at most `max` cuts (nil: all).
---@param v string|perigee.jinja.Str
---@param find fun(s: string, from: integer): integer?, integer?
---@param max integer?
---@return table parts, integer n
function M.cut(v, find, max)
  local s = M.raw(v)
  local parts, n, at = {}, 0, 1
  while not max or n < max do
    local i, j = find(s, at)
    if not i then
      break
    end
    S.charge(2)
    S.alloc(24)
    n = n + 1
    parts[n] = M.sub(v, at, i - 1)
    at = j + 1
  end
  parts[n + 1] = M.sub(v, at, #s)
  return parts, n + 1
end

--- v with the non-empty text old replaced by new, at most max times.
function M.replace(v, old, new, max)
  local parts, n = M.cut(v, function(s, from)
    return s:find(old, from, true)
  end, max)
  if n == 1 then
    return v
  end
  return M.concat(parts, n, new)
end

local ESCAPES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&#34;",
  ["'"] = "&#39;" }

--- HTML-escape v unless it is safe already; the result is safe.
function M.escape(v)
  if type(v) ~= "string" and v.safe then
    return v
  end
  return safe(M.map(v, function(s)
    return (s:gsub("[&<>\"']", ESCAPES))
  end))
end

--- Cut a string value into { text=, input= } segments.
---@return { text: string, input: boolean }[]
function M.segments(v)
  local s, r = M.raw(v)
  local out, at = {}, 1
  for k = 1, r and #r or 0, 2 do
    if at < r[k] then
      out[#out + 1] = { text = s:sub(at, r[k] - 1), input = false }
    end
    out[#out + 1] = { text = s:sub(r[k], r[k + 1]), input = true }
    at = r[k + 1] + 1
  end
  if at <= #s then
    out[#out + 1] = { text = s:sub(at), input = false }
  end
  return out
end

return M
