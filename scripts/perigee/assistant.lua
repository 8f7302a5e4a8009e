-- SPDX-License-Identifier: MIT
-- The assistant: a plain table that says which model answers, how, and with which tools.
-- Checking is strict and gives a copy; perigee.assistant{...} raises at the caller's line, so
-- that a misspelt key is found where it stands.  with(base, changes) makes a new one: parameters,
-- capabilities and budget are merged, tools of the same name replaced and others added,
-- everything else taken from the changes.
local check = require "perigee.check"
local format = require "perigee.format"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"
local tool = require "perigee.tool"

local M = {}

---@class perigee.assistant
---@field from string|table        a GGUF file or a Modelfile, relative to the script; or a model
---@field name? string
---@field description? string
---@field system? string           the system message
---@field parameters? perigee.parameters
---@field messages? table[]        messages a chat begins with: { role =, content = }
---@field tools? perigee.tool[]
---@field capabilities? table      what the script asks for: { fs = { read = { "." } } }
---@field template? string|perigee.go_template   Jinja text in place of the model's own template
---@field format? string|table     how calls look in replies: "hermes", "plain", or a format table
---@field adapters? string[]       files that change the model; kept, but not in this version
---@field draft? string[]          models that draft for it; likewise
---@field budget? perigee.budget

---@class perigee.go_template
---@field go string       text of Go's text/template, as TEMPLATE of a Modelfile has it
---@field name? string    for texts of errors

---@class perigee.budget
---@field calls? integer     calls of tools in one answer, 8 unless given
---@field rounds? integer    replies of the model in one answer, 16 unless given
---@field seconds? number    of one answer, without limit unless given

local ROLES <const> = { "system", "user", "assistant", "tool" }

local function read_role(v, path)
  if v == "developer" then return "system" end
  for _, role in ipairs(ROLES) do
    if v == role then return v end
  end
  local near = check.nearest(v, ROLES)
  local text = check.wrong(path, v, "one of " .. table.concat(ROLES, ", "))
  return nil, near and text .. "; did you mean " .. near .. "?" or text
end

local MESSAGE <const> = {
  role = { kind = "string", check = read_role },
  content = { kind = "string" },
  reasoning_content = { kind = "string" },
  name = { kind = "string" },
  tool_call_id = { kind = "string" },
  tool_calls = { kind = "table", expected = "a list of calls", check = check.copy },
}

-- arguments arrive as text or as an object; a conversation holds objects.
local function read_calls(message, path)
  if not check.is_array(message.tool_calls) then
    return check.wrong(path .. ".tool_calls", message.tool_calls, "a list of calls")
  end
  for i, call in ipairs(message.tool_calls) do
    local where = ("%s.tool_calls[%d].function"):format(path, i)
    local f = type(call) == "table" and call["function"]
    if type(f) ~= "table" or type(f.name) ~= "string" then
      return check.wrong(where, f or nil, "{ name = ..., arguments = ... }")
    end
    if type(f.arguments) == "string" then
      local args, err = json.decode(f.arguments)
      if args == nil then return where .. ".arguments: " .. tostring(err) end
      f.arguments = args
    end
  end
end

---Check one message.
---@param v any
---@param path string
---@return table? message
---@return string? text
function M.check_message(v, path)
  local message, text = check.table(v, MESSAGE, path, { thinking = "reasoning_content" })
  if not message then return nil, text end
  if not message.role then return nil, path .. ' has no role; add role = "user"' end
  if message.tool_calls then
    local wrong = read_calls(message, path)
    if wrong then return nil, wrong end
  elseif not message.content then
    return nil, path .. ' has no content; add content = "..."'
  end
  message.content = message.content or ""
  return message
end

local function read_messages(v, path)
  return check.list(v, path, M.check_message)
end

local PATHS <const> = { check = check.strings, expected = "a folder or a list of folders" }
local CAPABILITIES <const> = {
  fs = { check = function(v, path)
    return check.table(v, { read = PATHS, write = PATHS }, path)
  end },
  net = PATHS, exec = PATHS, env = PATHS, time = { kind = "boolean" },
}

local function positive(kind)
  return { kind = "number", check = function(v, path)
    local n = kind == "integer" and math.tointeger(v) or kind == "number" and v
    if not n or n <= 0 then return nil, check.wrong(path, v, "an amount above 0") end
    return n
  end }
end

local BUDGET <const> = {
  calls = positive "integer", rounds = positive "integer", seconds = positive "number",
}

local function read_from(v, path)
  local is_model = type(v) == "table" or type(v) == "userdata"
  if type(v) == "string" and v ~= "" or is_model then return v end
  return nil, check.wrong(path, v, "the path of a GGUF file or a Modelfile, or a model")
end

local GO_TEMPLATE <const> = { go = { kind = "string" }, name = { kind = "string" } }

local function read_template(v, path)
  if type(v) == "string" then return v end
  if type(v) ~= "table" then
    return nil, check.wrong(path, v, "a string of Jinja text, or { go = text }")
  end
  local out, text = check.table(v, GO_TEMPLATE, path)
  if out and not out.go then return nil, path .. " has no go; add go = the template's text" end
  return out, text
end

local FIELDS <const> = {
  from = { check = read_from },
  name = { kind = "string" },
  description = { kind = "string" },
  system = { kind = "string" },
  parameters = { kind = "table", check = parameters.check },
  messages = { kind = "table", expected = "a list of messages", check = read_messages },
  tools = { kind = "table", expected = "a list of tools", check = tool.check_list },
  capabilities = { kind = "table", check = function(v, path)
    return check.table(v, CAPABILITIES, path)
  end },
  template = { check = read_template },
  adapters = { check = check.strings, expected = "a path or a list of paths" },
  draft = { check = check.strings, expected = "a path or a list of paths" },
  format = { check = format.check },
  budget = { kind = "table", check = function(v, path) return check.table(v, BUDGET, path) end },
}
local ALIASES <const> = { model = "from", options = "parameters" }

---Check an assistant's table; the copy has parameters, messages and tools always.
---@param t any
---@return perigee.assistant?
---@return string? text
function M.check(t)
  local out, text = check.table(t, FIELDS, "", ALIASES)
  if not out then return nil, text:find("^: ") and "assistant" .. text or text end
  if not out.from then return nil, 'the assistant has no from; add from = "model.gguf"' end
  for _, key in ipairs { "parameters", "messages", "tools", "budget", "capabilities" } do
    out[key] = out[key] or {}
  end
  return out
end

local function merge_tools(base, changes)
  local out, at = {}, {}
  for i, one in ipairs(base) do
    out[i], at[one.name] = one, i
  end
  for _, one in ipairs(changes) do
    out[at[one.name] or #out + 1] = one
  end
  return out
end

local function merge(base, changes)
  local out = check.shallow(base)
  for key, v in next, changes do out[key] = v end
  return out
end

---An assistant that differs from another in some keys.
---@param base perigee.assistant
---@param changes table
---@return perigee.assistant
function M.with(base, changes)
  local old, text = M.check(base)
  if not old then check.blame("with: the first argument: " .. text) end
  if type(changes) ~= "table" then check.blame(check.wrong("with: changes", changes, "a table")) end
  local full = check.shallow(changes)
  if full.from == nil and full.model == nil then full.from = old.from end
  local new, wrong = M.check(full)
  if not new then check.blame(wrong) end
  local out = check.shallow(old)
  for key in next, changes do
    key = ALIASES[key] or key
    out[key] = new[key]
  end
  out.parameters = merge(old.parameters, new.parameters)
  out.capabilities = merge(old.capabilities, new.capabilities)
  out.budget = merge(old.budget, new.budget)
  out.tools = merge_tools(old.tools, new.tools)
  return out
end

return check.callable(M, function(t)
  local out, text = M.check(t)
  if not out then check.blame(text) end
  return out
end)
