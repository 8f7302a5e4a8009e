-- SPDX-License-Identifier: MIT
-- A conversation with a model: messages, the session that holds them as tokens, tools and their
-- budget.
--   local chat <close> = assert(perigee.chat { from = "m.gguf", system = "..." })
--   print(chat:ask("What is your name?"))
--   for ev in chat:send("And what can you do?") do ... end      (events: see answer.lua)
-- Messages are the truth; what the session holds of them is brought up to date before each reply,
-- and only what is new is fed (held.lua).  So editing the conversation is editing messages.
local answer = require "perigee.answer"
local assistants = require "perigee.assistant"
local calls = require "perigee.calls"
local check = require "perigee.check"
local conversation = require "perigee.conversation"
local held = require "perigee.held"
local json = require "perigee.sys.json"
local lineage = require "perigee.lineage"
local parameters = require "perigee.parameters"
local prompt = require "perigee.prompt"
local thinking = require "perigee.thinking"

local M = {}

---What a chat is made with, besides its assistant.
---@class perigee.chat.options
---@field model? string|table     a model file, or a model, in place of the assistant's own
---@field over? perigee.part      keys that lie over the assistant's
---@field approve? fun(call: table): boolean, string?   may this call run? and if not, why
---@field trace? boolean                                answers have "trace" events too

---A conversation with an assistant.
---@class perigee.chat
local Chat = {}
Chat.__index = Chat
Chat.__name = "perigee.chat"
Chat.__metatable = "perigee.chat"

-- What scripts hold is an empty table; what it stands for is kept here.
local PRIVATE <const> = setmetatable({}, { __mode = "k" })

local OPTIONS <const> = {
  approve = { kind = "function" }, trace = { kind = "boolean" },
  over = { check = assistants.check_part },
  model = { check = function(v, path)
    local kind = type(v)
    if kind == "string" or kind == "table" or kind == "userdata" then return v end
    return nil, check.wrong(path, v, "the path of a model file, or a model")
  end },
}

local function state_of(chat)
  local self = PRIVATE[chat]
  if not self then check.blame("this is no chat: call with a colon, chat:ask(...)") end
  if self.is_closed then check.blame("the chat is closed") end
  return self
end

local function idle_state_of(chat)
  local self = state_of(chat)
  if self.answer then answer.bury(self.answer) end
  if self.answer then
    check.blame("the chat is answering; let the loop over its events end, or cancel it")
  end
  return self
end

local function wrap(self)
  local chat = setmetatable({}, Chat)
  PRIVATE[chat] = self
  return chat
end
conversation.wrap = wrap

local function checked(assistant, options)
  if type(assistant) == "string" then assistant = { from = assistant } end
  local table_of, text = assistants.check(assistant)
  if not table_of then return nil, text end
  local opts, wrong = check.table(options or {}, OPTIONS, "options")
  if not opts then return nil, wrong end
  return table_of, opts
end

local function new(assistant, options)
  local self, err = conversation.new(assistant, options)
  if not self then return nil, err end
  return wrap(self)
end

---Send a message and get the answer's events: for ev in chat:send("...") do ... end
---@param message string|table   text, or { role =, content = }
---@return perigee.answer
function Chat:send(message)
  local state = idle_state_of(self)
  if type(message) == "string" then
    message = { role = "user", content = message }
  elseif type(message) ~= "table" then
    check.blame(check.wrong("message", message, "a text, or { role = ..., content = ... }"))
  end
  local one, text = assistants.check_message(message, "message")
  if not one then check.blame(text) end
  local n_before = #state.messages
  state.messages[n_before + 1] = one
  state.answer = answer.new(state, n_before)
  return state.answer, nil, nil, state.answer
end

local HALTED <const> = {
  calls = "the budget of calls for one answer is used up",
  rounds = "the budget of replies for one answer is used up",
  seconds = "the time for the answer is over",
  loop = "the model made the same call again and again",
}

---Send a message and wait for the whole answer.
---@param message string|table
---@return string? text
---@return perigee.event|perigee.error info   the "done" event, with warnings; or what went wrong
function Chat:ask(message)
  idle_state_of(self)
  local ok, last, warnings = pcall(function()
    local done, list = nil, {}
    for event in self:send(message) do
      if event.type == "done" then done = event end
      if event.type == "warning" then list[#list + 1] = event end
    end
    return done, list
  end)
  if not ok then
    if type(last) == "string" then error(last, 0) end
    return nil, check.as_err(last, "engine")
  end
  last.warnings = warnings
  if HALTED[last.why] then return nil, check.err(last.why, HALTED[last.why], last) end
  return last.text, last
end

---Stop the answer that is under way, if any.
function Chat:cancel()
  local state = state_of(self)
  if state.answer then state.answer:cancel() end
end

---A copy of the messages, without the system text.
---@return table[]
function Chat:messages()
  return check.copy(state_of(self).messages, "messages")
end

---The system text; given one, set it for the next question.
---@param text? string
---@return string?
function Chat:system(text)
  if text == nil then return state_of(self).system end
  local state = idle_state_of(self)
  if type(text) ~= "string" then check.blame(check.wrong("system", text, "a string")) end
  state.system, state.has_own_system = text, true
  return text
end

---The parameters; given some, change them for the next question.  json.null: the default again.
---@param changes? perigee.parameters
---@return perigee.parameters?
---@return perigee.error? err
function Chat:set(changes)
  if changes == nil then return check.shallow(state_of(self).parameters) end
  local state = idle_state_of(self)
  local new_ones, forgotten = parameters.changes(changes, "", state.info.sampling)
  if not new_ones then check.blame(forgotten) end
  local fixed = next(parameters.pick(new_ones, "model"))
  if fixed then check.blame(fixed .. " cannot change once the model is open") end
  local all = check.shallow(state.parameters)
  for name, v in next, new_ones do all[name] = v end
  if new_ones.think ~= nil then
    local text = thinking.unheeded(state.prompt, new_ones.think)
    state.warnings = text and { { type = "warning", code = "template", text = text } } or {}
  end
  for _, name in ipairs(forgotten) do all[name] = nil end
  local sampling = parameters.pick(new_ones, "sampling")
  if next(sampling) then
    local ok, err = state:set_sampling(sampling)
    if not ok then return nil, err end
  end
  state.parameters = all
  state:close_routed() -- they are opened again with these parameters
  for name, v in next, new_ones do state.changed[name] = v end
  for _, name in ipairs(forgotten) do state.changed[name] = json.null end
  return check.shallow(all)
end

---The tools: name, description, signature.
---@return table[]
function Chat:tools()
  return calls.list(state_of(self).tools)
end

---Counts of the session and facts about the model.
---@return table
function Chat:stats()
  local state = state_of(self)
  local out = check.shallow(state.session:stats() or {})
  out.n_tok, out.n_ctx, out.n_message = state.session:n_tok(), state.info.n_ctx, #state.messages
  return out
end

---What the model says about itself.
---@return table
function Chat:info()
  return check.shallow(state_of(self).info)
end

---The prompt as it would be fed now.
---@return string?
---@return perigee.error?
function Chat:prompt()
  local segments, err = state_of(self):render()
  if not segments then return nil, err end
  return prompt.text(segments)
end

---A second chat that goes on from here, with what is held shared.
---@return perigee.chat?
---@return perigee.error? err
function Chat:fork()
  local state = idle_state_of(self)
  local child, err = state:fork()
  if not child then return nil, err end
  return wrap(child)
end

---A place to come back to.
---@return table?
---@return perigee.error? err
function Chat:mark()
  local state = idle_state_of(self)
  local place, err = held.mark(state.held)
  if not place then return nil, err end
  local mark = setmetatable({}, { __name = "perigee.chat.mark", __metatable = false })
  state.marks = state.marks or setmetatable({}, { __mode = "k" })
  state.marks[mark] = { messages = table.move(state.messages, 1, #state.messages, 1, {}),
    system = state.system, n_id = state.n_id, held = place, n_first = state.n_first,
    assistant = state.assistant }
  return mark
end

---Go back to a mark of this chat.
---@param mark table
---@return boolean? ok
---@return perigee.error? err
function Chat:rewind(mark)
  local state = idle_state_of(self)
  local place = state.marks and mark ~= nil and state.marks[mark]
  if not place then check.blame(check.wrong("rewind", mark, "a mark of this chat")) end
  if place.assistant == state.assistant then
    state.messages = table.move(place.messages, 1, #place.messages, 1, {})
    state.system = place.system
  else -- reloaded since: its own messages and system text are the new ones
    state.messages = state:begin_with(place.messages, place.n_first)
  end
  state.n_id = place.n_id
  return held.rewind(state.held, place.held)
end

---Has a file that the assistant was read from changed since?
---@return string? path   the first that has
function Chat:changed()
  return lineage.changed(state_of(self):all_files())
end

---Go on as the assistant's files are now, or with another assistant.  The messages stay, and so do
---parameters and a system text that were set here.  What fails leaves the chat as it was.
---@param assistant? string|perigee.assistant
---@return boolean? ok
---@return perigee.error? err
---@async
function Chat:reload(assistant)
  local state, given = idle_state_of(self), nil
  if assistant ~= nil then
    local text
    given, text = checked(assistant)
    if not given then check.blame(text) end
  end
  return state:reload(given)
end

---What the assistant is called, and the files it was read from.
---@return { name?: string, description?: string, label: string, files: string[] }
function Chat:assistant()
  local state = state_of(self)
  local files = {}
  for i, file in ipairs(state:all_files()) do files[i] = file.path end
  return { name = state.assistant.name, description = state.assistant.description,
    label = state.label, files = files }
end

---Save session and messages: PATH and PATH.chat.json.
---@param path string
---@return boolean? ok
---@return perigee.error? err
function Chat:save(path)
  local state = idle_state_of(self)
  if type(path) ~= "string" then check.blame(check.wrong("save", path, "a path")) end
  return state:save(path)
end

---End the chat; the model goes too where the chat opened it.
function Chat:close()
  local state = PRIVATE[self]
  if state then state:close() end
end
Chat.__close = Chat.close

---A chat saved before.
---@param assistant string|perigee.assistant
---@param path string
---@param options? perigee.chat.options
---@return perigee.chat?
---@return perigee.error? err
function M.restore(assistant, path, options)
  local known, opts = checked(assistant, options)
  if not known then check.blame(opts) end
  local self, err = conversation.restore(known, opts, path)
  if not self then return nil, err end
  return wrap(self)
end

-- perigee.chat(assistant, options) -> chat | nil, err.  Waits while the model loads.  An assistant
-- is a table, or the path or the name of one.
return check.callable(M, function(assistant, options)
  local known, opts = checked(assistant, options)
  if not known then check.blame(opts) end
  local chat, err = new(known, opts)
  return chat, err
end)
