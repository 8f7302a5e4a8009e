-- SPDX-License-Identifier: MIT
-- What a chat is underneath (chat.lua is the object that scripts hold): the assistant, its open
-- model, the messages, the session with what is known about its text, and saving all of it.
local assistants = require "perigee.assistant"
local check = require "perigee.check"
local format = require "perigee.format"
local held = require "perigee.held"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"
local prompt = require "perigee.prompt"
local source = require "perigee.source"
local tool = require "perigee.tool"

local M = {}

---@class perigee.conversation
---@field model table          of the engine
---@field info table           model:info()
---@field owner? perigee.source.owner
---@field session table
---@field held perigee.held
---@field prompt perigee.prompt
---@field format perigee.format
---@field format_note string   how it was chosen
---@field messages table[]     without the system text
---@field system? string
---@field tools perigee.tool[]
---@field definitions table    tools as the template is shown them
---@field parameters perigee.parameters
---@field budget perigee.budget
---@field approve? fun(call: table): boolean, string?
---@field trace? boolean
---@field warnings table[]     events for the next answer
---@field answer? perigee.answer   the one under way
---@field n_id integer         calls so far, for their ids
local State = {}
State.__index = State

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

---Write session and messages: PATH and PATH.chat.json.
---@param path string
---@return boolean? ok
---@return perigee.error? err
function State:save(path)
  local place, refused = source.locate(path, "write")
  if not place then return nil, refused end
  local ok, err = self.session:save(place)
  if not ok then return nil, check.as_err(err, "session") end
  return source.write(path .. ".chat.json", json.encode(check.copy({
    version = 1, messages = self.messages, system = self.system, n_id = self.n_id,
    held = held.save(self.held),
  }, "chat")))
end

-- Are the markers of the format control tokens, which are not printed unless asked for?
local function wants_special(model, fmt)
  for _, marker in ipairs(format.markers(fmt)) do
    local ids = model:tokenize(marker, { add_special = false, parse_special = true })
    if ids and model:detokenize(ids, false) ~= model:detokenize(ids, true) then return true end
  end
  return false
end

local function check_format(fmt, assistant)
  if #assistant.tools == 0 or fmt.call then return nil end
  return check.err("format", ("the assistant has tools, but in the format %q a reply has no calls; "
    .. 'this chat template shows none that is known here. Give the assistant a format ("hermes" '
    .. "or a table), or no tools"):format(fmt.name))
end

---What is wanted and the template knows nothing of: events for the next answer.
---@param assistant { tools: table, parameters: perigee.parameters }
---@param template perigee.prompt
---@return table[]
function M.unheeded(assistant, template)
  local out = {}
  local function warn(text)
    out[#out + 1] = { type = "warning", code = "template", text = text }
  end
  if #assistant.tools > 0 and not prompt.knows(template, "tools") then
    warn "the chat template does not show tools, so the model knows of none"
  end
  if assistant.parameters.think ~= nil and not prompt.knows(template, "think") then
    local name = template.go and ".Think" or "enable_thinking"
    warn(("the chat template knows no %s; think has no effect"):format(name))
  end
  return out
end

-- What the template writes for a conversation that has been answered.
local function writer(template, info)
  return function(messages, tools)
    local segments = prompt.render(template, { messages = messages, tools = tools,
      is_closed = true }, info)
    return segments and prompt.text(segments)
  end
end

local function new_state(assistant, options, model, owner)
  local info = model:info()
  local template, err = prompt.new(assistant.template, info)
  if not template then return nil, err end
  local fmt, note = format.choose(assistant.format, template.source,
    #assistant.tools > 0 and writer(template, info) or nil)
  local unfit = check_format(fmt, assistant)
  if unfit then return nil, unfit end
  return setmetatable({
    assistant = assistant, model = model, owner = owner, info = info, prompt = template,
    format = fmt, format_note = note, wants_special = wants_special(model, fmt),
    tools = assistant.tools, definitions = tool.definitions(assistant.tools),
    budget = assistant.budget, parameters = assistant.parameters, system = assistant.system,
    approve = options.approve, trace = options.trace,
    messages = table.move(assistant.messages, 1, #assistant.messages, 1, {}),
    n_id = 0, warnings = M.unheeded(assistant, template),
  }, State)
end

-- The assistant with its Modelfile under it, and events for the next answer.
local function resolve(assistant)
  local whole, result = source.resolve(assistant)
  if not whole then return nil, result end
  if result and result.problems[1] then return nil, check.err("model", result.problems[1]) end
  local events = {}
  for i, text in ipairs(result and result.warnings or {}) do
    events[i] = { type = "warning", code = "modelfile", text = text }
  end
  return whole, events
end

-- Open the model, make the state, and give it the session that `begin` makes.
local function open(given, options, begin)
  local assistant, events = resolve(given)
  if not assistant then return nil, events end
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
  table.move(events, 1, #events, #self.warnings + 1, self.warnings)
  return self
end

---A new conversation; waits while the model loads.
---@param assistant perigee.assistant   checked
---@param options perigee.chat.options
---@return perigee.conversation?
---@return perigee.error? err
function M.new(assistant, options)
  return open(assistant, options, function(state)
    return state.model:session(parameters.pick(state.parameters, "sampling"))
  end)
end

---A fork of the session and all that belongs to it.
---@return perigee.conversation?
---@return perigee.error? err
function State:fork()
  local session, err = self.session:fork()
  if not session then return nil, check.as_err(err, "session") end
  local child = setmetatable(check.shallow(self), State)
  child.session, child.held = session, held.fork(self.held, session)
  child.messages = table.move(self.messages, 1, #self.messages, 1, {})
  source.share(child.owner)
  return child
end

---Give session and model back.
function State:close()
  if self.is_closed then return end
  if self.answer then self.answer:cancel() end
  self.is_closed = true
  self.session:close()
  source.release(self.owner)
end

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
  return { messages = messages, held = saved.held,
    system = type(saved.system) == "string" and saved.system or nil,
    n_id = math.tointeger(saved.n_id) or 0 }
end

---A conversation saved before.
---@param assistant perigee.assistant   checked
---@param options perigee.chat.options
---@param path string
---@return perigee.conversation?
---@return perigee.error? err
function M.restore(assistant, options, path)
  local saved, err = load_state(path)
  if not saved then return nil, err end
  local self, wrong = open(assistant, options, function(state)
    local place, refused = source.locate(path, "read")
    if not place then return nil, refused end
    return state.model:restore(place)
  end)
  if not self then return nil, wrong end
  self.messages, self.system, self.n_id = saved.messages, saved.system, saved.n_id
  held.restore(self.held, saved.held)
  return self
end

return M
