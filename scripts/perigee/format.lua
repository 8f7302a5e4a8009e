-- SPDX-License-Identifier: MIT
-- Which format replies are in.  A format is a table of markers (formats/*.lua): it says how
-- thinking and calls of tools stand in the text.  It is chosen by what the chat template says, or
-- given by the assistant's format key: a name, or a table of its own:
--   { call = { open = "[CALL]", close = "[/CALL]", name = "name", arguments = "arguments" },
--     thinking = { open = "<think>", close = "</think>" } }
-- call.parse(text) may read what stands between the markers; it returns { name =, arguments = }
-- or a list of such, or nil and what is wrong.
local check = require "perigee.check"

local M = {}

local KNOWN <const> = {
  hermes = require "perigee.formats.hermes",
  plain = require "perigee.formats.plain",
}
local NAMES <const> = check.keys(KNOWN)

---@class perigee.format
---@field name? string
---@field thinking? { open: string, close: string }
---@field call? { open: string, close: string, name: string, arguments: string, parse: function? }

local function marker(v, path)
  if v == "" then return nil, check.wrong(path, v, "a text that marks the place") end
  return v
end

local MARKER <const> = { kind = "string", check = marker }

local function read_markers(fields)
  return function(v, path)
    local out, text = check.table(v, fields, path)
    if not out then return nil, text end
    for _, key in ipairs { "open", "close" } do
      if not out[key] then return nil, ('%s has no %s; add %s = "..."'):format(path, key, key) end
    end
    return out
  end
end

local FIELDS <const> = {
  name = { kind = "string" },
  thinking = { check = read_markers { open = MARKER, close = MARKER } },
  call = { check = read_markers { open = MARKER, close = MARKER, name = MARKER,
    arguments = MARKER, parse = { kind = "function" } } },
}

---Check an assistant's format: a name or a table.
---@param v any
---@param path string
---@return string|perigee.format|nil
---@return string? text
function M.check(v, path)
  if type(v) == "table" then
    local out, text = check.table(v, FIELDS, path)
    if not out then return nil, text end
    out.name = out.name or "own"
    if out.call then
      out.call.name, out.call.arguments = out.call.name or "name", out.call.arguments or "arguments"
    end
    return out
  end
  if type(v) == "string" and KNOWN[v] then return v end
  local near = type(v) == "string" and check.nearest(v, NAMES)
  local text = check.wrong(path, v, "one of " .. table.concat(NAMES, ", ") .. ", or a table")
  return nil, near and text .. "; did you mean " .. near .. "?" or text
end

-- Does the template show calls as JSON between the markers?  Qwen3-Coder and GLM use the same
-- marker around markup of their own.
local function is_hermes(template)
  return template:find("<tool_call>", 1, true) and not template:find("<function=", 1, true)
    and not template:find("<arg_key>", 1, true)
end

---The format of a chat.
---@param given string|perigee.format|nil   the assistant's, checked
---@param template string                   the chat template's text
---@return perigee.format
function M.choose(given, template)
  if type(given) == "table" then return given end
  local name = given or (is_hermes(template) and "hermes" or "plain")
  return KNOWN[name]
end

---Does the prompt end inside thinking, so that the reply begins there?
---@param format perigee.format
---@param prompt perigee.segment[]
---@return boolean
function M.is_thinking(format, prompt)
  local open, last = format.thinking and format.thinking.open, prompt[#prompt]
  if not open or not last or last.input then return false end
  local tail = last.text:sub(-#open - 16):match("^(.-)%s*$")
  return tail:sub(-#open) == open
end

return M
