-- SPDX-License-Identifier: MIT
-- For specs of formats: the events of a reply as text, one a line, and whether any of the reply was
-- lost.
local format = require "perigee.format"
local json = require("perigee").json
local parser = require "perigee.formats.parser"

local M = {}

---The events of a reply that comes in pieces; neighbours of one kind joined.
---@param fmt table
---@param pieces string[]
---@param options? { tools: table?, is_thinking: boolean? }
---@return table[]
function M.events(fmt, pieces, options)
  options = options or {}
  local tools, n, list = options.tools or {}, 0, {}
  local p = parser.new(fmt, options.is_thinking or false, function(given)
    n = n + 1
    return given or "call_" .. n
  end, function(name) return tools[name] end)
  local function take(events)
    for _, ev in ipairs(events) do
      local last = list[#list]
      if last and last.type == ev.type and (ev.type == "text" or ev.type == "thinking") then
        last.text = last.text .. ev.text
      else
        list[#list + 1] = ev
      end
    end
  end
  for _, piece in ipairs(pieces) do take(p:feed(piece)) end
  take(p:finish())
  return list
end

-- Mutants are not always UTF-8.
local function quote(s)
  return json.encode(s) or ("%q"):format(s)
end

local LINES <const> = {
  text = function(ev) return "text " .. quote(ev.text) end,
  thinking = function(ev) return "thinking " .. quote(ev.text) end,
  moved = function() return "moved" end,
  call = function(ev)
    return ("call %s %s %s"):format(ev.id, ev.name,
      json.encode(ev.arguments) or "not UTF-8")
  end,
  broken = function(ev)
    return ("broken %s %s: %s"):format(ev.id, quote(ev.raw), ev.text)
  end,
}

---The events as text.
---@param fmt table
---@param pieces string[]
---@param options? table
---@return string
function M.text(fmt, pieces, options)
  local lines = M.events(fmt, pieces, options)
  for i, ev in ipairs(lines) do lines[i] = LINES[ev.type](ev) end
  return table.concat(lines, "\n")
end

---What differs when the reply comes byte by byte, or in two pieces: nil, or the first difference.
---@param fmt table
---@param reply string
---@param options? table
---@param step? integer   of two-piece splits only every so manieth
---@return string?
function M.split_difference(fmt, reply, options, step)
  local whole, bytes = M.text(fmt, { reply }, options), {}
  for i = 1, #reply do bytes[i] = reply:sub(i, i) end
  local text = M.text(fmt, bytes, options)
  if text ~= whole then return ("byte by byte %s, whole %s"):format(text, whole) end
  for i = 1, #reply - 1, step or 1 do
    text = M.text(fmt, { reply:sub(1, i), reply:sub(i + 1) }, options)
    if text ~= whole then return ("split at %d %s, whole %s"):format(i, text, whole) end
  end
  return nil
end

-- What is no event: markers and white space, in messages with headers the words of those.
local function markup_of(fmt)
  local markers = format.markers(fmt)
  return function(s, at)
    local out = {}
    if s:find("^%s", at) then out[1] = at + 1 end
    for _, marker in ipairs(markers) do
      if s:sub(at, at + #marker - 1) == marker then out[#out + 1] = at + #marker end
    end
    local word = fmt.channels and s:match("^[%a=._]+()", at)
    out[#out + 1] = word
    return out
  end
end

-- The places where a part ends that begins at one of the places, or behind markup there.
local function places_behind(reply, places, part, markup)
  local behind, seen, queue = {}, {}, {}
  for _, at in ipairs(places) do queue[#queue + 1] = at end
  local i = 1
  while queue[i] do
    local at = queue[i]
    i = i + 1
    if not seen[at] then
      seen[at] = true
      if reply:sub(at, at + #part - 1) == part then behind[#behind + 1] = at + #part end
      if part ~= "" or at <= #reply then
        for _, next_at in ipairs(markup(reply, at)) do queue[#queue + 1] = next_at end
      end
    end
  end
  return behind, seen
end

---What of the reply is in no event: nil, or where it begins.
---@param fmt table
---@param reply string
---@param options? table
---@return string?
function M.lost(fmt, reply, options)
  local places, region, markup = { 1 }, nil, markup_of(fmt)
  for _, ev in ipairs(M.events(fmt, { reply }, options)) do
    local text = ev.raw or ev.text
    if text and not (ev.region and ev.region == region) then
      region = ev.region
      -- Text is joined of pieces that may have markup between them.
      for part in text:gmatch(ev.raw and ".+" or "%S") do
        local before = places
        places = places_behind(reply, places, part, markup)
        if #places == 0 then
          return ("%q behind byte %d, before %q"):format(reply:sub(before[1]), before[1], part)
        end
      end
    end
  end
  local _, seen = places_behind(reply, places, "", markup)
  return not seen[#reply + 1] and reply:sub(places[1]) or nil
end

return M
