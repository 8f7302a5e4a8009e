-- SPDX-License-Identifier: MIT
-- Values as Python writes them, and as Gemma writes them: strings in quotes of their own, keys
-- without quotes.  Read into what perigee.sys.json gives.  True, None and their JSON spellings
-- are read alike, because models mix them.
--   literal.calls('[f(a="x", b=[1]), g()]')
--   literal.gemma('call:f{a:<|"|>x<|"|>,b:[1]}', '<|"|>')
local json = require "perigee.sys.json"
local scan = require "perigee.formats.scan"

local M = {}

local MAX_DEPTH <const> = 64
local WORDS <const> = { True = true, ["true"] = true, False = false, ["false"] = false,
  None = json.null, ["null"] = json.null }
local ESCAPES <const> = { n = "\n", t = "\t", r = "\r", b = "\b", f = "\f", v = "\v", a = "\a",
  ["0"] = "\0", ["\n"] = "" }
local CODES <const> = { x = "^%x%x", u = "^%x%x%x%x", U = "^%x%x%x%x%x%x%x%x" }

-- Errors are raised as tables of this kind and caught in `guarded`.
local Fault = {}

local function fail(r, expected)
  local found = r.at > #r.text and "the end" or ("%q"):format(r.text:sub(r.at, r.at + 11))
  error(setmetatable({ text = ("found %s at byte %d, expected %s"):format(found, r.at, expected) },
    Fault), 0)
end

local function skip(r)
  r.at = r.text:match("^%s*()", r.at)
end

local function accept(r, s)
  skip(r)
  if r.text:sub(r.at, r.at + #s - 1) ~= s then return false end
  r.at = r.at + #s
  return true
end

local function expect(r, s)
  if not accept(r, s) then fail(r, ("%q"):format(s)) end
end

-- \n, \x41, \u0041 ...; the place is behind the backslash.  What is no escape keeps its backslash.
local function escape(r)
  local c = r.text:sub(r.at, r.at)
  local digits = CODES[c] and r.text:match(CODES[c], r.at + 1)
  if digits then
    r.at = r.at + 1 + #digits
    local code = tonumber(digits, 16)
    local low = code >= 0xD800 and code < 0xDC00 and r.text:match("^\\u(%x%x%x%x)", r.at)
    if low then
      code, r.at = 0x10000 + (code - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00, r.at + 6
    end
    local is_character = code < 0xD800 or code > 0xDFFF and code <= 0x10FFFF
    return is_character and utf8.char(code) or "\u{FFFD}"
  end
  r.at = r.at + 1
  return ESCAPES[c] or (c:find("[\\'\"]") and c or "\\" .. c)
end

local function quoted(r, quote)
  local out = {}
  while true do
    local at = r.text:find("[\\" .. quote:sub(1, 1) .. "]", r.at)
    if not at then
      r.at = #r.text + 1
      fail(r, quote .. " at the end of a text")
    end
    out[#out + 1] = r.text:sub(r.at, at - 1)
    if r.text:sub(at, at + #quote - 1) == quote then
      r.at = at + #quote
      return table.concat(out)
    end
    r.at = at + 1
    out[#out + 1] = r.text:sub(at, at) == "\\" and escape(r) or r.text:sub(at, at)
  end
end

local function string_of(r)
  if r.quote then
    if not accept(r, r.quote) then return nil end
    local from, to = r.text:find(r.quote, r.at, true)
    if not from then
      r.at = #r.text + 1
      fail(r, r.quote)
    end
    local out = r.text:sub(r.at, from - 1)
    r.at = to + 1
    return out
  end
  for _, quote in ipairs { '"""', "'''", '"', "'" } do
    if accept(r, quote) then return quoted(r, quote) end
  end
  return nil
end

local value

local function list_of(r, close)
  local out = {}
  while not accept(r, close) do
    if #out > 0 then
      expect(r, ",")
      if accept(r, close) then break end
    end
    out[#out + 1] = value(r)
  end
  return json.array(out)
end

local function key_of(r)
  if not r.quote then return string_of(r) or fail(r, "a key in quotes") end
  local key = string_of(r)
  if key then return key end
  key = r.text:match("^[^:{}%[%],]+", r.at)
  if not key then fail(r, "a key") end
  r.at = r.at + #key
  return (scan.split_end(key))
end

-- Members up to "}", or to ")" of a call, whose keys are names before "=".
local function members(r, close, read_key, sign)
  local out, seen = {}, {}
  while not accept(r, close) do
    if #out > 0 then
      expect(r, ",")
      if accept(r, close) then break end
    end
    skip(r)
    local key = read_key(r)
    if seen[key] then fail(r, ("each name once, %s is given twice"):format(key)) end
    seen[key] = true
    expect(r, sign)
    out[#out + 1] = { key, value(r) }
  end
  return json.object(out)
end

local function scalar(r)
  local token = r.text:match("^[%w_%.%+%-]+", r.at)
  if not token then fail(r, "a value") end
  local v = WORDS[token]
  if v == nil and token:find("^[%+%-%.]?%d") then
    v = json.decode(token)
    if v == nil then v = tonumber((token:gsub("_", ""))) end
  end
  if v == nil then fail(r, "a value") end
  r.at = r.at + #token
  return v
end

function value(r)
  r.depth = r.depth + 1
  if r.depth > MAX_DEPTH then fail(r, "values nested less deep") end
  local v = string_of(r)
  if v == nil then
    if accept(r, "[") then
      v = list_of(r, "]")
    elseif not r.quote and accept(r, "(") then
      v = list_of(r, ")")
    elseif accept(r, "{") then
      v = members(r, "}", key_of, ":")
    else
      v = scalar(r)
    end
  end
  r.depth = r.depth - 1
  return v
end

local function guarded(text, quote, read)
  local r = { text = text, at = 1, depth = 0, quote = quote }
  local ok, out = pcall(read, r)
  if ok then return out end
  if getmetatable(out) == Fault then return nil, out.text, r.name end
  error(out, 0)
end

local function argument_name(r)
  local name = r.text:match("^[%a_][%w_]*", r.at)
  if not name or not r.text:find("^%s*=", r.at + #name) then
    fail(r, "an argument with its name, name=value")
  end
  r.at = r.at + #name
  return name
end

local function python_call(r)
  skip(r)
  local name = r.text:match("^[%a_][%w_%.%-]*", r.at)
  if not name then fail(r, "a call, name(argument=value)") end
  r.at, r.name = r.at + #name, name
  expect(r, "(")
  return { name = name, arguments = members(r, ")", argument_name, "=") }
end

---Calls as Python writes them, in a list or one after the other.
---@param text string
---@return { name: string, arguments: table }[]?
---@return string? text   what is wrong
---@return string? name   of the call that cannot be read
function M.calls(text)
  return guarded(text, nil, function(r)
    local out, in_list = {}, accept(r, "[")
    repeat
      out[#out + 1] = python_call(r)
      while accept(r, ",") or accept(r, ";") do skip(r) end
      skip(r)
    until r.at > #r.text or in_list and accept(r, "]")
    skip(r)
    if r.at <= #r.text then fail(r, "nothing behind the calls") end
    return out
  end)
end

---A call as Gemma writes it.
---@param text string
---@param quote string   around strings
---@return { name: string, arguments: table }?
---@return string? text
---@return string? name
function M.gemma(text, quote)
  return guarded(text, quote, function(r)
    accept(r, "call:")
    skip(r)
    local name = r.text:match("^[^%s{}()]+", r.at)
    if not name then fail(r, "the tool's name") end
    r.at, r.name = r.at + #name, name
    expect(r, "{")
    local args = members(r, "}", key_of, ":")
    skip(r)
    if r.at <= #r.text then fail(r, "nothing behind the call") end
    return { name = name, arguments = args }
  end)
end

---One value as Python writes it.
---@param text string
---@return any
---@return string? text
function M.value(text)
  return guarded(text, nil, function(r)
    local v = value(r)
    skip(r)
    if r.at <= #r.text then fail(r, "nothing behind the value") end
    return v
  end)
end

return M
