-- SPDX-License-Identifier: MIT
-- /set: parameters of sampling and answers, and what the conversation itself can be told.  The
-- words are those of Ollama; `/set NAME VALUE` alone is a parameter, `/set NAME default` takes it
-- back.
local check = require "perigee.check"
local conversations = require "perigee.cli.conversations"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"
local sampler = require "perigee.sampler"

local M = {}

local branch_of = conversations.branch_of
local UNSET <const> = { default = true, unset = true }

---"temp 0.2, top_k 40"
---@param all perigee.parameters
---@return string
function M.text(all)
  local words = {}
  for _, name in ipairs(check.keys(all)) do
    local v = all[name]
    local text = type(v) == "string" and v
    if name == "samplers" then text = sampler.text(v) end
    if name == "logit_bias" then text = ("of %d tokens"):format(#json.keys(v)) end
    words[#words + 1] = name .. " " .. (text or json.encode((check.copy(v, name))))
  end
  if #words == 0 then return "as the model file recommends, else the defaults" end
  return table.concat(words, ", ")
end

-- The first reading of a word that the parameter takes: a number, true or false, a text.
local function read_value(name, word)
  local readings, first = { tonumber(word) }, nil
  if word == "true" or word == "false" then readings[#readings + 1] = word == "true" end
  readings[#readings + 1] = word
  for _, v in ipairs(readings) do
    local checked, text = parameters.check({ [name] = v }, "")
    if checked then return checked end
    first = first or text
  end
  return nil, first
end

-- Change parameters of the branch, and remember that they were.
local function change(self, changes)
  local branch = branch_of(self)
  local ok, err = branch.chat:set(changes)
  if not ok then return "/set: " .. tostring(err) end
  for name, v in next, changes do branch.changes[name] = v end
  self.screen:say("Parameters: " .. M.text(branch.chat:set()))
end

local function unset(self, name)
  local canonical = parameters.kind(name)
  if not canonical then return "/set: " .. select(2, parameters.check({ [name] = 0 }, "")) end
  local changes, text = parameters.changes({ [canonical] = json.null }, "",
    branch_of(self).chat:info().sampling)
  if not changes then return "/set: " .. text end
  return change(self, { [canonical] = json.null })
end

local function parameter(self, rest)
  local name, word = rest:match("^(%S+)%s+(.-)%s*$")
  if not name then
    if rest ~= "" then
      return ("/set: the value is missing, /set parameter %s VALUE"):format(rest)
    end
    return self.screen:say("Parameters: " .. M.text(branch_of(self).chat:set()))
  end
  name = name:gsub("-", "_")
  local changes, text
  if UNSET[word] then changes = { [parameters.kind(name) or name] = 1 } end
  if not changes then changes, text = read_value(name, word) end
  if not changes then return "/set: " .. text end
  local known = parameters.kind((next(changes)))
  local fixed = known and next(parameters.pick({ [known] = 1 }, "model"))
  if fixed then
    return ("/set: %s is fixed while the model is open; start again with --%s"):format(fixed, fixed)
  end
  if UNSET[word] then return unset(self, name) end
  return change(self, changes)
end

---@param self perigee.cli.repl
---@param rest string
function M.system(self, rest)
  local chat = branch_of(self).chat
  if rest == "" then
    local text = chat:system()
    self.screen:say(text and text ~= "" and text or "There is no system message.")
  else
    chat:system((rest:gsub('^"""(.*)"""$', "%1"):gsub('^"(.*)"$', "%1")))
    self.screen:say("The system message is set; it holds from your next message on.")
  end
end

local function think(self, rest)
  local changes = read_value("think", rest == "" and "true" or rest)
  if not changes then
    return ("/set think: found %q, expected low, medium, high or nothing"):format(rest)
  end
  return change(self, changes)
end

local function format(self, rest)
  local value = rest
  if rest:sub(1, 1) == "{" then
    local schema, wrong = json.decode(rest)
    if not schema then return "/set format: " .. tostring(wrong) end
    value = schema
  elseif rest ~= "json" then
    return ("/set format: found %q, expected json or a JSON Schema"):format(rest)
  end
  local changes, text = parameters.check({ format = value }, "")
  if not changes then return "/set " .. text end
  return change(self, changes)
end

local function history(is_kept)
  return function(self)
    if not host.keep_history(is_kept) then return "/set: this terminal keeps no history" end
    self.screen:say(is_kept and "Lines are kept in the history."
      or "Lines are kept in the history no more.")
  end
end

local function wordwrap(is_on)
  return function(self)
    local ok = self.screen:set_wrap(is_on)
    if not ok then return "/set: the width of this terminal is not known" end
    self.screen:say(is_on and "Lines are broken between words." or "The terminal breaks lines.")
  end
end

local function verbose(is_on)
  return function(self)
    self.shows_stats = is_on
    self.screen:say(is_on and "Tokens and speed are told after each answer."
      or "Tokens and speed are not told.")
  end
end

-- { words, what it does, function }
local LIST <const> = {
  { "parameter", "NAME VALUE", "a parameter: temp, top_k, max, ...; VALUE default takes it back",
    parameter },
  { "system", "TEXT", "the system message", M.system },
  { "history", "", "keep what is typed", history(true) },
  { "nohistory", "", "keep it no more", history(false) },
  { "wordwrap", "", "break lines between words", wordwrap(true) },
  { "nowordwrap", "", "let the terminal break lines", wordwrap(false) },
  { "format", "json", "replies are JSON; or a JSON Schema that they keep to", format },
  { "noformat", "", "replies are free text", function(self) return unset(self, "format") end },
  { "verbose", "", "tell tokens and speed after each answer", verbose(true) },
  { "quiet", "", "do not", verbose(false) },
  { "think", "[LEVEL]", "let the model think first: low, medium or high, or as it does", think },
  { "nothink", "", "ask it not to", function(self) return change(self, { think = false }) end },
}

local function usage(self)
  local lines = { "Parameters: " .. M.text(branch_of(self).chat:set()) }
  for _, row in ipairs(LIST) do
    lines[#lines + 1] = ("  %-28s %s"):format("/set " .. row[1] .. " " .. row[2], row[3])
  end
  self.screen:say(table.concat(lines, "\n"))
end

---@param self perigee.cli.repl
---@param rest string
---@return string? text   what is wrong
function M.set(self, rest)
  if rest == "" then return usage(self) end
  local word, more = rest:match("^(%S+)%s*(.*)$")
  for _, row in ipairs(LIST) do
    if row[1] == word then
      if row[2] == "" and more ~= "" then
        return ("/set %s takes no value; found %q"):format(word, more)
      end
      return row[4](self, more)
    end
  end
  return parameter(self, rest)
end

return M
