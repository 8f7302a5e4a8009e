-- SPDX-License-Identifier: MIT
-- Where a call ends.  The text behind a call's opening marker is scanned once, in whatever pieces
-- it comes; markers and brackets inside a value are passed over.  What encloses values depends on
-- the syntax (M.quotes).  A call ends at its closing marker; at the next opening one or at the end
-- of its section, when the closing one was forgotten; or, in a format without closing marker, where
-- its brackets are all closed.
local M = {}

local DEPTH <const> = { ["{"] = 1, ["["] = 1, ["("] = 1, ["}"] = -1, ["]"] = -1, [")"] = -1 }
local JSON <const> = { { open = '"', close = '"', has_escapes = true } }
local PYTHON <const> = { JSON[1], { open = "'", close = "'", has_escapes = true } }

---@class perigee.format.scan
---@field private at integer      what is before has been passed
---@field private depth integer   brackets open
---@field private inside? table   the quote that encloses the place
---@field private has_head boolean   the marker before the arguments was passed
---@field private is_balanced boolean   the call ends with its brackets
local Scan = {}
Scan.__index = Scan

---A text without the white space at its end, and that.  A pattern that looks for the end from the
---beginning takes quadratic time where there is much white space inside.
---@param s string
---@return string body
---@return string space
function M.split_end(s)
  local n = #s:reverse():match("^%s*")
  return s:sub(1, #s - n), s:sub(#s - n + 1)
end

---@param s string
---@return string
function M.trim(s)
  return (M.split_end(s:match("^%s*(.*)$")))
end

---Does marker stand at this place?
function M.starts(s, at, marker)
  return s:sub(at, at + #marker - 1) == marker
end

---Could marker stand here, when more comes?
function M.could_start(s, at, marker)
  local rest = s:sub(at)
  return #rest < #marker and marker:sub(1, #rest) == rest
end

-- What a value is enclosed in.
local function quotes(format)
  local call = format.call
  if call.syntax == "python" then return PYTHON end
  if call.syntax == "gemma" then return { { open = call.quote, close = call.quote } } end
  if call.syntax ~= "tags" then return JSON end
  local follow = { call.key.open, call.value.close, call.close }
  if format.section then follow[#follow + 1] = format.section.close end
  return { { open = call.key.open, close = call.value.close, follow = follow } }
end

---@param list string[]
---@return string class   a pattern for the first bytes of the texts
local function first_bytes(list)
  local out = {}
  for i, s in ipairs(list) do out[i] = s:sub(1, 1):gsub("[%^%]%%%-]", "%%%0") end
  return "[" .. table.concat(out) .. "]"
end

---What ends the calls of a format.
---@param format perigee.format
---@return table rules
function M.rules(format)
  local call = format.call
  local rules = { quotes = quotes(format), stops = {}, head = call.separator,
    is_balanced = not call.close }
  local function stop(marker, kind)
    if marker then table.insert(rules.stops, { marker = marker, kind = kind }) end
  end
  stop(call.close, "close")
  stop(call.open, "open")
  stop(format.section and format.section.close, "outer")
  for _, marker in ipairs(format.channels and format.channels.ends or {}) do
    stop(marker, "outer")
  end
  local firsts = { call.separator }
  for _, one in ipairs(rules.stops) do firsts[#firsts + 1] = one.marker end
  for _, quote in ipairs(rules.quotes) do firsts[#firsts + 1] = quote.open end
  if rules.is_balanced or call.bare then
    for bracket in next, DEPTH do firsts[#firsts + 1] = bracket end
  end
  rules.firsts = first_bytes(firsts)
  return rules
end

---@param rules table
---@param is_bare? boolean   the call began with its bracket and ends where that is closed
---@return perigee.format.scan
function M.new(rules, is_bare)
  return setmetatable({ rules = rules, at = 1, depth = 0, has_head = rules.head == nil,
    is_balanced = is_bare or rules.is_balanced }, Scan)
end

---Go on behind the header of a message.
---@param at integer
---@param has_head boolean   the header was whole
function Scan:skip_header(at, has_head)
  self.at, self.has_head = at, has_head
end

-- Do the bytes behind a closing quote show that it is one?  nil: not known yet.
local function is_followed(held, at, follow, is_over)
  at = held:match("^%s*()", at)
  if at > #held then return is_over or nil end
  for _, marker in ipairs(follow) do
    if M.starts(held, at, marker) then return true end
    if not is_over and M.could_start(held, at, marker) then return nil end
  end
  return false
end

-- Inside a value: true when it has ended.
local function leave_quote(self, held, is_over)
  local quote = self.inside
  while self.at <= #held do
    local close = held:find(quote.close, self.at, true)
    local escape = quote.has_escapes and held:find("\\", self.at, true)
    if escape and (not close or escape < close) then
      self.at = escape + 2
    elseif not close then
      self.at = math.max(self.at, #held - #quote.close + 2)
      return false
    else
      local is_end = not quote.follow
        or is_followed(held, close + #quote.close, quote.follow, is_over)
      if is_end == nil then
        self.at = close
        return false
      end
      self.at = close + (is_end and #quote.close or 1)
      if is_end then
        self.inside = nil
        return true
      end
    end
  end
  return false
end

-- The marker at the place, or "wait" when one may still become of it.
local function stop_at(self, held, is_over)
  local is_open = false
  for _, stop in ipairs(self.rules.stops) do
    if M.starts(held, self.at, stop.marker) then
      return stop.kind, self.at + #stop.marker - 1
    end
    is_open = is_open or M.could_start(held, self.at, stop.marker)
  end
  for _, quote in ipairs(self.rules.quotes) do
    is_open = is_open or M.could_start(held, self.at, quote.open)
  end
  local head = not self.has_head and self.rules.head
  is_open = is_open or head and M.could_start(held, self.at, head)
  return is_open and not is_over and "wait" or nil
end

-- A byte at which no marker begins: true when the last bracket closes here.
local function pass(self, held)
  local head = not self.has_head and self.rules.head
  if head then
    local is_here = M.starts(held, self.at, head)
    self.has_head, self.at = is_here, self.at + (is_here and #head or 1)
    return false
  end
  for _, quote in ipairs(self.rules.quotes) do
    if M.starts(held, self.at, quote.open) then
      self.inside, self.at = quote, self.at + #quote.open
      return false
    end
  end
  local step = self.is_balanced and DEPTH[held:sub(self.at, self.at)] or 0
  local is_last = step < 0 and self.depth == 1
  self.depth, self.at = math.max(0, self.depth + step), self.at + 1
  return is_last
end

---Move on over what is held; self.at stays valid while only more is added to it.
---@param held string
---@param is_over boolean   no more will come
---@return "close"|"open"|"outer"|"balanced"|nil kind
---@return integer? first   of the marker
---@return integer? last
function Scan:step(held, is_over)
  while self.at <= #held do
    if self.inside then
      if not leave_quote(self, held, is_over) then return nil end
    else
      self.at = held:find(self.rules.firsts, self.at) or #held + 1
      if self.at > #held then return nil end
      local kind, last = stop_at(self, held, is_over)
      if kind == "wait" then return nil end
      if kind then return kind, self.at, last end
      if pass(self, held) then return "balanced", self.at, self.at - 1 end
    end
  end
  return nil
end

---The first marker that ends a call, wherever it stands: for a call whose value never ends.
---@param held string
---@return string? kind
---@return integer? first
---@return integer? last
function Scan:first_stop(held)
  local kind, first, last
  for _, stop in ipairs(self.rules.stops) do
    local from, to = held:find(stop.marker, 1, true)
    if from and (not first or from < first) then kind, first, last = stop.kind, from, to end
  end
  return kind, first, last
end

return M
