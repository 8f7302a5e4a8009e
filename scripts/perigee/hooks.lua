-- SPDX-License-Identifier: MIT
-- Hooks: functions of an assistant that see and change an answer on its way.
--
--   route(request, ctx)        once, before an answer: the assistant that gives it (a path, a name
--                              or a table; one without from uses this chat's model); nil: this one
--   on_request(request, ctx)   before each reply of the model.  request = { messages, system,
--                              parameters }, copies: what is changed in them, or returned in their
--                              place, holds for this reply.  A string is the answer: no model is
--                              asked
--   on_token(text, ctx)        each piece of a reply's text: a string takes its place, false ends
--                              the reply before it
--   on_message(message, ctx)   the finished reply { role, content, tool_calls }: a string or a
--                              message takes the place of its text; false and a reason: the model
--                              is told the reason and tries again, three times at most.  With this
--                              hook a reply's text is given out when it is finished
--   on_tool_call(call, ctx)    before a tool runs, call = { name, arguments, id }: nil goes on
--                              (with what was changed in it), true needs no approval, false and a
--                              reason refuse it, a string is its result, a table { name,
--                              arguments } is another call
--
-- Order: what `from` names first, then the parts of `with` in their order, then the assistant
-- itself; each sees what the one before made of it, and who answers, refuses or ends is the last
-- that is asked.  Hooks run in the answer's coroutine: they may wait, and it counts for
-- budget.seconds.  An error in one ends this answer and leaves the chat as it was before.
local assistants = require "perigee.assistant"
local check = require "perigee.check"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"

local M = {}

---What is asked of the model, as hooks see it.
---@class perigee.request
---@field messages table[]                { role =, content = }, without the system text
---@field system? string
---@field parameters perigee.parameters   for this reply

---A call of a tool, as hooks see it.
---@class perigee.call
---@field name string
---@field arguments table
---@field id string

---What hooks know besides their first argument.
---@class perigee.context
---@field assistant string    what error texts call the assistant
---@field question string     the text of the message that is being answered
---@field round integer       which reply of this answer it is, from 1
---@field model table         what the model says about itself: path, architecture, n_ctx, ...
---@field state table         empty at first; kept as long as the chat, through reloads and in forks
local Context = {}
Context.__index = Context
Context.__name = "perigee.context"
Context.__metatable = "perigee.context"

local PRIVATE <const> = setmetatable({}, { __mode = "k" })

---A warning event for the answer.
---@param text string
function Context:warn(text)
  local push = PRIVATE[self] or check.blame("call with a colon: ctx:warn(text)")
  if type(text) ~= "string" then check.blame(check.wrong("warn", text, "a string")) end
  push.event { type = "warning", code = "hook", text = text }
end

---A chat like this one before the question, without hooks, to try things; close it.
---@return perigee.chat?
---@return perigee.error? err
---@async
function Context:fork()
  local own = PRIVATE[self] or check.blame("call with a colon: ctx:fork()")
  return own.fork()
end

---A context for one run of a hook.
---@param fields table
---@param own { event: function, fork: function }
---@return perigee.context
function M.context(fields, own)
  local ctx = setmetatable(fields, Context)
  PRIVATE[ctx] = own
  return ctx
end

---Does any of the hooks have this name?
---@param chain table[]
---@param name string
---@return boolean
function M.has(chain, name)
  for _, hooks in ipairs(chain) do
    if hooks[name] then return true end
  end
  return false
end

local function places(err)
  local lines = {}
  for level = 2, 40 do
    local _, place = pcall(error, "", level)
    place = place:gsub(": $", "")
    if place ~= "" and not place:find("^perigee%.") then lines[#lines + 1] = "  " .. place end
  end
  return { raised = err, lines = table.concat(lines, "\n") }
end

-- Call a hook; an error in it becomes one that names it.
local function call(hooks, name, ...)
  local ok, a, b = xpcall(hooks[name], places, ...)
  if ok then return a, b end
  local raised, lines = a, nil
  if type(a) == "table" and rawget(a, "raised") ~= nil then raised, lines = a.raised, a.lines end
  local err = check.as_err(raised, "hook")
  error(check.err("hook", ("%s (in %s of %s)"):format(err.message, name, hooks.source),
    { traceback = lines, error = err }), 0)
end

local function wrong(hooks, name, text)
  error(check.err("hook", ("%s of %s: %s"):format(name, hooks.source, text)), 0)
end

local REQUEST <const> = {
  messages = { kind = "table", expected = "a list of messages", check = function(v, path)
    return check.list(v, path, assistants.check_message)
  end },
  system = { kind = "string" },
  parameters = { kind = "table", check = parameters.check },
}

local function copy_request(request)
  local messages = check.copy(request.messages, "messages")
  local list = table.move(messages, 1, #messages, 1, {})
  return { messages = list, system = request.system,
    parameters = check.shallow(request.parameters) }
end

local function read_request(hooks, v)
  local out, text = check.table(v, REQUEST, "")
  if not out then wrong(hooks, "on_request", text) end
  if not out.messages or not out.parameters then
    wrong(hooks, "on_request", "the request has no messages, or no parameters")
  end
  return out
end

---Run on_request.
---@param chain table[]
---@param request perigee.request
---@param ctx fun(): perigee.context
---@return perigee.request|string   a string answers
function M.request(chain, request, ctx)
  for _, hooks in ipairs(chain) do
    if hooks.on_request then
      local given = copy_request(request)
      local v, err = call(hooks, "on_request", given, ctx())
      if type(v) == "string" then return v end
      if v == nil and err ~= nil then error(check.as_err(err, "hook"), 0) end
      if v ~= nil and type(v) ~= "table" then
        wrong(hooks, "on_request", check.wrong("result", v, "a request, a string, or nothing"))
      end
      request = read_request(hooks, v or given)
    end
  end
  return request
end

---Run route.
---@param chain table[]
---@param request perigee.request
---@param ctx fun(): perigee.context
---@return string|table|nil   the assistant that answers
function M.route(chain, request, ctx)
  for _, hooks in ipairs(chain) do
    if hooks.route then
      local v = call(hooks, "route", copy_request(request), ctx())
      if type(v) == "string" or type(v) == "table" then return v end
      if v ~= nil then
        wrong(hooks, "route", check.wrong("result", v, "a path, a name, an assistant, or nothing"))
      end
    end
  end
end

---Run on_token.
---@param chain table[]
---@param text string
---@param ctx fun(): perigee.context
---@return string text       what is shown of it
---@return boolean? is_over  the reply ends here
function M.token(chain, text, ctx)
  for _, hooks in ipairs(chain) do
    if hooks.on_token and text ~= "" then
      local v = call(hooks, "on_token", text, ctx())
      if v == false then return "", true end
      if v ~= nil and type(v) ~= "string" then
        wrong(hooks, "on_token", check.wrong("result", v, "a string, false, or nothing"))
      end
      text = v or text
    end
  end
  return text
end

local function text_of(hooks, v, given)
  if v == nil then v = given end
  if type(v) == "string" then return v end
  local content = type(v) == "table" and rawget(v, "content") or nil
  if type(content) ~= "string" then
    wrong(hooks, "on_message", check.wrong("result", v, "a string, a message, false, or nothing"))
  end
  return content
end

---Run on_message.
---@param chain table[]
---@param message table
---@param ctx fun(): perigee.context
---@return string? text     nil where the reply is refused
---@return string? reason
function M.message(chain, message, ctx)
  local text = message.content
  for _, hooks in ipairs(chain) do
    if hooks.on_message then
      local given = { role = "assistant", content = text,
        reasoning_content = message.reasoning_content,
        tool_calls = message.tool_calls and check.copy(message.tool_calls, "tool_calls") }
      local v, reason = call(hooks, "on_message", given, ctx())
      if v == false then
        return nil, type(reason) == "string" and reason or "That is not acceptable. Try again."
      end
      text = text_of(hooks, v, given)
    end
  end
  return text
end

---What on_tool_call makes of a call.
---@class perigee.verdict
---@field result? string      instead of running it
---@field reason? string      refused
---@field is_approved? boolean
---@field changed? table      { name =, arguments = }

local function read_call(hooks, v)
  local name, arguments = rawget(v, "name"), rawget(v, "arguments")
  local copy, text = check.copy(arguments, "arguments")
  if type(name) ~= "string" or type(arguments) ~= "table" or text then
    wrong(hooks, "on_tool_call", text or "the call has no name, or no arguments")
  end
  return { name = name, arguments = copy }
end

---Run on_tool_call.
---@param chain table[]
---@param one { name: string, arguments: table, id: string }
---@param ctx fun(): perigee.context
---@return perigee.verdict
function M.tool_call(chain, one, ctx)
  local verdict, now = {}, { name = one.name, arguments = one.arguments }
  for _, hooks in ipairs(chain) do
    if hooks.on_tool_call then
      local given = { name = now.name, arguments = check.copy(now.arguments, ""), id = one.id }
      local v, reason = call(hooks, "on_tool_call", given, ctx())
      if v == false then
        return { reason = type(reason) == "string" and reason or "The assistant refused it." }
      elseif type(v) == "string" then
        return { result = v }
      elseif v == true then
        verdict.is_approved = true
      elseif v ~= nil and type(v) ~= "table" then
        wrong(hooks, "on_tool_call",
          check.wrong("result", v, "true, false, a string, a call, or nothing"))
      end
      now = read_call(hooks, type(v) == "table" and v or given)
    end
  end
  local before, after = json.encode(one.arguments, { sort = true }), json.encode(now.arguments,
    { sort = true })
  if now.name ~= one.name or before ~= after then verdict.changed = now end
  return verdict
end

return M
