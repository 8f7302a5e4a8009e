-- SPDX-License-Identifier: MIT
-- The assistant: a plain table that says which model answers, how, and with which tools.
-- Checking is strict and gives a copy; perigee.assistant{...} raises at the caller's line, so
-- that a misspelt key is found where it stands.  with(base, changes) makes a new one, as `from`
-- another assistant does (layers.lua says how two become one).  Hooks are functions under fixed
-- names, run by hooks.lua; parts (`with`) are tables of some of the keys.
local check = require "perigee.check"
local format = require "perigee.format"
local json = require "perigee.sys.json"
local layers = require "perigee.layers"
local parameters = require "perigee.parameters"
local sampler = require "perigee.sampler"
local tool = require "perigee.tool"

local M = {}

---An assistant: which model answers, how, and with which tools.
---@class perigee.assistant
---@field from string|table        a GGUF file, a Modelfile or another assistant: a path relative to
---                                this file, a name, a table; or a model
---@field with? (string|perigee.part)[]   parts to put together: tables, or files that return one
---@field name? string
---@field description? string
---@field system? string           the system message
---@field parameters? perigee.parameters
---@field sampler? perigee.link[]  the chain of samplers, see sampler.lua; becomes parameters
---@field messages? table[]        messages a chat begins with: { role =, content = }
---@field tools? perigee.tool[]
---@field capabilities? table      what the script asks for: { fs = { read = { "." } } }
---@field template? string|perigee.go_template   Jinja text in place of the model's own template
---@field format? string|table     how calls look in replies: "hermes", "plain", or a format table
---@field adapters? string[]       files that change the model; kept, but not in this version
---@field draft? string[]          models that draft for it; likewise
---@field budget? perigee.budget
---@field on_request? fun(request: perigee.request, ctx: perigee.context): string|table|nil
---    before each reply of the model: change what it is asked, or answer in its place with a string
---@field on_token? fun(text: string, ctx: perigee.context): string|false|nil
---    each piece of a reply as it comes: another text for it, or false to end the reply before it
---@field on_message? fun(message: table, ctx: perigee.context): string|table|false|nil, string?
---    the finished reply: another text for it, or false and a reason to have the model try again
---@field on_tool_call? fun(call: perigee.call, ctx: perigee.context): any, string?
---    before a tool runs: true approves, false and a reason refuse, a string is the result, a table
---    is another call
---@field route? fun(request: perigee.request, ctx: perigee.context): string|perigee.assistant|nil
---    before an answer: the assistant that gives it, if it is to be another one

---A part: keys that `with` adds to an assistant.
---@class perigee.part
---@field name? string             for error texts
---@field system? string           added behind the assistant's own, after an empty line
---@field parameters? perigee.parameters
---@field messages? table[]        added behind the assistant's own
---@field tools? perigee.tool[]
---@field capabilities? table
---@field budget? perigee.budget
---@field on_request? function     hooks as an assistant has them
---@field on_token? function
---@field on_message? function
---@field on_tool_call? function
---@field route? function

---A template of Go, as the TEMPLATE of a Modelfile has it.
---@class perigee.go_template
---@field go string       text of Go's text/template, as TEMPLATE of a Modelfile has it
---@field name? string    for texts of errors
---@field is_default? boolean   used only where the model has no chat template

---What one answer may take; what is over ends it, and is told.
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

local MAX_TABLES <const> = 16
local n_open = 0 -- tables of assistants inside one another that are being checked
local check_table

-- A plain table with a `from` of its own is an assistant; other tables are models.
local function read_from(v, path)
  if type(v) == "string" and v ~= "" or type(v) == "userdata" then return v end
  if type(v) ~= "table" then
    return nil, check.wrong(path, v, "a GGUF file, a Modelfile or another assistant, or a model")
  end
  if rawget(v, "from") == nil and rawget(v, "model") == nil then return v end
  if n_open == MAX_TABLES then
    return nil, ("%s: found more than %d assistants inside one another"):format(path, MAX_TABLES)
  end
  n_open = n_open + 1
  local out, text = check_table(v, path)
  n_open = n_open - 1
  return out, text
end

local GO_TEMPLATE <const> = { go = { kind = "string" }, name = { kind = "string" },
  is_default = { kind = "boolean" } }

local function read_template(v, path)
  if type(v) == "string" then return v end
  if type(v) ~= "table" then
    return nil, check.wrong(path, v, "a string of Jinja text, or { go = text }")
  end
  local out, text = check.table(v, GO_TEMPLATE, path)
  if out and not out.go then return nil, path .. " has no go; add go = the template's text" end
  return out, text
end

local HOOK <const> = { kind = "function" }

---The keys that hold functions of the assistant's.
M.hooks = { "route", "on_request", "on_token", "on_message", "on_tool_call" }

local FIELDS <const> = {
  from = { check = read_from },
  name = { kind = "string" },
  description = { kind = "string" },
  system = { kind = "string" },
  parameters = { kind = "table", check = parameters.check },
  sampler = { kind = "table", expected = "a list of samplers" },
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
for _, name in ipairs(M.hooks) do FIELDS[name] = HOOK end
local ALIASES <const> = { model = "from", options = "parameters" }

local PART <const> = {}
for _, key in ipairs { "name", "system", "parameters", "sampler", "messages", "tools",
  "capabilities", "budget", table.unpack(M.hooks) } do
  PART[key] = FIELDS[key]
end

-- Lists and tables that are there always; a chain of samplers becomes parameters.
local function complete(out, folder)
  for _, key in ipairs { "parameters", "messages", "tools", "budget", "capabilities" } do
    out[key] = out[key] or {}
  end
  if out.sampler then
    local all, text = sampler.merge(out.parameters, out.sampler, "sampler", folder)
    if not all then return nil, text end
    out.parameters, out.sampler = all, nil
  end
  return out
end

---Check a part of assistants; the copy has parameters, messages and tools always.
---@param v any
---@param path string
---@param folder? string   of its file, with its slash
---@return perigee.part?
---@return string? text
function M.check_part(v, path, folder)
  if type(v) == "table" and (rawget(v, "from") ~= nil or rawget(v, "model") ~= nil) then
    local who = path == "" and "the part" or path
    return nil, who .. " has a from: a part is no assistant; leave it out, or use it as from"
  end
  local out, text = check.table(v, PART, path, { options = "parameters" })
  if not out then return nil, text:find("^: ") and "part" .. text or text end
  return complete(out, folder)
end

FIELDS.with = { kind = "table", expected = "a list of parts, { { tools = ... }, \"part.lua\" }",
  check = function(v, path)
    return check.list(v, path, function(part, where)
      if type(part) == "string" and part ~= "" then return part end
      if type(part) == "table" then return M.check_part(part, where) end
      return nil, check.wrong(where, part, "a table of keys, or the path of a file with one")
    end)
  end }

function check_table(t, path, folder)
  local out, text = check.table(t, FIELDS, path, ALIASES)
  if not out then return nil, text:find("^: ") and "assistant" .. text or text end
  if not out.from then
    local who = path == "" and "the assistant" or path
    return nil, who .. ' has no from; add from = "model.gguf"'
  end
  return complete(out, folder)
end

---Check an assistant's table; the copy has parameters, messages and tools always.
---@param t any
---@param folder? string   of the file it is from, with its slash
---@return perigee.assistant?
---@return string? text
function M.check(t, folder)
  return check_table(t, "", folder)
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
  local out = layers.lay(old, new)
  out.from = new.from
  for key in next, changes do -- what is given empty is meant: messages = {}
    key = ALIASES[key] or key
    if type(new[key]) == "table" and next(new[key]) == nil then out[key] = new[key] end
  end
  return out
end

return check.callable(M, function(t)
  local out, text = M.check(t)
  if not out then check.blame(text) end
  return out
end)
