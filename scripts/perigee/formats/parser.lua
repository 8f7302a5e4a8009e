-- SPDX-License-Identifier: MIT
-- A streaming parser of replies: pieces of text split anywhere go in, events come out, and the
-- events of a reply do not depend on how it was split.
--   { type = "text", text = }          { type = "thinking", text = }
--   { type = "call", id =, name =, arguments =, raw = }
--   { type = "broken", id =, name =, raw =, text = }  a call that cannot be read, or was cut off
--   { type = "moved" }                 </think> without opener: the text so far was thinking
-- A piece that may be the beginning of a marker is held back until it is known; so is white
-- space, because next to a marker it belongs to the markup and is dropped.  finish() lets go of
-- what is held. Inside the JSON of a call, markers within strings are text.  A call whose string
-- never ends takes in the rest of the reply; finish() then ends it at its first closing marker
-- and reads on behind that. Inside thinking, markers of calls are text: a model that muses about
-- calling has not called.
local check = require "perigee.check"
local json = require "perigee.sys.json"

local M = {}

---@class perigee.format.parser
---@field private format table
---@field private state string   "text", "thinking" or "call"
local Parser = {}
Parser.__index = Parser

-- Where the longest suffix of s begins that is the beginning of one of the markers.
local function begin_of_suffix(s, markers, longest)
  for from = math.max(1, #s - longest + 2), #s do
    local suffix = s:sub(from)
    for _, marker in ipairs(markers) do
      if marker:sub(1, #suffix) == suffix then return from end
    end
  end
  return #s + 1
end

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
  text = self.space .. text
  if self.is_behind_marker then text = text:match("^%s*(.*)$") end
  local body, space = text:match("^(.-)(%s*)$")
  self.space = space
  if body == "" then return end
  self.is_behind_marker = false
  emit(self, self.state, body)
end

local function enter(self, state)
  self.state, self.space, self.is_behind_marker = state, "", true
  self.at, self.is_in_string, self.is_escaped = 1, false, false
end

local function first_marker(s, markers)
  local where, found
  for _, marker in ipairs(markers) do
    local at = s:find(marker, 1, true)
    if at and (not where or at < where) then where, found = at, marker end
  end
  return where, found
end

-- Text or thinking: true when a marker was passed and there may be more.
local function read_open(self)
  local markers = self.markers[self.state]
  local where, marker = first_marker(self.held, markers)
  if not where then
    local keep = begin_of_suffix(self.held, markers, self.longest)
    say(self, self.held:sub(1, keep - 1))
    self.held = self.held:sub(keep)
    return false
  end
  say(self, self.held:sub(1, where - 1))
  self.held = self.held:sub(where + #marker)
  if marker == self.call_open then
    enter(self, "call")
  elseif marker == self.think_open then
    enter(self, "thinking")
  else
    if self.state == "text" then self.events[#self.events + 1] = { type = "moved" } end
    enter(self, "text")
  end
  return true
end

-- One call from decoded JSON.
local function read_call(self, value)
  local call = self.format.call
  if not check.is_object(value) then return nil, "found no object" end
  local name = value[call.name]
  if type(name) ~= "string" or name == "" then
    return nil, ("found no %q with the tool's name"):format(call.name)
  end
  local args = value[call.arguments]
  if args == nil and call.arguments ~= "parameters" then args = value.parameters end
  if args == nil or args == json.null or args == "" then args = json.object {} end
  if type(args) == "string" then
    local inner, err = json.decode(args)
    if inner == nil then return nil, "the arguments are no JSON: " .. tostring(err), name end
    args = inner
  end
  if not check.is_object(args) then
    return nil, ("found %s as %q, expected an object"):format(json.kind(args), call.arguments), name
  end
  return { type = "call", name = name, arguments = args }
end

local function add(self, event, raw)
  self.n_call = self.n_call + 1
  event.id, event.raw = self.next_id(), raw
  self.events[#self.events + 1] = event
end

local function broken(self, raw, text, name)
  add(self, { type = "broken", text = text, name = name }, raw)
end

local function decode(format, body)
  if format.call.parse then
    local ok, value, err = pcall(format.call.parse, body)
    if not ok then return nil, type(value) == "string" and value or "its reader failed" end
    if value == nil then return nil, err end
    return check.copy(value, "call")
  end
  local value, err = json.decode(body)
  if value == nil then return nil, tostring(err) end
  return value
end

-- The text between the markers of a call is whole.
local function end_call(self, body)
  local raw = body
  body = body:match("^%s*(.-)%s*$")
  if body == "" then return broken(self, raw, "found nothing between the markers of a call") end
  local value, err = decode(self.format, body)
  if value == nil then
    return broken(self, raw, "the call is no JSON: " .. (err or "nothing could be read"))
  end
  local list = check.is_array(value) and value or { value }
  for _, one in ipairs(list) do
    local call, text, name = read_call(self, one)
    if call then add(self, call, raw) else broken(self, raw, text, name) end
  end
end

local QUOTE <const>, BACKSLASH <const> = 34, 92

-- Move on over the JSON of a call to the next place outside strings where a marker may begin.
local function skip_json(self)
  while self.at <= #self.held do
    if self.is_escaped then
      self.is_escaped, self.at = false, self.at + 1
    else
      local stops = self.is_in_string and '["\\]' or self.stops
      self.at = self.held:find(stops, self.at) or #self.held + 1
      local byte = self.held:byte(self.at)
      if byte == BACKSLASH then
        self.is_escaped = true
      elseif byte == QUOTE then
        self.is_in_string = not self.is_in_string
      else
        return
      end
      self.at = self.at + 1
    end
  end
end

local function starts(s, at, marker)
  return s:sub(at, at + #marker - 1) == marker
end

local function could_start(s, at, marker)
  local rest = s:sub(at)
  return #rest < #marker and marker:sub(1, #rest) == rest
end

-- Inside a call: true when its end was found.
local function read_inside(self)
  local open, close = self.call_open, self.call_close
  while true do
    if self.format.call.parse then
      self.at = self.held:find(close, 1, true)
        or begin_of_suffix(self.held, { close }, self.longest)
    else
      skip_json(self)
    end
    if self.at > #self.held then return false end
    if starts(self.held, self.at, close) then
      local body = self.held:sub(1, self.at - 1)
      self.held = self.held:sub(self.at + #close)
      end_call(self, body)
      enter(self, "text")
      return true
    elseif starts(self.held, self.at, open) then
      local body = self.held:sub(1, self.at - 1)
      self.held = self.held:sub(self.at + #open)
      end_call(self, body)
      enter(self, "call")
      return true
    end
    local could = could_start(self.held, self.at, close) or could_start(self.held, self.at, open)
    if could then return false end
    self.at = self.at + 1
  end
end

local function advance(self)
  local more = true
  while more do
    if self.state == "call" then more = read_inside(self) else more = read_open(self) end
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

-- The reply ended inside a call.  Behind a string that never ended there may be a closing marker.
local function cut_off(self)
  local at = self.held:find(self.call_close, 1, true)
  if at then
    local body = self.held:sub(1, at - 1)
    self.held = self.held:sub(at + #self.call_close)
    end_call(self, body)
    enter(self, "text")
    return
  end
  local raw = self.held
  self.held = ""
  broken(self, raw, "the reply ended inside the call; it was not run")
  enter(self, "text")
end

---The reply is over: let go of what is held.
---@return table[] events
function Parser:finish()
  local all = {}
  local function take(events) table.move(events, 1, #events, #all + 1, all) end
  while self.state == "call" do
    cut_off(self)
    take(advance(self))
  end
  say(self, self.held)
  if not self.is_behind_marker then emit(self, self.state, self.space) end
  self.held, self.space = "", ""
  take(self.events)
  self.events = {}
  return all
end

---A parser of one reply.
---@param format table                a checked format
---@param is_thinking boolean         the prompt ended inside thinking
---@param next_id fun(): string       ids for calls
---@return perigee.format.parser
function M.new(format, is_thinking, next_id)
  local call, thinking = format.call or {}, format.thinking or {}
  local self = setmetatable({
    format = format, next_id = next_id, events = {}, held = "", space = "", n_call = 0,
    call_open = call.open, call_close = call.close, think_open = thinking.open,
  }, Parser)
  self.markers = { text = {}, thinking = { thinking.close } }
  for _, marker in ipairs { call.open or false, thinking.open or false, thinking.close or false } do
    if marker then table.insert(self.markers.text, marker) end
  end
  self.longest = 0
  for _, marker in ipairs(self.markers.text) do self.longest = math.max(self.longest, #marker) end
  if call.close then
    self.longest = math.max(self.longest, #call.close)
    local function escaped(s) return (s:sub(1, 1):gsub("%W", "%%%0")) end
    self.stops = '["' .. escaped(call.open) .. escaped(call.close) .. "]"
  end
  enter(self, is_thinking and "thinking" or "text")
  self.is_behind_marker = is_thinking
  return self
end

return M
