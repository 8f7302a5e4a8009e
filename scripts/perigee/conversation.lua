-- SPDX-License-Identifier: MIT
-- What a chat is underneath (chat.lua is the object that scripts hold): the assistant, its open
-- model, the messages, the session with what is known about its text, and saving all of it.  The
-- assistant can be replaced by another, or by itself read anew, while the messages stay.
local assistants = require "perigee.assistant"
local check = require "perigee.check"
local format = require "perigee.format"
local held = require "perigee.held"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"
local prompt = require "perigee.prompt"
local source = require "perigee.source"
local thinking = require "perigee.thinking"
local tool = require "perigee.tool"

local M = {}

---@class perigee.conversation
---@field given perigee.assistant      as the chat was made of it
---@field assistant perigee.assistant  the same with everything it builds on
---@field options perigee.chat.options
---@field files { path: string, stamp: string? }[]   that the assistant was read from
---@field label string         what error texts call the assistant
---@field chain table[]        hooks, in the order they run
---@field memory table         what hooks keep: ctx.state
---@field changed table<string, any>   parameters set by hand
---@field n_first integer      messages that the assistant begins with
---@field told? table         of a restored session: its parameters, of which the engine's side of
---                            changes knows nothing yet
---@field seed? integer       of the session, where none was asked for
---@field constraint? table   the format of replies that the session has a grammar for
---@field undo? table         parameters to take back before the next reply (request_sampling.lua)
---@field routed table         conversations of other assistants about the same messages
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
---@param request? perigee.request   what hooks made of the conversation
function State:render(request)
  request = request or self
  local messages = {}
  if request.system and request.system ~= "" then
    messages[1] = { role = "system", content = request.system }
  end
  table.move(request.messages, 1, #request.messages, #messages + 1, messages)
  return prompt.render(self.prompt, {
    messages = messages, tools = self.definitions, think = request.parameters.think,
  }, self.info)
end

---Change the session's sampling.
---@param changes table
---@return boolean?
---@return perigee.error? err
function State:set_sampling(changes)
  local all = check.shallow(self.told or {})
  for name, v in next, changes do all[name] = v end
  local ok, err = self.session:sampling(all)
  if not ok then return nil, check.as_err(err, "session") end
  self.told = nil
  return true
end

---What a reply is generated with.
---@param request? perigee.request
function State:generate_options(request)
  local options = parameters.pick((request or self).parameters, "answer")
  options.think, options.format = nil, nil
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
    held = held.save(self.held), changed = self.changed, seed = self.seed or host.seed,
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
  local stands_in = prompt.stands_in(template)
  if stands_in then warn(stands_in) end
  if #assistant.tools > 0 and not prompt.knows_tools(template) then
    warn "the chat template does not show tools, so the model knows of none"
  end
  local text = thinking.unheeded(template, assistant.parameters.think)
  if text then warn(text) end
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

local function new_state(assistant, options, model, owner, label)
  local info = model:info()
  local template, err = prompt.new(assistant.template, info, label)
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
    n_id = 0, warnings = M.unheeded(assistant, template), n_first = #assistant.messages,
    chain = assistant.chain or {}, memory = {}, changed = {}, routed = {}, options = options,
  }, State)
end

-- The assistant with all it builds on, and events for the next answer.
local function resolve(assistant, options)
  local whole, result, line = source.resolve(assistant, options)
  if not whole then return nil, result end
  if result and result.problems[1] then return nil, check.err("model", result.problems[1]) end
  local events = {}
  for i, text in ipairs(result and result.warnings or {}) do
    events[i] = { type = "warning", code = "modelfile", text = text }
  end
  return whole, events, line
end

-- Open the model, make the state, and give it the session that `begin` makes.
local function open(given, options, begin)
  local assistant, events, line = resolve(given, options)
  if not assistant then return nil, events end
  local model, owner = source.open(assistant, line.from_place)
  if not model then return nil, owner end
  local self, err = new_state(assistant, options, model, owner, line.label)
  local session
  if self then session, err = begin(self) end
  if not session then
    source.release(owner)
    return nil, check.as_err(err, "session")
  end
  self.session, self.held = session, held.new(model, session)
  self.given, self.files, self.label = given, line.files, line.label
  table.move(events, 1, #events, #self.warnings + 1, self.warnings)
  return self
end

local function new_session(state)
  return state.model:session(parameters.pick(state.parameters, "sampling"))
end

---A new conversation; waits while the model loads.
---@param assistant perigee.assistant   checked
---@param options perigee.chat.options
---@return perigee.conversation?
---@return perigee.error? err
function M.new(assistant, options)
  return open(assistant, options, new_session)
end

---Messages that began with those of an assistant, with what this one begins with in their place.
---@param messages table[]
---@param n_first integer   so many were the assistant's
---@return table[]
function State:begin_with(messages, n_first)
  local first = self.assistant.messages
  local out = table.move(first, 1, #first, 1, {})
  return table.move(messages, n_first + 1, #messages, #out + 1, out)
end

-- What was set by hand lies over the assistant's parameters; json.null: the default.
local function with_changed(all, changed)
  local out = check.shallow(all)
  for name, v in next, changed do
    if v == json.null then out[name] = nil else out[name] = v end
  end
  return out
end

---Go on with another assistant, or with this one as its files are now.  Parameters and a system
---text that were set by hand hold on.  What fails changes nothing.
---@param given? perigee.assistant   checked
---@return boolean?
---@return perigee.error? err
function State:reload(given)
  local changed = self.changed
  local fresh, err = open(given or self.given, self.options, function(state)
    state.parameters = with_changed(state.parameters, changed)
    return new_session(state)
  end)
  if not fresh then return nil, err end
  fresh.messages = fresh:begin_with(self.messages, self.n_first)
  fresh.n_id, fresh.memory, fresh.changed, fresh.marks = self.n_id, self.memory, changed, self.marks
  if self.has_own_system then fresh.system, fresh.has_own_system = self.system, true end
  self.session:close()
  self:close_routed()
  source.release(self.owner)
  for key in next, self do self[key] = nil end
  for key, v in next, fresh do self[key] = v end
  return true
end

---The conversation of another assistant about the same messages.  Parameters that were laid over
---this one, or set by hand, hold for it too.
---@param other string|perigee.assistant   what `route` returned; without from: with the same model
---@return perigee.conversation?
---@return perigee.error? err
function State:route_to(other)
  local known = self.routed[other]
  if not known then
    local given = type(other) == "string" and { from = other } or check.shallow(other)
    if given.from == nil and given.model == nil then given.from = self.model end
    local assistant, text = assistants.check(given)
    if not assistant then return nil, check.err("invalid", "route: " .. text) end
    local over = self.options.over and self.options.over.parameters or {}
    local options = { approve = self.approve, trace = self.trace,
      over = { parameters = with_changed(over, self.changed) } }
    local err
    known, err = M.new(assistant, options)
    if not known then return nil, err end
    known.label = assistant.name or type(other) == "string" and other or known.label
    self.routed[other] = known
  end
  known.messages, known.n_id = self.messages, self.n_id
  return known
end

---The files of the assistant, and of those it has routed to.
---@return { path: string, stamp: string? }[]
function State:all_files()
  local out = table.move(self.files, 1, #self.files, 1, {})
  for _, other in next, self.routed do table.move(other.files, 1, #other.files, #out + 1, out) end
  return out
end

function State:close_routed()
  for _, other in next, self.routed do other:close() end
  self.routed = {}
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
  child.memory, child.changed = check.shallow(self.memory), check.shallow(self.changed)
  child.routed = {}
  source.share(child.owner)
  return child
end

---A chat like this one before the question that is being answered, without hooks.
---@param n_before integer   messages there were before the question
---@return perigee.chat?
---@return perigee.error? err
function State:spare(n_before)
  local child, err = self:fork()
  if not child then return nil, err end
  child.messages, child.chain, child.answer = table.move(self.messages, 1, n_before, 1, {}), {}, nil
  child.warnings, child.trace = {}, nil
  return M.wrap(child)
end

---Give session and model back.
function State:close()
  if self.is_closed then return end
  if self.answer then self.answer:cancel() end
  self.is_closed = true
  self.session:close()
  self:close_routed()
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
  local changed = check.is_object(saved.changed) and saved.changed or {}
  local ok, unknown = parameters.changes(changed, "changed")
  if not ok then return nil, check.err("corrupt", path .. ".chat.json: " .. unknown) end
  return { messages = messages, held = saved.held, changed = check.shallow(changed),
    seed = math.tointeger(saved.seed),
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
    state.changed, state.parameters = saved.changed, with_changed(state.parameters, saved.changed)
    -- It goes on as it was saved; the engine is told all of it with the first change.
    state.told, state.seed = parameters.pick(state.parameters, "sampling"), saved.seed
    state.told.seed = state.told.seed or saved.seed
    return state.model:restore(place)
  end)
  if not self then return nil, wrong end
  self.messages, self.system, self.n_id = saved.messages, saved.system, saved.n_id
  self.n_first, self.has_own_system = 0, self.system ~= self.assistant.system
  held.restore(self.held, saved.held)
  return self
end

return M
