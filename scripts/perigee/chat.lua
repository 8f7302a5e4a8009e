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
local format = require "perigee.format"
local held = require "perigee.held"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"
local prompt = require "perigee.prompt"
local source = require "perigee.source"
local tool = require "perigee.tool"

local M = {}

---@class perigee.chat.options
---@field approve? fun(call: table): boolean, string?   may this call run? and if not, why
---@field trace? boolean                                answers have "trace" events too

---@class perigee.chat
local Chat = {}
Chat.__index = Chat
Chat.__name = "perigee.chat"
Chat.__metatable = "perigee.chat"

-- What scripts hold is an empty table; what it stands for is kept here.
local PRIVATE <const> = setmetatable({}, { __mode = "k" })

local State = {}
State.__index = State

local OPTIONS <const> = { approve = { kind = "function" }, trace = { kind = "boolean" } }

---The prompt as segments.
function State:render()
  local messages = {}
  if self.system and self.system ~= "" then
    messages[1] = { role = "system", content = self.system }
  end
  table.move(self.messages, 1, #self.messages, #messages + 1, messages)
  return prompt.render(self.prompt, {
    messages = messages, tools = self.definitions, think = self.parameters.think,
  }, self.info)
end

---What each reply is generated with.
function State:generate_options()
  local options = parameters.pick(self.parameters, "answer")
  options.think = nil
  options.special = self.wants_special
  return options
end

local function state_of(chat)
  local self = PRIVATE[chat]
  if not self then error("this is no chat: call its functions with a colon, chat:ask(...)", 3) end
  if self.is_closed then error("the chat is closed", 3) end
  return self
end

local function idle_state_of(chat)
  local self = PRIVATE[chat]
  if not self then error("this is no chat: call its functions with a colon, chat:ask(...)", 3) end
  if self.is_closed then error("the chat is closed", 3) end
  if self.answer then
    error("the chat is answering; let the loop over its events end, or cancel it", 3)
  end
  return self
end

-- Are the markers of the format control tokens, which are not printed unless asked for?
local function wants_special(model, fmt)
  for _, pair in next, { fmt.call or false, fmt.thinking or false } do
    local marker = pair and pair.open
    if marker then
      local ids = model:tokenize(marker, { add_special = false, parse_special = true })
      if ids and model:detokenize(ids, false) == "" then return true end
    end
  end
  return false
end

local function check_format(fmt, assistant)
  if #assistant.tools == 0 or fmt.call then return nil end
  return check.err("format", ("the assistant has tools, but in the format %q a reply has no calls; "
    .. 'this chat template shows none that is known here. Give the assistant a format ("hermes" '
    .. "or a table), or no tools"):format(fmt.name))
end

local function wrap(self)
  local chat = setmetatable({}, Chat)
  PRIVATE[chat] = self
  return chat
end

local function new_state(assistant, options, model, owner)
  local info = model:info()
  local template, err = prompt.new(assistant.template, info)
  if not template then return nil, err end
  local fmt = format.choose(assistant.format, template.source)
  local unfit = check_format(fmt, assistant)
  if unfit then return nil, unfit end
  return setmetatable({
    assistant = assistant, model = model, owner = owner, info = info, prompt = template,
    format = fmt, wants_special = wants_special(model, fmt), tools = assistant.tools,
    definitions = tool.definitions(assistant.tools), budget = assistant.budget,
    parameters = assistant.parameters, system = assistant.system, approve = options.approve,
    trace = options.trace, messages = table.move(assistant.messages, 1, #assistant.messages, 1, {}),
    n_id = 0,
  }, State)
end

-- Open the model, make the state, and give it the session that `begin` makes.
local function open(assistant, options, begin)
  local model, owner = source.open(assistant)
  if not model then return nil, owner end
  local self, err = new_state(assistant, options, model, owner)
  local session
  if self then session, err = begin(self) end
  if not session then
    source.release(owner)
    return nil, check.as_err(err, "session")
  end
  self.session, self.held = session, held.new(model, session)
  return self
end

local function checked(assistant, options)
  local table_of, text = assistants.check(assistant)
  if not table_of then return nil, text end
  local opts, wrong = check.table(options or {}, OPTIONS, "options")
  if not opts then return nil, wrong end
  return table_of, opts
end

local function begin_session(self)
  return self.model:session(parameters.pick(self.parameters, "sampling"))
end

local function new(assistant, options)
  local self, err = open(assistant, options, begin_session)
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
    error(check.wrong("message", message, "a text, or { role = ..., content = ... }"), 2)
  end
  local one, text = assistants.check_message(message, "message")
  if not one then error(text, 2) end
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
    if type(last) == "string" then error(last, 2) end
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
  if type(text) ~= "string" then error(check.wrong("system", text, "a string"), 2) end
  state.system = text
  return text
end

---The parameters; given some, change them for the next question.  json.null: the default again.
---@param changes? perigee.parameters
---@return perigee.parameters
function Chat:set(changes)
  if changes == nil then return check.shallow(state_of(self).parameters) end
  local state = idle_state_of(self)
  local new_ones, forgotten = parameters.changes(changes, "", state.info.sampling)
  if not new_ones then error(forgotten, 2) end
  local fixed = next(parameters.pick(new_ones, "model"))
  if fixed then error(fixed .. " cannot change once the model is open", 2) end
  local all = check.shallow(state.parameters)
  for name, v in next, new_ones do all[name] = v end
  for _, name in ipairs(forgotten) do all[name] = nil end
  local sampling = parameters.pick(new_ones, "sampling")
  if next(sampling) then
    local ok, err = state.session:sampling(sampling)
    if not ok then error(tostring(err), 2) end
  end
  state.parameters = all
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
  local session, err = state.session:fork()
  if not session then return nil, check.as_err(err, "session") end
  local child = setmetatable(check.shallow(state), State)
  child.session, child.held = session, held.fork(state.held, session)
  child.messages = table.move(state.messages, 1, #state.messages, 1, {})
  source.share(child.owner)
  return wrap(child)
end

---A place to come back to.
---@return table
function Chat:mark()
  local state = idle_state_of(self)
  local mark = setmetatable({}, { __name = "perigee.chat.mark", __metatable = false })
  state.marks = state.marks or setmetatable({}, { __mode = "k" })
  state.marks[mark] = { messages = table.move(state.messages, 1, #state.messages, 1, {}),
    system = state.system, n_id = state.n_id, held = held.mark(state.held) }
  return mark
end

---Go back to a mark of this chat.
---@param mark table
---@return boolean? ok
---@return perigee.error? err
function Chat:rewind(mark)
  local state = idle_state_of(self)
  local place = state.marks and mark ~= nil and state.marks[mark]
  if not place then error(check.wrong("rewind", mark, "a mark of this chat"), 2) end
  state.messages = table.move(place.messages, 1, #place.messages, 1, {})
  state.system, state.n_id = place.system, place.n_id
  return held.rewind(state.held, place.held)
end

---Save session and messages: PATH and PATH.chat.json.
---@param path string
---@return boolean? ok
---@return perigee.error? err
function Chat:save(path)
  local state = idle_state_of(self)
  if type(path) ~= "string" then error(check.wrong("save", path, "a path"), 2) end
  local place, refused = source.allowed("write", path)
  if not place then return nil, refused end
  local ok, err = state.session:save(place)
  if not ok then return nil, check.as_err(err, "session") end
  return source.write(path .. ".chat.json", json.encode(check.copy({
    version = 1, messages = state.messages, system = state.system, n_id = state.n_id,
    held = held.save(state.held),
  }, "chat")))
end

---End the chat; the model goes too where the chat opened it.
function Chat:close()
  local state = PRIVATE[self]
  if not state or state.is_closed then return end
  if state.answer then state.answer:cancel() end
  state.is_closed = true
  state.session:close()
  source.release(state.owner)
end
Chat.__close = Chat.close

local function load_state(path)
  local text, err = source.read(path .. ".chat.json")
  if not text then return nil, err end
  local saved, wrong = json.decode(text)
  if saved == nil then
    return nil, check.err("corrupt", path .. ".chat.json: " .. tostring(wrong))
  end
  if not check.is_object(saved) or saved.version ~= 1 or not check.is_array(saved.messages) then
    return nil, check.err("corrupt", path .. ".chat.json: found no chat of version 1")
  end
  local messages, unfit = check.list(saved.messages, "messages", assistants.check_message)
  if not messages then return nil, check.err("corrupt", path .. ".chat.json: " .. unfit) end
  return { messages = messages, system = saved.system, held = saved.held,
    n_id = math.tointeger(saved.n_id) or 0 }
end

local function restore(assistant, options, path)
  local saved, err = load_state(path)
  if not saved then return nil, err end
  local self, wrong = open(assistant, options, function(state)
    local place, refused = source.allowed("read", path)
    if not place then return nil, refused end
    return state.model:restore(place)
  end)
  if not self then return nil, wrong end
  self.messages, self.system, self.n_id = saved.messages, saved.system, saved.n_id
  held.restore(self.held, saved.held)
  return wrap(self)
end

---A chat saved before.
---@param assistant perigee.assistant
---@param path string
---@param options? perigee.chat.options
---@return perigee.chat?
---@return perigee.error? err
function M.restore(assistant, path, options)
  local known, opts = checked(assistant, options)
  if not known then error(opts, 2) end
  return restore(known, opts, path)
end

-- perigee.chat(assistant, options) -> chat | nil, err.  Waits while the model loads.
return check.callable(M, function(assistant, options)
  local known, opts = checked(assistant, options)
  if not known then error(opts, 2) end
  local chat, err = new(known, opts)
  return chat, err
end)
