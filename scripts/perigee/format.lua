-- SPDX-License-Identifier: MIT
-- Which format replies are in.  A format is a table of markers (formats/*.lua): it says how
-- thinking and calls of tools stand in the text.  It is chosen by what the chat template says, else
-- derived from what the template writes (formats/derive.lua), or given by the assistant's format
-- key: a name, or a table of its own:
--   { call = { open = "[CALL]", close = "[/CALL]", name = "name", arguments = "arguments" },
--     thinking = { open = "<think>", close = "</think>" } }
-- What is written between the markers is call.syntax (formats/read.lua); close = false is a call
-- that ends where its brackets do. call.parse(text) may read it instead; it returns { name =,
-- arguments = } or a list of such, or nil and what is wrong.
local check = require "perigee.check"
local derive = require "perigee.formats.derive"
local fields = require "perigee.formats.fields"

local M = {}

-- Asked in this order whether a template is theirs: those with more particular words first.
local FAMILIES <const> = {
  require "perigee.formats.seed_oss",
  require "perigee.formats.minimax_m2",
  require "perigee.formats.deepseek_v32",
  require "perigee.formats.deepseek_r1",
  require "perigee.formats.deepseek_v31",
  require "perigee.formats.kimi_k2",
  require "perigee.formats.gemma4",
  require "perigee.formats.functiongemma",
  require "perigee.formats.cohere",
  require "perigee.formats.mistral_args",
  require "perigee.formats.mistral",
  require "perigee.formats.gpt_oss",
  require "perigee.formats.lfm2",
  require "perigee.formats.apertus",
  require "perigee.formats.nemotron_nano",
  require "perigee.formats.apriel",
  require "perigee.formats.olmo3",
  require "perigee.formats.functools",
  require "perigee.formats.granite",
  require "perigee.formats.glm",
  require "perigee.formats.qwen_coder",
  require "perigee.formats.hermes",
  require "perigee.formats.functionary",
  require "perigee.formats.pythonic",
  require "perigee.formats.llama3",
  require "perigee.formats.plain",
}

local KNOWN <const> = {}
for _, family in ipairs(FAMILIES) do KNOWN[family.name] = family end
local NAMES <const> = check.keys(KNOWN)

---Check an assistant's format: a name or a table.
---@param v any
---@param path string
---@return string|perigee.format|nil
---@return string? text
function M.check(v, path)
  if type(v) == "table" then return fields.check(v, path) end
  if type(v) == "string" and KNOWN[v] then return v end
  local near = type(v) == "string" and check.nearest(v, NAMES)
  if near then
    return nil, ("%s: found %s; did you mean %s?"):format(path, check.describe(v), near)
  end
  return nil, check.wrong(path, v, "one of " .. table.concat(NAMES, ", ") .. ", or a table")
end

-- The families as an assistant's own table would be read, so that they keep to the same rules.
for i, family in ipairs(FAMILIES) do
  local format, text = fields.check(family, family.name)
  if not format then error(text, 0) end
  FAMILIES[i], KNOWN[family.name] = format, format
end

local function has_all(template, words)
  for _, word in ipairs(words) do
    if not template:find(word, 1, true) then return false end
  end
  return true
end

---The family whose words a template shows.
---@param template string
---@return perigee.format?
---@return string? words
function M.recognise(template)
  for _, family in ipairs(FAMILIES) do
    for _, words in ipairs(family.shows or {}) do
      if has_all(template, words) then return family, table.concat(words, " and ") end
    end
  end
  return nil
end

---The families, in the order in which they are asked.
---@return perigee.format[]
function M.families()
  return table.move(FAMILIES, 1, #FAMILIES, 1, {})
end

---The format of a chat.
---@param given string|perigee.format|nil   the assistant's, checked
---@param template string                   the chat template's text
---@param render? fun(messages: table[], tools: table): string?   to find out what calls look like
---@return perigee.format
---@return string note   how it was chosen, for the trace
function M.choose(given, template, render)
  if type(given) == "table" then
    return given, ("format %s: the assistant's own table"):format(given.name)
  end
  if given then return KNOWN[given], ("format %s: the assistant says so"):format(given) end
  local family, words = M.recognise(template)
  if family then
    return family, ("format %s: the chat template shows %s"):format(family.name, words)
  end
  local derived = render and derive.format(render)
  if derived then
    local call = derived.call
    return derived, ("format derived: the chat template writes calls as %s behind %s"):format(
      call.syntax, call.open or call.bare)
  end
  return KNOWN.plain, "format plain: the chat template shows none that is known"
end

---All markers of a format: texts that may be control tokens, which are printed only when asked for.
---@param format perigee.format
---@return string[]
function M.markers(format)
  local out = {}
  local function add(list)
    for _, v in ipairs(list) do
      if v then out[#out + 1] = v end
    end
  end
  local function add_pair(pair)
    if pair then add { pair.open or false, pair.close or false } end
  end
  local call, channels = format.call or {}, format.channels or {}
  add_pair(format.thinking)
  add_pair(format.section)
  add_pair(call)
  add_pair(call.key)
  add_pair(call.value)
  add { call.separator or false, call.id_separator or false, call.kind_separator or false,
    call.quote or false, channels.message or false }
  add(format.skip or {})
  add(channels.ends or {})
  add(channels.begins or {})
  return out
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
