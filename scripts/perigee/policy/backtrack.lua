-- SPDX-License-Identifier: MIT
-- Text without certain phrases.  When one is complete, the session goes back to the token in which
-- it began, that token is banned there, and the text goes on another way.
--   for ev in perigee.backtrack(session, { phrases = { "as an AI" } }) do ... ev.text ... end
-- It is no link of the chain: what was told cannot be taken back, so text is held here until no
-- phrase can begin in it, and going back is rewinding.  A rewound token leaves no trace: policies,
-- mirostat and random numbers go on from the position they are rewound to.
local check = require "perigee.check"

local M = {}

---What perigee.backtrack is told.
---@class perigee.backtrack.options
---@field phrases string|string[]   what must not be said; case counts unless ignore_case
---@field ignore_case? boolean      of ASCII letters
---@field max? integer              tokens of the text at most
---@field tries? integer            so often it goes back at most, 100 unless given
---@field stop? string|string[]     texts that end it; they are not given out
---@field special? boolean          control tokens appear in the text

---An event of perigee.backtrack.
---@class perigee.backtrack.event
---@field text string       what it adds; never taken back
---@field done? string      in the last event: as of session:generate, or "tries": it came back
---@field backs? integer    in the last event: how often it went back
---@field stop? string      in the last event: which text ended it
---@field error? perigee.error

local function amount(v, path)
  if math.type(v) ~= "integer" or v < 1 then
    return nil, check.wrong(path, v, "an integer of at least 1")
  end
  return v
end

local function texts(v, path)
  local out, text = check.strings(v, path)
  for i, one in ipairs(out or {}) do
    if one == "" then return nil, check.wrong(check.join(path, i), one, "a text") end
  end
  return out, text
end

local OPTIONS <const> = {
  phrases = { check = texts, expected = "a list of phrases" },
  stop = { check = texts, expected = "a list of texts" },
  max = { check = amount }, tries = { check = amount },
  ignore_case = { kind = "boolean" }, special = { kind = "boolean" },
}

---@class perigee.backtrack.text
---@field session perigee.session
---@field tokens { id: integer, text: string }[]   told by the engine, not given out yet
---@field base integer                    tokens of the session before the first of them
---@field bans table<integer, integer[]>  tokens not to be chosen, by position
local Text = {}
Text.__index = Text
Text.__name = "perigee.backtrack.text"
Text.__metatable = "perigee.backtrack.text"

-- Where the first of some texts is whole, and which; and how much of the end may become one.
local function look(text, wanted)
  local first, which, held
  for i, one in ipairs(wanted) do
    local at = text:find(one, 1, true)
    if at and (not first or at < first) then first, which = at, i end
    for n = math.min(#one - 1, #text), (held or 0) + 1, -1 do
      if text:sub(-n) == one:sub(1, n) then
        held = n
        break
      end
    end
  end
  return first, which, held or 0
end

local function joined(self)
  local parts = {}
  for i, token in ipairs(self.tokens) do parts[i] = token.text end
  return table.concat(parts)
end

-- Give out the tokens that lie wholly in the first bytes: of a token that is taken back, nothing
-- may have been told.
local function release(self, upto)
  local parts = {}
  while self.tokens[1] and #self.tokens[1].text <= upto do
    local text = table.remove(self.tokens, 1).text
    parts[#parts + 1] = text
    upto, self.base = upto - #text, self.base + 1
  end
  return table.concat(parts)
end

-- Go back to the first token held, in which a phrase begins, and ban it there.
local function go_back(self)
  local position, bans = self.base, self.bans[self.base] or {}
  for known in next, self.bans do
    if known > position then self.bans[known] = nil end -- they belong to another beginning
  end
  bans[#bans + 1] = self.tokens[1].id
  self.bans[position] = bans
  self.tokens = {}
  self.stream:close()
  self.stream, self.backs = nil, self.backs + 1
  return self.session:rewind(position)
end

-- A ban holds for one token, which is a stream of its own.
local function open_stream(self)
  local position = self.base + #self.tokens
  local bans = self.bans[position]
  local left = self.options.max and self.options.max - (position - self.start)
  self.is_piece = bans ~= nil and left ~= 1
  self.stream = self.session:generate { special = self.options.special, without = bans,
    max = bans and 1 or left }
end

local function finish(self, last)
  if self.stream then self.stream:close() end
  self.stream = nil
  self.last = { text = "", done = last.done, stop = last.stop, error = last.error,
    backs = self.backs }
end

-- What is to be given out after the engine told of a token, or of the end (is_end).
local function judge(self, is_end)
  local text = joined(self)
  local phrase, _, held = look(self.fold(text), self.phrases)
  local stop, which, waits = look(text, self.options.stop)
  if stop and not (phrase and phrase < stop) then
    finish(self, { done = "stop", stop = self.options.stop[which] })
    return text:sub(1, stop - 1)
  end
  if not phrase then return release(self, is_end and #text or #text - math.max(held, waits)) end
  local out = release(self, phrase - 1)
  if self.backs == self.tries then
    finish(self, { done = "tries" })
    self.session:rewind(self.base)
    return out
  end
  local ok, err = go_back(self)
  if not ok then finish(self, { done = "error", error = err }) end
  return out
end

local function step(self)
  if not self.stream then open_stream(self) end
  local ev = self.stream:next()
  if ev.text ~= "" or ev.id and not ev.done then
    self.tokens[#self.tokens + 1] = { id = ev.id or -1, text = ev.text }
  end
  if not ev.done then return judge(self, false) end
  if self.is_piece and ev.done == "length" then
    self.stream = nil
    return ""
  end
  local out = #self.tokens > 0 and judge(self, true) or ""
  if self.stream then finish(self, ev) end
  return out
end

---The next event; nil behind the last.
---@return perigee.backtrack.event?
---@async
function Text:next()
  while not self.last do
    local out = step(self)
    if out ~= "" then return { text = out } end
  end
  local last = self.last
  if self.is_over then return nil end
  self.is_over = true
  return last
end
Text.__call = Text.next

---End it; the session stays where it is.
function Text:close()
  if self.stream then self.stream:close() end
  self.stream, self.last, self.is_over = nil, self.last or { done = "cancelled" }, true
end
Text.__close = Text.close

---Generate from a session, without the phrases.
---@param session perigee.session
---@param options perigee.backtrack.options
---@return perigee.backtrack.text stream   callable, as that of session:generate
---@return nil
---@return nil
---@return perigee.backtrack.text closing
---@async
function M.generate(session, options)
  local o, text = check.table(options, OPTIONS, "backtrack")
  if not o then check.blame(text) end
  if not o.phrases then check.blame 'backtrack has no phrases; add phrases = { "..." }' end
  local start, err = session:n_tok()
  if not start then error(err, 0) end
  o.stop = o.stop or {}
  local fold = o.ignore_case and string.lower or function(s) return s end
  local phrases = {}
  for i, phrase in ipairs(o.phrases) do phrases[i] = fold(phrase) end
  local self = setmetatable({ session = session, options = o, phrases = phrases, fold = fold,
    tries = o.tries or 100, tokens = {}, base = start, start = start, bans = {},
    backs = 0 }, Text)
  return self, nil, nil, self
end

return check.callable(M, M.generate)
