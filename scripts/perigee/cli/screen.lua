-- SPDX-License-Identifier: MIT
-- What a person sees of an answer: its text as it comes, thinking and calls dimmed, warnings and
-- the trace on stderr.  The program around us decides whether dimming is possible (host.write).
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local wraps = require "perigee.cli.wrap"

local M = {}

local STDOUT <const>, STDERR <const> = 1, 2
local NO_LIMIT <const> = 1 << 30 -- columns, where no terminal shows the line
local SIZE_ROOM <const> = 14     -- columns that the size of a result takes

---@class perigee.cli.screen
---@field columns integer
---@field shows_calls boolean   calls are shown at all
---@field calls_to integer      the stream they are shown on
---@field has_trace boolean
---@field is_open boolean       the line on stdout has not ended
---@field pending? string       id of the call whose line has not ended
---@field waiting table<string, string>   lines of calls that have not begun, by id
local Screen = {}
Screen.__index = Screen

---@param arguments table   host.arguments
---@param is_repl boolean   calls belong to the conversation on stdout
---@return perigee.cli.screen
function M.new(arguments, is_repl)
  return setmetatable({
    columns = arguments.columns > 0 and math.max(40, arguments.columns) or NO_LIMIT,
    shows_calls = arguments.shows_calls == true and not arguments.trace,
    calls_to = is_repl and STDOUT or STDERR,
    has_trace = arguments.trace == true,
    is_quiet = arguments.quiet == true,
    is_open = false,
    waiting = {},
  }, Screen)
end

---Text of the answer.
---@param text string
---@param is_dim? boolean
function Screen:write(text, is_dim)
  if self.wrap then text = self.wrap:feed(text) end
  if text == "" then return end
  host.write(STDOUT, text, is_dim)
  self.is_open = text:sub(-1) ~= "\n"
end

-- The word that the wrap holds back.
function Screen:flush()
  local text = self.wrap and self.wrap:flush() or ""
  if text == "" then return end
  host.write(STDOUT, text)
  self.is_open = true
end

---Break lines between words, or leave it to the terminal.
---@param is_on boolean
---@return boolean ok   false where the width is not known
function Screen:set_wrap(is_on)
  self:flush()
  if is_on and self.columns == NO_LIMIT then return false end
  self.wrap = is_on and wraps.new(self.columns) or nil
  return true
end

---End the line on stdout if it has begun.
function Screen:end_line()
  self:flush()
  if self.pending then
    host.write(self.calls_to, "\n", true)
    self.pending = nil
    self.is_open = self.is_open and self.calls_to ~= STDOUT
  end
  if self.is_open then self:write("\n") end
end

---A line about the conversation.
---@param text string
function Screen:say(text)
  self:end_line()
  self:write(text .. "\n", true)
end

---A line on stderr, as the program writes its own.
---@param text string
function Screen:note(text)
  if self.is_quiet then return end
  self:end_line()
  host.write(STDERR, "perigee: " .. text .. "\n")
end

---An error; never hidden.
---@param text string
function Screen:fail(text)
  self:end_line()
  host.write(STDERR, "perigee: " .. text .. "\n")
end

-- The beginning of a text, in whole characters.
local function shorten(text, most)
  if (utf8.len(text) or #text) <= most then return text end
  local at = utf8.len(text) and utf8.offset(text, most - 2) or most - 2
  return text:sub(1, at - 1) .. "..."
end

---The first line of a result, with its size where there is more.
---@param text string
---@param most integer   characters
---@return string
function M.summary(text, most)
  local line = text:match("^%s*([^\n]*)"):gsub("%s+$", "")
  if line == "" then return text == "" and "nothing" or ("%d bytes"):format(#text) end
  local has_more = text:find("\n%s*%S") ~= nil
  local short = shorten(line, math.max(12, most))
  if has_more or short ~= line then return ("%s (%d bytes)"):format(short, #text) end
  return short
end

-- Begin the line of a call; its result ends it.
function Screen:begin_call(id, line)
  self:end_line()
  host.write(self.calls_to, line, true)
  self.pending, self.width = id, utf8.len(line) or #line
end

-- One line for each call.  A second call of the same reply waits for its result.
function Screen:call(event)
  if not self.shows_calls then return end
  local line = ("  %s %s"):format(event.name, json.encode(event.arguments))
  line = shorten(line, self.columns * 3 // 5)
  if self.pending then
    self.waiting[event.id] = line
  else
    self:begin_call(event.id, line)
  end
end

function Screen:result(event)
  if not self.shows_calls then return end
  if self.pending ~= event.id then
    self:begin_call(event.id, self.waiting[event.id] or "  " .. event.name)
  end
  local mark = event.error and " -> failed: " or " -> "
  local text = M.summary(event.text, self.columns - self.width - #mark - SIZE_ROOM)
  host.write(self.calls_to, mark .. text .. "\n", true)
  self.pending, self.waiting[event.id] = nil, nil
end

local function trace_block(title, text)
  host.write(STDERR, ("--- %s\n%s%s"):format(title, text, text:sub(-1) == "\n" and "" or "\n"))
end

function Screen:trace(event)
  self:end_line()
  if event.what == "format" then return trace_block("replies", event.text) end
  local ids = event.ids or {}
  trace_block(("%s: %d tokens"):format(event.what, #ids), event.text or "")
  if #ids > 0 then trace_block("token ids", table.concat(ids, " ")) end
end

function Screen:trace_call(event)
  if not self.has_trace then return end
  self:end_line()
  trace_block("call " .. event.name, json.encode(event.arguments))
end

function Screen:trace_result(event)
  if not self.has_trace then return end
  self:end_line()
  local title = event.error and "failed result of " or "result of "
  trace_block(title .. event.name, event.text)
end

local ENDS <const> = {
  length = "(the answer was cut: it had reached the most tokens it may have)",
  context = "(the answer was cut: the context is full)",
  cancelled = "(stopped)",
}

local SHOW <const> = {
  text = function(self, event)
    if self.was_thinking then self:end_line() end
    self.was_thinking = false
    self:write(event.text)
  end,
  thinking = function(self, event)
    self.was_thinking = true
    self:write(event.text, true)
  end,
  call = function(self, event)
    self:call(event)
    self:trace_call(event)
  end,
  result = function(self, event)
    self:result(event)
    self:trace_result(event)
  end,
  trace = Screen.trace,
  route = function(self, event)
    if self.has_trace then
      self:end_line()
      trace_block("answered by", event.to)
    end
  end,
  warning = function(self, event) self:note("warning: " .. event.text) end,
  done = function(self, event)
    self:end_line()
    local text = ENDS[event.why]
    if text and not self.is_quiet then host.write(STDERR, text .. "\n", true) end
  end,
}

---Show one event of an answer.
---@param event perigee.event
function Screen:show(event)
  local show = SHOW[event.type]
  if show then show(self, event) end
end

return M
