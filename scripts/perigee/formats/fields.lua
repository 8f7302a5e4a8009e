-- SPDX-License-Identifier: MIT
-- The table that describes a format: its keys, and the checks of them.
local check = require "perigee.check"

local M = {}

---@class perigee.format
---@field name? string
---@field shows? string[][]      a template with all words of one of these lists is of the format
---@field thinking? { open: string, close: string }
---@field skip? string[]         markers that only frame the text
---@field section? { open: string, close: string }   around all calls of a reply
---@field call? perigee.format.call
---@field channels? perigee.format.channels
---@field ids? { form: string, pattern: string }   how the template wants the calls' ids

---@class perigee.format.call
---@field open? string           needed, unless there are channels or bare is given
---@field close string|false     false: the call ends where its brackets are closed
---@field syntax string          "json", "named", "tags", "python", "gemma"
---@field name? string           json: the key of the tool's name
---@field arguments? string      json: the key of the arguments
---@field id? string             json: the key of the id
---@field name_is_key? boolean   json: {"f": {...}}
---@field separator? string      named: between name and arguments
---@field id_separator? string   named: between name and id
---@field kind_separator? string named: what is before it is no name
---@field name_pattern? string   named: finds the name in what is before the separator
---@field name_prefix? string    named: is no part of the name
---@field name_is_id? boolean    named: what is before the separator is the id too
---@field tail? string           named: behind the arguments
---@field name_close? string     tags: behind the name; else it ends at the first key
---@field key? { open: string, close: string }      tags: around an argument's name
---@field value? { open: string?, close: string, has_newlines: boolean? }   tags: around its value
---@field quote? string          gemma: around strings
---@field bare? string           the bracket a call without opening marker begins with
---@field prefix? string         the end of the opening marker that is a part of the call
---@field is_loose? boolean      calls are taken outside of the section, too
---@field in_thinking? boolean   and inside thinking
---@field parse? fun(text: string): table?, string?

local function marker(v, path)
  if v == "" then return nil, check.wrong(path, v, "a text that marks the place") end
  return v
end

local MARKER <const> = { kind = "string", check = marker }
local TEXT <const> = { kind = "string" }
local FLAG <const> = { kind = "boolean" }

-- Do the keys stand in a table?
local function need(out, path, keys)
  for _, key in ipairs(keys) do
    if out[key] == nil then return nil, ('%s has no %s; add %s = "..."'):format(path, key, key) end
  end
  return out
end

local function read_markers(fields, ...)
  local keys = { ... }
  return function(v, path)
    local out, text = check.table(v, fields, path)
    if not out then return nil, text end
    return need(out, path, keys)
  end
end

local function read_pattern(v, path)
  local ok, text = check.try(string.find, "", v)
  if not ok then return nil, check.wrong(path, v, "a Lua pattern (" .. tostring(text) .. ")") end
  return v
end

local function read_close(v, path)
  if v == false then return false end
  if type(v) ~= "string" or v == "" then
    return nil, check.wrong(path, v, "a marker, or false where the call ends with its brackets")
  end
  return v
end

local function read_bare(v, path)
  if v == "{" or v == "[" then return v end
  return nil, check.wrong(path, v, '"{" or "["')
end

-- Keys that a syntax needs.
local SYNTAXES <const> = { json = {}, named = { "separator" }, tags = { "key", "value" },
  python = {}, gemma = { "quote" } }

local function read_syntax(v, path)
  if SYNTAXES[v] then return v end
  return nil, check.wrong(path, v, "one of " .. table.concat(check.keys(SYNTAXES), ", "))
end

local PATTERN <const> = { kind = "string", check = read_pattern }
local PAIR <const> = { open = MARKER, close = MARKER }

local CALL <const> = {
  open = MARKER, close = { check = read_close }, syntax = { check = read_syntax }, name = MARKER,
  arguments = MARKER, id = MARKER, name_is_key = FLAG, separator = MARKER, id_separator = MARKER,
  kind_separator = MARKER, name_pattern = PATTERN, name_prefix = MARKER, name_is_id = FLAG,
  tail = MARKER, name_close = MARKER, quote = MARKER, bare = { check = read_bare }, prefix = TEXT,
  is_loose = FLAG, in_thinking = FLAG, parse = { kind = "function" },
  key = { check = read_markers(PAIR, "open", "close") },
  value = { check = read_markers({ open = MARKER, close = MARKER, has_newlines = FLAG }, "close") },
}

local function read_call(v, path)
  local out, text = check.table(v, CALL, path)
  if not out then return nil, text end
  out.syntax = out.syntax or "json"
  out.name, out.arguments = out.name or "name", out.arguments or "arguments"
  out, text = need(out, path, { "close" })
  if not out then return nil, text end
  if out.parse and not out.close then
    return nil, path .. ".close: found false beside parse, expected a marker"
  end
  return need(out, path, SYNTAXES[out.syntax])
end

local function read_words(v, path)
  return check.list(v, path, check.strings)
end

-- Markers in a list; "" marks nothing.
local function read_list(v, path)
  return check.list(v, path, function(x, where)
    if type(x) ~= "string" or x == "" then return nil, check.wrong(where, x, "a marker") end
    return x
  end)
end

local function read_form(v, path)
  local ok, made = check.try(string.format, v, 1)
  if ok and made ~= v then return v end
  return nil, check.wrong(path, v, "a text with one number in it, like call%05d")
end

local function read_kinds(v, path)
  if type(v) ~= "table" then return nil, check.wrong(path, v, "a table") end
  for channel, kind in next, v do
    if type(channel) ~= "string" or kind ~= "text" and kind ~= "thinking" then
      return nil, check.wrong(check.join(path, channel), kind, '"text" or "thinking"')
    end
  end
  return check.shallow(v)
end

local CHANNELS <const> = { message = MARKER, recipient = PATTERN, channel = PATTERN,
  kinds = { check = read_kinds }, ends = { check = read_list }, begins = { check = read_list } }

local FIELDS <const> = {
  name = TEXT,
  shows = { check = read_words },
  thinking = { check = read_markers(PAIR, "open", "close") },
  section = { check = read_markers(PAIR, "open", "close") },
  skip = { check = read_list },
  call = { check = read_call },
  channels = { check = read_markers(CHANNELS, "message", "recipient", "channel", "kinds", "ends",
    "begins") },
  ids = { check = read_markers({ form = { kind = "string", check = read_form },
    pattern = PATTERN }, "form", "pattern") },
}

---Check a format's table.
---@param v table
---@param path string
---@return perigee.format?
---@return string? text
function M.check(v, path)
  local out, text = check.table(v, FIELDS, path)
  if not out then return nil, text end
  out.name = out.name or "own"
  if out.section and not out.call then
    return nil, path .. ".section: found a section without call, expected both"
  end
  if out.call and not out.channels and (out.section or not out.call.bare) then
    local _, missing = need(out.call, path .. ".call", { "open" })
    if missing then return nil, missing end
  end
  return out
end

return M
