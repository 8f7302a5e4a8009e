-- SPDX-License-Identifier: MIT
-- A streaming parser of replies: pieces of text split anywhere go in, events come out, and the
-- events of a reply do not depend on how it was split.
--   { type = "text", text = }          { type = "thinking", text = }
--   { type = "call", id =, name =, arguments =, raw =, region = }
--   { type = "broken", id =, name =, raw =, region =, text = }   cannot be read, or was cut off
--   { type = "moved" }                 </think> without opener: the text so far was thinking
-- raw is the call as it stood in the reply, its markers included; calls that stood in one list have
-- one raw and one region. Nothing else is dropped but markers and the white space next to them.
-- A piece that may be the beginning of a marker is held back until it is known; so is white
-- space, because next to a marker it belongs to the markup and is dropped.  finish() lets go of
-- what is held. Inside a value of a call, markers are text (scan.lua).  A call whose value
-- never ends takes in the rest of the reply; finish() then ends it at its first closing marker
-- and reads on behind that. Inside thinking, markers of calls are text, unless the format says
-- otherwise: a model that muses about calling has not called.
-- Beside the text of markers (markers.lua) a reply is read from three more: what ends a call
-- (scan.lua), what stands in it (read.lua), and the headers of messages (channels.lua).
local channels = require "perigee.formats.channels"
local markers = require "perigee.formats.markers"
local read = require "perigee.formats.read"
local scan = require "perigee.formats.scan"

local M = {}

---@class perigee.format.parser
---@field private format perigee.format
---@field private state string    "text", "thinking", "section", "call" or "header"
---@field private back string     the state behind a call
---@field private around string   the state behind a section
---@field private is_fresh boolean   nothing was said yet: a call without marker may begin
local Parser = {}
Parser.__index = Parser

local function emit(self, kind, text)
  if text == "" then return end
  local last = self.events[#self.events]
  if last and last.type == kind then
    last.text = last.text .. text
  else
    self.events[#self.events + 1] = { type = kind, text = text }
  end
end

-- Text that is known to be text: white space behind a marker is dropped, at the end it waits.
local function say(self, text)
  if self.state == "section" then
    self.junk = self.junk .. text
    return
  end
  text = self.space .. text
  if self.is_behind_marker then text = text:match("^%s*(.*)$") end
  local body
  body, self.space = scan.split_end(text)
  if body == "" then return end
  self.is_behind_marker, self.is_fresh = false, false
  emit(self, self.state, body)
end

local function enter(self, state)
  self.state, self.space, self.is_behind_marker = state, "", true
end

local function add(self, found, raw)
  found.type = found.text and "broken" or "call"
  found.id, found.raw, found.region = self.next_id(found.id), raw, self.n_region
  self.events[#self.events + 1] = found
end

local function broken(self, raw, text)
  self.n_region = self.n_region + 1
  add(self, { text = text }, raw)
end

-- Does a text without marker have the shape of a call?  If so it is a broken one, else just text.
local function looks_like_call(self, body)
  if body:find('^{%s*"name"%s*:%s*"[^"]*"%s*,%s*"parameters"%s*:')
    or body:find('^{%s*"name"%s*:%s*"[^"]*"%s*,%s*"arguments"%s*:') then
    return true
  end
  local name = body:match("^%[%s*([%a_][%w_%.]*)%s*%(")
  return name ~= nil and self.schema_of(name) ~= nil
end

local function is_call(self, list, body)
  if list[1].text then return looks_like_call(self, body) end
  return body:sub(1, 1) == "[" or body:find('"parameters"', 1, true)
    or body:find('"arguments"', 1, true)
end

-- It was no call.
local function drop_bare(self)
  enter(self, "text")
  self.is_behind_marker, self.is_fresh, self.is_bare = self.was_behind_marker, false, false
  return self.bare_space
end

-- The text of a call is whole.
local function end_call(self, body, raw)
  local list = read.read(self.format.call, body, self.schema_of)
  if self.is_bare and not is_call(self, list, body) then
    return say(self, drop_bare(self) .. raw)
  end
  self.n_region = self.n_region + 1
  for _, found in ipairs(list) do add(self, found, raw) end
  enter(self, self.back)
end

-- opened: the marker; without one the call begins with its bracket, or its header.
local function begin_call(self, opened, prefix)
  self.back, self.was_behind_marker = self.state, self.is_behind_marker
  enter(self, "call")
  self.opened, self.prefix, self.is_bare = opened, prefix, opened == "" and self.back ~= "header"
  self.held = prefix .. self.held
  self.scan = scan.new(self.scan_rules, self.is_bare)
end

-- What stood in a section beside its calls: JSON is one all the same, the rest is none.
local function end_junk(self)
  local junk = self.junk
  self.junk = ""
  if not junk:find("%S") then return end
  local first = junk:match("^%s*([{%[])")
  if first then
    self.n_region = self.n_region + 1
    for _, found in ipairs(read.read(self.format.call, junk, self.schema_of)) do
      add(self, found, junk)
    end
  else
    broken(self, junk, ("found no %q in the section of calls"):format(self.format.call.open))
  end
end

local DOES <const> = {}

function DOES.call(self, marker)
  begin_call(self, marker, self.format.call.prefix or "")
end

function DOES.think(self)
  enter(self, "thinking")
end

function DOES.unthink(self)
  if self.state == "text" then
    self.events[#self.events + 1] = { type = "moved" }
    self.is_fresh = true
  end
  enter(self, "text")
end

function DOES.section(self)
  self.around = self.state
  enter(self, "section")
end

function DOES.unsection(self)
  enter(self, self.around)
end

function DOES.skip(self)
  enter(self, self.state)
end

function DOES.header(self)
  enter(self, "header")
end

-- A call that begins with its bracket, at the beginning of what is said: false when none does.
local function read_bare(self)
  local bare = self.format.call and self.format.call.bare
  if not bare or not self.is_fresh or self.state ~= "text" then return false end
  local text = self.space .. self.held
  local at = text:find("%S")
  if not at or text:sub(at, at) ~= bare then return false end
  self.held, self.bare_space = text:sub(at), text:sub(1, at - 1)
  begin_call(self, "", "")
  return true
end

-- Text, thinking or section: true when a marker was passed and there may be more.
local function read_open(self)
  if read_bare(self) then return true end
  local where, rule, keep = markers.first(self.rules[self.state], self.held, self.is_over,
    self.rules.longest)
  say(self, self.held:sub(1, keep - 1))
  self.held = self.held:sub(keep)
  if not where then return false end
  self.held = self.held:sub(#rule.marker + 1)
  if self.state == "section" then end_junk(self) end
  DOES[rule.does](self, rule.marker)
  return true
end

-- Can the text still become a call without marker?
local FIRST_KEYS <const> = { name = true, parameters = true, arguments = true, type = true,
  id = true }

local function can_be_bare(held)
  if held:sub(1, 1) == "[" then
    return held:find("^%[%s*[%w_%.]*$") or held:find("^%[%s*[%a_][%w_%.]*%s*%(")
  end
  local key = held:match('^{%s*"([^"]*)"')
  return held:find('^{%s*$') or held:find('^{%s*"[^"]*$') or FIRST_KEYS[key or ""]
end

local function take_call(self, kind, first, last)
  local held, prefix = self.held, self.prefix
  local body, marker = held:sub(1, first - 1), held:sub(first, last)
  local raw = self.opened .. body:sub(#prefix + 1)
  if kind == "close" then raw = raw .. marker end
  self.held = held:sub(kind == "outer" and first or last + 1)
  end_call(self, body, raw)
  if kind == "open" then begin_call(self, marker, self.format.call.prefix or "") end
end

-- Inside a call: true when its end was found.
local function read_inside(self)
  if self.is_bare and not can_be_bare(self.held) then
    self.held = drop_bare(self) .. self.held
    return true
  end
  if self.format.call.parse then
    local kind, first, last = self.scan:first_stop(self.held)
    if not kind then return false end
    take_call(self, kind, first, last)
    return true
  end
  local kind, first, last = self.scan:step(self.held, self.is_over)
  if not kind then return false end
  take_call(self, kind, first, last)
  return true
end

-- At the header of a message.
local function read_header(self)
  self.held = channels.skip_ends(self.format.channels, self.held)
  if self.held == "" or self.is_over and not self.held:find("%S") then return false end
  local kind, n = channels.read(self.format.channels, self.held, self.is_over)
  if kind == "wait" then return false end
  if kind == "call" then
    begin_call(self, "", "")
    self.scan:skip_header(n + 1, n > 0)
    return true
  end
  enter(self, kind)
  if n == 0 then self.is_behind_marker = false end
  self.held = self.held:sub(n + 1)
  return true
end

local function advance(self)
  local more = true
  while more do
    if self.state == "call" then
      more = read_inside(self)
    elseif self.state == "header" then
      more = read_header(self)
    else
      more = read_open(self)
    end
  end
  local events = self.events
  self.events = {}
  return events
end

---Read the next piece of a reply.
---@param piece string
---@return table[] events
function Parser:feed(piece)
  self.held = self.held .. piece
  return advance(self)
end

-- The reply ended inside a call.  Behind a value that never ended there may be a closing marker.
local function cut_off(self)
  if self.is_bare and not looks_like_call(self, self.held) then
    self.held = drop_bare(self) .. self.held
    return
  end
  local kind, first, last = self.scan:first_stop(self.held)
  if kind then return take_call(self, kind, first, last) end
  local raw = self.opened .. self.held:sub(#self.prefix + 1)
  self.held = ""
  broken(self, raw, "the reply ended inside the call; it was not run")
  enter(self, self.back)
end

---The reply is over: let go of what is held.
---@return table[] events
function Parser:finish()
  local all = {}
  local function take(events) table.move(events, 1, #events, #all + 1, all) end
  self.is_over = true
  take(advance(self))
  while self.state == "call" do
    cut_off(self)
    take(advance(self))
  end
  if self.state == "section" then
    end_junk(self)
  elseif not self.is_behind_marker and self.state ~= "header" then
    emit(self, self.state, self.space)
  end
  self.held, self.space = "", ""
  take(self.events)
  self.events = {}
  return all
end

local NO_CALL <const> = {}

---A parser of one reply.
---@param format perigee.format        checked
---@param is_thinking boolean          the prompt ended inside thinking
---@param next_id fun(given: string?): string   ids for calls; given: the reply's own
---@param schema_of? fun(name: string): any     parameters of a tool
---@return perigee.format.parser
function M.new(format, is_thinking, next_id, schema_of)
  local self = setmetatable({
    format = format, next_id = next_id, schema_of = schema_of or function() end, events = {},
    held = "", space = "", junk = "", n_region = 0, around = "text", back = "text",
    is_fresh = true, is_over = false, rules = markers.rules(format),
    scan_rules = format.call and scan.rules(format) or NO_CALL,
  }, Parser)
  local is_header = format.channels and not is_thinking
  enter(self, is_thinking and "thinking" or is_header and "header" or "text")
  self.is_behind_marker = is_thinking
  return self
end

return M
