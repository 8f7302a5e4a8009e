-- SPDX-License-Identifier: MIT
-- The course of an answer (answer.lua is the object that scripts hold): prompt, reply, calls, and
-- round again.  One step does one thing - choose who answers, feed a prompt, take one token, run
-- one call or a group of parallel ones - and leaves its events in a queue.  Where the assistant's
-- hooks take part is here; what they may do is in hooks.lua.
local calls = require "perigee.calls"
local check = require "perigee.check"
local constraint = require "perigee.constraint"
local clock = require "perigee.sys.time"
local format = require "perigee.format"
local held = require "perigee.held"
local hooks = require "perigee.hooks"
local ids = require "perigee.ids"
local loop = require "perigee.sys.loop"
local parser = require "perigee.formats.parser"
local prompt = require "perigee.prompt"
local request_sampling = require "perigee.request_sampling"

local M = {}

local MAX_ROUNDS <const> = 16
local MAX_ROUTES <const> = 4  -- from one assistant to the next, in one answer
local MAX_REFUSED <const> = 3 -- replies that on_message refuses, in one answer

---@class perigee.rounds
---@field chat perigee.conversation    of the assistant that answers
---@field origin perigee.conversation  of the chat that was asked
---@field phase string       "route", "prompt", "reply", "calls" or "over"
---@field queue table[]      events; n_taken of them were given out
---@field n_taken integer
---@field n_before integer   messages there were before the question
---@field wants_end? boolean cancelled
---@field is_stepping? boolean
---@field stream? table      the reply, while it comes
---@field calls table[]      of the last reply; those from at_call on have not run
---@field at_call integer
---@field state table        what calls.lua knows
---@field usage perigee.usage

local function now()
  return clock.monotonic()
end

local function push(self, event)
  self.queue[#self.queue + 1] = event
end

local function push_warnings(self)
  local list = self.state.warnings
  self.state.warnings = {}
  for _, event in ipairs(list) do push(self, event) end
end

local function trace(self, what, text, tokens)
  if not self.chat.trace then return end
  push(self, { type = "trace", what = what, text = text, ids = tokens })
end

local function add_message(self, message)
  table.insert(self.chat.messages, message)
end

-- What a hook is told besides its first argument.
local function context(self)
  local chat = self.chat
  return hooks.context({ assistant = chat.label, question = self.question,
    round = math.max(1, self.usage.rounds), model = check.shallow(chat.info),
    state = chat.memory }, {
    event = function(event) push(self, event) end,
    fork = function() return self.chat:spare(self.n_before) end,
  })
end

local function contexts(self)
  return function() return context(self) end
end

-- Results for calls that will not run any more, so that every call in the conversation has one.
local function give_up_calls(self)
  for i = self.at_call, #self.calls do
    local call = self.calls[i]
    add_message(self, { role = "tool", name = call.name, tool_call_id = call.id,
      content = "The call was not run: the answer was ended." })
  end
  self.calls = {}
end

-- A question to which nothing was said: two questions in a row are more than some templates take.
local function take_back(self)
  local messages = self.chat.messages
  if #messages == self.n_before + 1 then messages[#messages] = nil end
end

-- Replies that a hook refused, and what the model was told, do not stay in the conversation.
local function drop_passing(self)
  local messages, n = self.chat.messages, 0
  if next(self.passing) == nil then return end
  for i = 1, #messages do
    local message = messages[i]
    messages[i] = nil
    if not self.passing[message] then
      n = n + 1
      messages[n] = message
    end
  end
end

-- The conversation that was asked and the one that answers go on, ready for another question.
local function let_go(self)
  local origin, chat = self.origin, self.chat
  self.phase, origin.answer, chat.answer, self.stream = "over", nil, nil, nil
  origin.n_id = math.max(origin.n_id, chat.n_id)
end

local function finish(self, why, more)
  give_up_calls(self)
  drop_passing(self)
  if why == "cancelled" then take_back(self) end
  local usage = self.usage
  usage.seconds, usage.cached = now() - self.began, usage.cached or 0
  local event = { type = "done", why = why, text = self.text, usage = usage,
    calls = self.state.n_call, thinking = self.thinking ~= "" and self.thinking or nil }
  for key, v in next, more or {} do event[key] = v end
  push(self, event)
  let_go(self)
end

---A failure: the chat is as before the question.
---@param self perigee.rounds
---@param err any
function M.fail(self, err)
  local messages = self.chat.messages
  for i = #messages, self.n_before + 1, -1 do messages[i] = nil end
  self.calls = {}
  let_go(self)
  error(err, 0)
end

local function is_late(self)
  local seconds = self.chat.budget.seconds
  return seconds and now() - self.began >= seconds
end

local function halt(self, why, text)
  push(self, { type = "warning", code = why, text = text })
  finish(self, why)
end

local function new_parser(self, is_thinking)
  local by_name = self.state.by_name
  local function schema_of(name)
    return by_name[name] and by_name[name].parameters
  end
  return parser.new(self.chat.format, is_thinking, ids.maker(self.chat), schema_of)
end

local function new_calls(self)
  local chat = self.chat
  local ask_hooks = hooks.has(chat.chain, "on_tool_call") and function(call)
    return hooks.tool_call(chat.chain, call, contexts(self))
  end or nil
  return calls.new(chat.tools, chat.budget, chat.approve, ask_hooks)
end

-- Who answers: the assistant itself, or whom its `route` names.
local function choose(self)
  self.phase = "prompt"
  for _ = 1, MAX_ROUTES do
    local chat = self.chat
    local other = hooks.route(chat.chain, chat, contexts(self))
    if other == nil then return end
    local next_one, err = chat:route_to(other)
    if not next_one then return M.fail(self, err) end
    self.chat, next_one.answer = next_one, chat.answer
    self.state = new_calls(self)
    push(self, { type = "route", to = next_one.label })
    table.move(next_one.warnings, 1, #next_one.warnings, #self.queue + 1, self.queue)
    next_one.warnings = {}
  end
  M.fail(self, check.err("hook", ("route leads from one assistant to another more than %d times; "
    .. "the last is %s"):format(MAX_ROUTES, self.chat.label)))
end

-- A hook answered in the model's place.
local function answer_with(self, text)
  self.text, self.thinking, self.usage.rounds = text, "", self.usage.rounds - 1
  if text ~= "" then push(self, { type = "text", text = text }) end
  add_message(self, { role = "assistant", content = text })
  return finish(self, "hook")
end

local function is_over_budget(self)
  local most = self.chat.budget.rounds or MAX_ROUNDS
  if self.usage.rounds >= most then
    halt(self, "rounds", ("the budget of %d replies for one answer is used up"):format(most))
  elseif is_late(self) then
    halt(self, "seconds", "the time for the answer is over")
  end
  return self.phase == "over"
end

local function feed(self, request)
  local chat, usage = self.chat, self.usage
  local segments, err = chat:render(request)
  if not segments then return M.fail(self, err) end
  local text = prompt.text(segments)
  local fed, wrong = held.feed(chat.held, segments)
  if not fed then return M.fail(self, wrong) end
  if usage.rounds == 1 then trace(self, "format", chat.format_note) end
  trace(self, "prompt", text, chat.trace and chat.session:tokens())
  usage.prompt, usage.new = fed.prompt, usage.new + fed.new
  usage.cached = usage.cached or fed.cached
  return segments
end

local function begin_round(self)
  if is_over_budget(self) then return end
  local chat, usage = self.chat, self.usage
  usage.rounds = usage.rounds + 1
  loop.sleep(0) -- rendering gets a slice of time of its own, and others their turn
  local request = hooks.request(chat.chain, chat, contexts(self))
  if type(request) == "string" then return answer_with(self, request) end
  local err = request_sampling.apply(chat, request)
  if err then return M.fail(self, err) end
  local segments = feed(self, request)
  err = segments and constraint.apply(chat, request.parameters, segments)
  if err then return M.fail(self, err) end
  local stream, reason = chat.session:generate(chat:generate_options(request))
  if not stream then return M.fail(self, check.as_err(reason, "session")) end
  self.stream, self.raw, self.text, self.thinking, self.content = stream, {}, "", "", ""
  self.parser = new_parser(self, format.is_thinking(chat.format, segments))
  self.calls, self.at_call, self.region, self.phase = {}, 1, nil, "reply"
  self.holds_back, self.was_ended = hooks.has(chat.chain, "on_message"), false
  self.has_token_hook = hooks.has(chat.chain, "on_token")
end

-- A piece of the reply's text, as on_token leaves it.
local function take_text(self, text)
  if self.was_ended then return end
  if self.has_token_hook then
    text, self.was_ended = hooks.token(self.chat.chain, text, contexts(self))
    if self.was_ended then self.stream:cancel() end
    if text == "" then return end
  end
  self.text, self.content = self.text .. text, self.content .. text
  if not self.holds_back then push(self, { type = "text", text = text }) end
end

local function take(self, events)
  for _, event in ipairs(events) do
    if event.type == "text" then
      take_text(self, event.text)
    elseif event.type == "thinking" then
      self.thinking = self.thinking .. event.text
      push(self, event)
    elseif event.type == "moved" then
      self.thinking, self.text, self.content = self.thinking .. self.text, "", ""
      push(self, { type = "warning", code = "thinking",
        text = "the text so far was thinking: the reply closed it without having opened it" })
    else
      self.calls[#self.calls + 1] = event
      if event.type == "broken" then
        -- It cannot be kept as a call; those of one list have one text.
        if event.region ~= self.region then self.content = self.content .. event.raw end
        self.region = event.region
      else
        push(self, { type = "call", id = event.id, name = event.name, arguments = event.arguments })
      end
    end
  end
end

-- What on_message makes of the reply; false where the model is to try again.
local function pass_message(self, list)
  local message = { role = "assistant", content = self.content, tool_calls = list,
    reasoning_content = self.thinking ~= "" and self.thinking or nil }
  local text, reason = hooks.message(self.chat.chain, message, contexts(self))
  if text then
    self.text = text ~= self.content and text or self.text
    self.content = text
    if self.text ~= "" then push(self, { type = "text", text = self.text }) end
    return true
  end
  self.n_refused = self.n_refused + 1
  if self.n_refused > MAX_REFUSED then
    error(check.err("refused", ("on_message refused %d replies; the last because: %s"):format(
      self.n_refused, reason)), 0)
  end
  push(self, { type = "warning", code = "again", text = "the model tries again: " .. reason })
  for _, one in ipairs { { role = "assistant", content = self.content },
    { role = "user", content = reason } } do
    self.passing[one] = true
    add_message(self, one)
  end
  return false
end

-- The reply is whole: keep it as a message.  False where a hook refused it.
local function keep_reply(self)
  take(self, self.parser:finish())
  held.note_reply(self.chat.held)
  local list = calls.message_calls(self.calls)
  if self.holds_back and not pass_message(self, list) then return false end
  local is_empty = self.content == "" and self.thinking == "" and not list
  if self.content == "" and self.thinking ~= "" and not list then
    push(self, { type = "warning", code = "thinking",
      text = "the reply ended inside the thinking; there is no answer" })
  end
  if not is_empty then
    add_message(self, { role = "assistant", content = self.content, tool_calls = list,
      reasoning_content = self.thinking ~= "" and self.thinking or nil })
  end
  trace(self, "reply", table.concat(self.raw), self.chat.trace and self.ids)
  return true
end

-- Calls of a reply that did not end by itself are not run.
local function end_reply(self, event)
  local why = self.is_timed_out and "seconds" or event.done
  if self.was_ended and not self.wants_end then why = "stop" end
  local is_kept = keep_reply(self)
  self.stream = nil
  if not is_kept then
    self.calls, self.ids, self.phase = {}, {}, "prompt"
    return
  end
  if self.was_ended and why == "stop" then return finish(self, why) end
  if why == "eog" or why == "stop" then
    if #self.calls > 0 then
      self.phase = "calls"
      return
    end
    return finish(self, why, { stop = event.stop })
  end
  for _, call in ipairs(self.calls) do
    if call.type == "broken" then
      push(self, { type = "warning", code = "broken_call", text = call.text, raw = call.raw })
    end
  end
  if why == "context" then
    push(self, { type = "warning", code = "context",
      text = ("the reply was cut: the context of %d tokens is full"):format(self.chat.info.n_ctx) })
  end
  return finish(self, why)
end

local function read_reply(self)
  local event, err = self.stream:next()
  if err and not event then
    err = check.as_err(err, "engine")
    if err.code ~= "cancelled" then return M.fail(self, err) end
    event = { done = "cancelled" }
  end
  event = event or { done = "eog" }
  if event.done == "error" then return M.fail(self, check.as_err(event.error, "engine")) end
  if event.text and event.text ~= "" then
    self.raw[#self.raw + 1] = event.text
    take(self, self.parser:feed(event.text))
  end
  if event.done then return end_reply(self, event) end
  self.usage.generated = self.usage.generated + 1
  if self.chat.trace and event.id then self.ids[#self.ids + 1] = event.id end
  if not self.is_timed_out and is_late(self) then
    self.is_timed_out = true
    self.stream:cancel()
  end
end

local function end_round(self)
  local state = self.state
  if state.halt then return halt(self, "loop", "the same call came again and again") end
  if state.has_refused then
    if state.is_exhausted then
      return halt(self, "calls", ("the budget of %d calls is used up"):format(state.most))
    end
    state.is_exhausted, state.has_refused = true, false
  end
  self.ids, self.phase = {}, "prompt"
end

local function run_calls(self)
  if self.at_call > #self.calls then return end_round(self) end
  if is_late(self) then return halt(self, "seconds", "the time for the answer is over") end
  local results = calls.run(self.state, self.calls, self.at_call)
  push_warnings(self)
  for _, result in ipairs(results) do
    add_message(self, { role = "tool", name = result.name, tool_call_id = result.id,
      content = result.text })
    push(self, result)
  end
  self.at_call = self.at_call + #results
end

local PHASES <const> = {
  route = choose, prompt = begin_round, reply = read_reply, calls = run_calls,
}

---Do the next thing.
---@param self perigee.rounds
function M.step(self)
  PHASES[self.phase](self)
  if not self.wants_end or self.phase == "over" then return end
  if self.stream then
    self.stream:cancel()
  else
    finish(self, "cancelled")
  end
end

---Let the answer end; see answer.lua.
---@param self perigee.rounds
function M.cancel(self)
  if self.phase == "over" then return end
  self.wants_end = true
  if self.stream then
    self.stream:cancel()
  elseif not self.is_stepping then
    finish(self, "cancelled")
  end
end

---Its task was closed in the middle of a step, where nothing can be waited for: the engine ends the
---request by itself, and the next feed finds out what the session holds.
---@param self perigee.rounds
function M.abandon(self)
  self.chat.held.is_known = false
  if self.phase == "reply" and self.content ~= "" and not self.holds_back then
    add_message(self, { role = "assistant", content = self.content })
    self.calls = {}
  end
  finish(self, "cancelled")
end

---@param chat perigee.conversation
---@param n_before integer
---@return perigee.rounds
function M.new(chat, n_before)
  local warnings = chat.warnings
  chat.warnings = {}
  local question = chat.messages[n_before + 1]
  local self = {
    chat = chat, origin = chat, n_before = n_before, queue = warnings, n_taken = 0, ids = {},
    usage = { new = 0, generated = 0, rounds = 0, prompt = 0 }, calls = {}, at_call = 1, text = "",
    thinking = "", content = "", began = now(), passing = {}, n_refused = 0,
    question = question and question.content or "",
    phase = hooks.has(chat.chain, "route") and "route" or "prompt",
  }
  self.state = new_calls(self)
  return self
end

return M
