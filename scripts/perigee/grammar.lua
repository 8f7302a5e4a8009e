-- SPDX-License-Identifier: MIT
-- What a reply must look like, as a grammar in GBNF (core/run/grammar.h describes the notation):
--   format = "json"                          a JSON object
--   format = { type = "object", ... }        JSON that fits a JSON Schema (grammar/schema.lua)
--   format = { choice = { "yes", "no" } }    one of these texts
--   format = { regex = "[0-9]+ apples" }     a text that the whole expression fits
-- A session takes it beside its sampling parameters; in a chat it is the parameter `format`, and
-- there thinking and calls of tools stay possible: see `reply`.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local pieces = require "perigee.grammar.json"
local regex = require "perigee.grammar.regex"
local schema = require "perigee.grammar.schema"
local text = require "perigee.grammar.text"

local M = {}

---@alias perigee.format_of_reply "json"|table|{ choice: string[] }|{ regex: string }

local EXPECTED <const> = '"json", a JSON Schema, { choice = { ... } } or { regex = "..." }'

local function choice(list, path)
  local words, out = check.strings(list, path)
  if not words then return nil, out end
  if #words == 0 then return nil, path .. ": found no choices" end
  out = {}
  for i, word in ipairs(words) do out[i] = text.literal(word) end
  return table.concat(out, " | ")
end

local function expression(source, path)
  if type(source) ~= "string" then return nil, check.wrong(path, source, "a regular expression") end
  local body, wrong = regex.read(source, text.class)
  if not body then return nil, ("%s: %s: %s"):format(path, source, wrong) end
  return body
end

-- The body of the rule that stands for the format.
local function body_of(rules, format, path)
  if format == "json" then
    pieces.value(rules)
    return "object"
  elseif type(format) ~= "table" then
    return nil, check.wrong(path, format, EXPECTED)
  elseif format.choice ~= nil and next(format, next(format)) == nil then
    return choice(format.choice, check.join(path, "choice"))
  elseif format.regex ~= nil and next(format, next(format)) == nil then
    return expression(format.regex, check.join(path, "regex"))
  end
  return schema.add(rules, format, path)
end

-- The engine's word on what was made; a grammar may be too large.
local function checked(source, path)
  local ok, err = engine.grammar(source)
  if not ok then return nil, path .. ": " .. tostring(err) end
  return source
end

---The grammar of a format.
---@param format perigee.format_of_reply
---@param path? string   for messages
---@return string? gbnf
---@return string? message
function M.of(format, path)
  local rules = text.rules()
  local body, wrong = body_of(rules, format, path or "format")
  if not body then return nil, wrong end
  rules:add("root", body)
  return checked(rules:text(), path or "format")
end

---A checked copy of a format.
---@param format any
---@param path string
---@return perigee.format_of_reply?
---@return string? message
function M.check(format, path)
  local copy, wrong = format, nil
  if type(format) == "table" then copy, wrong = check.copy(format, path) end
  if wrong then return nil, wrong end
  local ok, message = M.of(copy, path)
  if not ok then return nil, message end
  return copy
end

---Does a text fit a grammar?
---@param gbnf string
---@param s string
---@return "whole"|"beginning"|"no"|nil fits
---@return perigee.error? err   the grammar is none
function M.match(gbnf, s)
  return engine.grammar(gbnf, s)
end

-- Any text up to and with `mark`, which is found where it stands first: one rule for each beginning
-- of the mark that may have been read.
local function up_to(rules, mark)
  local chars, names, seen, ranges = {}, {}, {}, {}
  for _, cp in utf8.codes(mark) do
    chars[#chars + 1] = cp
    names[#names + 1] = rules:name "until"
    if not seen[cp] then ranges[#ranges + 1] = { cp, cp } end
    seen[cp] = true
  end
  -- The longest beginning of the mark that the first n characters and then cp end with.
  local function after(n, cp)
    for k = n + 1, 1, -1 do
      local fits = chars[k] == cp
      for i = 1, k - 1 do fits = fits and chars[i] == chars[n - k + 1 + i] end
      if fits then return k end
    end
    return 0
  end
  for n = 0, #chars - 1 do
    local out = { text.class(text.complement(ranges)) .. " " .. names[1] }
    for _, r in ipairs(ranges) do
      local k = after(n, r[1])
      out[#out + 1] = text.class { r } .. (k < #chars and " " .. names[k + 1] or "")
    end
    rules:add(names[n + 1], table.concat(out, " | "))
  end
  return names[1]
end

---The grammar of a reply in a chat: thinking first, where the model thinks, and calls of tools in
---the place of the formatted text.
---@param wanted perigee.format_of_reply
---@param fmt perigee.format     how replies of this model look
---@param thinking "inside"|"may"|"never"   inside: so ends the prompt, and the grammar waits for
---    the end of it
---@param has_tools boolean
---@return string? gbnf
---@return string[]|string triggers   or the message
function M.reply(wanted, fmt, thinking, has_tools)
  local rules = text.rules()
  local body, wrong = body_of(rules, wanted, "format")
  if not body then return nil, wrong end
  local parts = { "(" .. body .. ")" }
  if has_tools then
    local open = fmt.call and fmt.call.open
    if not open then
      return nil, ("format: in the format %s nothing marks a call, so tools cannot be told from a "
        .. "formatted text"):format(fmt.name or "of this model")
    end
    parts[2] = text.literal(open) .. " .*"
  end
  parts = { "(" .. table.concat(parts, " | ") .. ")" }
  if thinking == "inside" then
    table.insert(parts, 1, "gap")
  elseif thinking == "may" and fmt.thinking then
    table.insert(parts, 1, ("(%s %s gap)?"):format(text.literal(fmt.thinking.open),
      up_to(rules, fmt.thinking.close)))
  end
  rules:once("gap", "[ \\t\\n]{0,4}")
  rules:add("root", table.concat(parts, " "))
  local source, message = checked(rules:text(), "format")
  if not source then return nil, message end
  return source, thinking == "inside" and { fmt.thinking.close } or {}
end

return M
