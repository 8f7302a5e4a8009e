-- SPDX-License-Identifier: MIT
-- The course of an answer (answer.lua is the object that scripts hold): prompt, reply, calls, and
-- round again.  One step does one thing - feed a prompt, take one token, run one call or a group of
-- parallel ones - and leaves its events in a queue.
local calls = require "perigee.calls"
local check = require "perigee.check"
local clock = require "perigee.sys.time"
local format = require "perigee.format"
local held = require "perigee.held"
local ids = require "perigee.ids"
local loop = require "perigee.sys.loop"
local parser = require "perigee.formats.parser"
local prompt = require "perigee.prompt"

local M = {}

local MAX_ROUNDS <const> = 16

---@class perigee.rounds
---@field chat perigee.conversation
---@field phase string       "prompt", "reply", "calls" or "over"
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

local function finish(self, why, more)
  give_up_calls(self)
  if why == "cancelled" then take_back(self) end
  local usage = self.usage
  usage.seconds, usage.cached = now() - self.began, usage.cached or 0
  local event = { type = "done", why = why, text = self.text, usage = usage,
    calls = self.state.n_call, thinking = self.thinking ~= "" and self.thinking or nil }
  for key, v in next, more or {} do event[key] = v end
  push(self, event)
  self.phase, self.chat.answer, self.stream = "over", nil, nil
end

---A failure: the chat is as before the question.
---@param self perigee.rounds
---@param err any
function M.fail(self, err)
  local messages = self.chat.messages
  for i = #messages, self.n_before + 1, -1 do messages[i] = nil end
  self.phase, self.chat.answer, self.stream, self.calls = "over", nil, nil, {}
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

local function begin_round(self)
  local chat = self.chat
  local most = chat.budget.rounds or MAX_ROUNDS
  if self.usage.rounds >= most then
    return halt(self, "rounds", ("the budget of %d replies for one answer is used up"):format(most))
  end
  if is_late(self) then return halt(self, "seconds", "the time for the answer is over") end
  loop.sleep(0) -- rendering gets a slice of time of its own, and others their turn
  local segments, err = chat:render()
  if not segments then return M.fail(self, err) end
  local text = prompt.text(segments)
  local fed, wrong = held.feed(chat.held, segments)
  if not fed then return M.fail(self, wrong) end
  if self.usage.rounds == 0 then trace(self, "format", chat.format_note) end
  trace(self, "prompt", text, chat.trace and chat.session:tokens())
  local usage = self.usage
  usage.prompt, usage.new, usage.rounds = fed.prompt, usage.new + fed.new, usage.rounds + 1
  usage.cached = usage.cached or fed.cached
  local stream, reason = chat.session:generate(chat:generate_options())
  if not stream then return M.fail(self, check.as_err(reason, "session")) end
  self.stream, self.raw, self.text, self.thinking, self.content = stream, {}, "", "", ""
  self.parser = new_parser(self, format.is_thinking(chat.format, segments))
  self.calls, self.at_call, self.region, self.phase = {}, 1, nil, "reply"
end

local function take(self, events)
  for _, event in ipairs(events) do
    if event.type == "text" then
      self.text, self.content = self.text .. event.text, self.content .. event.text
      push(self, event)
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

-- The reply is whole: keep it as a message.
local function keep_reply(self)
  take(self, self.parser:finish())
  held.note_reply(self.chat.held)
  local list = calls.message_calls(self.calls)
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
end

-- Calls of a reply that did not end by itself are not run.
local function end_reply(self, event)
  local why = self.is_timed_out and "seconds" or event.done
  keep_reply(self)
  self.stream = nil
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

local PHASES <const> = { prompt = begin_round, reply = read_reply, calls = run_calls }

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
  if self.phase == "reply" and self.content ~= "" then
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
  return {
    chat = chat, n_before = n_before, queue = warnings, n_taken = 0, phase = "prompt", ids = {},
    usage = { new = 0, generated = 0, rounds = 0, prompt = 0 }, calls = {}, at_call = 1, text = "",
    thinking = "", content = "", began = now(),
    state = calls.new(chat.tools, chat.budget, chat.approve),
  }
end

return M
