-- SPDX-License-Identifier: MIT
-- Replies that are made of messages, each with a header that says what it is:
--   <|channel|>analysis<|message|>...<|end|><|start|>assistant to=functions.f ...<|message|>{...}
-- A format says so by channels = { message =, recipient =, channel =, kinds =, ends =, begins = }.
local M = {}

local MAX_HEADER <const> = 256

---@class perigee.format.channels
---@field message string        behind the header
---@field recipient string      pattern that finds the tool that is called
---@field channel string        pattern that finds the channel's name
---@field kinds table<string, string>   "text" or "thinking" by channel
---@field ends string[]         behind a message
---@field begins string[]       what a header may begin with

-- Could the text be the beginning of a header?
local function is_header(channels, text)
  local s = text:match("^%s*(.*)$")
  if #s > MAX_HEADER then return false end
  for _, begin in ipairs(channels.begins) do
    local n = math.min(#s, #begin)
    if s:sub(1, n) == begin:sub(1, n) then return true end
  end
  return false
end

-- Is a whole header made of markers and words only?  What is not is part of no header.
local function is_clean(channels, header)
  local at = 1
  while at <= #header do
    local last = header:match("^[%w%s=._%-]+()", at)
    for _, marker in ipairs(channels.begins) do
      if header:sub(at, at + #marker - 1) == marker then last = at + #marker end
    end
    if not last then return false end
    at = last
  end
  return true
end

---Drop the marks behind messages; more than one may stand there.
---@param channels perigee.format.channels
---@param held string
---@return string held
function M.skip_ends(channels, held)
  local at, is_found = 1, true
  while is_found do
    is_found = false
    local from = held:match("^%s*()", at)
    for _, marker in ipairs(channels.ends) do
      if held:sub(from, from + #marker - 1) == marker then at, is_found = from + #marker, true end
    end
  end
  return held:sub(at)
end

---What the held text begins with.
---@param channels perigee.format.channels
---@param held string
---@param is_over boolean
---@return "wait"|"call"|"thinking"|"text" kind
---@return integer n   bytes of the header; 0 when there is none
function M.read(channels, held, is_over)
  local from, to = held:find(channels.message, 1, true)
  local header = from and held:sub(1, from - 1) or held
  if not is_header(channels, header) then return "text", 0 end
  if not from then
    if not is_over then return "wait", 0 end
    return header:find(channels.recipient) and "call" or "text", 0
  end
  if not is_clean(channels, header) then return "text", 0 end
  if header:find(channels.recipient) then return "call", to end
  local kind = channels.kinds[header:match(channels.channel) or ""]
  if not kind then return "text", 0 end
  return kind, to
end

return M
