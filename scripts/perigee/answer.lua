-- SPDX-License-Identifier: MIT
-- One answer of a chat: render and feed the prompt, read the reply, run its calls, and so on
-- until a reply calls nothing.  Its events are pulled one by one by the caller's for loop;
-- nothing happens between two of them, and everything that waits, waits in the caller's
-- coroutine.
--
--   for ev in chat:send(text) do      the loop ends behind "done"; leaving it early cancels
--     ev.type = "text"      .text     a piece of the reply
--               "thinking"  .text     a piece of the model's thinking
--               "call"      .name .arguments .id
--               "result"    .name .text .error .id
--               "warning"   .code .text, .traceback where a tool raised an error
--               "trace"     .what = "format" "prompt" "reply", .text .ids   (chats made with
--                           trace = true)
--               "done"      .why .text .usage .calls
-- why: "eog", "stop" (a stop text, .stop says which; without it the hook on_token), "hook" (the
-- hook on_request answered), "length" (parameters.max), "context" (it is
-- full), "cancelled"; "calls", "rounds", "seconds" (a budget), "loop" (the same call ever again).
-- An answer that fails (the context is full before it begins, the engine fails) raises its error
-- from the loop, and leaves the chat as it was before. Cancelling: a reply ends at its next
-- token; a prompt that is being fed and a tool that runs come to their end first, and calls
-- behind it do not run.
local check = require "perigee.check"
local rounds = require "perigee.rounds"

local M = {}

---An event of an answer, by type: "text" and "thinking" with .text; "call" with .name .arguments
---.id; "result" with .name .text .error .id; "route" with .to; "warning" with .code .text; "trace";
---and at the end "done" with .why .text .usage .calls.
---@class perigee.event
---@field type string
---@field text? string
---@field name? string
---@field arguments? table
---@field id? string
---@field error? boolean
---@field code? string
---@field why? string
---@field usage? perigee.usage

---What an answer took.
---@class perigee.usage
---@field prompt integer      tokens of the last prompt
---@field cached integer      of the first prompt, how many were held already
---@field new integer         tokens fed, in all rounds
---@field generated integer   in all rounds
---@field rounds integer      replies of the model
---@field seconds number

---An answer under way: call it, or let a for loop call it, for its next event.
---@class perigee.answer
local Answer = {}
Answer.__index = Answer
Answer.__name = "perigee.answer"
Answer.__metatable = "perigee.answer"

-- What scripts hold is an empty table; what it stands for is kept here.
local PRIVATE <const> = setmetatable({}, { __mode = "k" })

local function take_event(self)
  if self.n_taken == #self.queue then return nil end
  self.n_taken = self.n_taken + 1
  local event = self.queue[self.n_taken]
  if self.n_taken == #self.queue then self.queue, self.n_taken = {}, 0 end
  return event
end

-- The next event; what a for loop calls.
function Answer:__call()
  self = PRIVATE[self]
  if self.is_stepping then check.blame("another task is reading this answer") end
  while self.n_taken == #self.queue and self.phase ~= "over" do
    self.is_stepping, self.stepper = true, coroutine.running()
    local ok, err = pcall(rounds.step, self)
    self.is_stepping = false
    if not ok then
      if self.phase ~= "over" then pcall(rounds.fail, self, err) end
      error(err, 0)
    end
  end
  return take_event(self)
end

---Stop the answer.  The loop goes on to its "done" event.  What was said so far stays in the chat;
---a question to which nothing was said is taken back.
function Answer:cancel()
  local state = PRIVATE[self] or check.blame("call with a colon: answer:cancel()")
  rounds.cancel(state)
end

-- Leaving the loop early.
function Answer:__close()
  self = PRIVATE[self]
  if self.phase == "over" then return end
  rounds.cancel(self)
  if not self.is_stepping then
    pcall(function()
      while self.phase ~= "over" do rounds.step(self) end
    end)
  end
  if self.phase ~= "over" then rounds.abandon(self) end
  self.is_stepping = false
end

---Give up an answer whose coroutine died in the middle of a step: a tool or a hook that ran too
---long takes everything with it, closing variables included.
---@param answer perigee.answer
function M.bury(answer)
  local self = PRIVATE[answer]
  if self.phase ~= "over" and self.is_stepping and coroutine.status(self.stepper) == "dead" then
    rounds.abandon(self)
    self.is_stepping = false
  end
end

---Begin an answer; the question stands in the chat's messages already.
---@param chat perigee.conversation
---@param n_before integer   messages there were before the question
---@return perigee.answer
function M.new(chat, n_before)
  local answer = setmetatable({}, Answer)
  PRIVATE[answer] = rounds.new(chat, n_before)
  return answer
end

return M
