-- SPDX-License-Identifier: MIT
-- Lines broken between words, as text comes in pieces: a word is held back until it is whole.
local M = {}

---@class perigee.cli.wrap
---@field columns integer
---@field column integer   characters on the line so far
---@field word string      that has not ended
local Wrap = {}
Wrap.__index = Wrap

---@param columns integer
---@return perigee.cli.wrap
function M.new(columns)
  return setmetatable({ columns = columns, column = 0, word = "" }, Wrap)
end

local function width(text)
  return utf8.len(text) or #text
end

---The word held back, at the end of the text or of the line.
---@return string
function Wrap:flush()
  local word = self.word
  self.word = ""
  if word == "" then return "" end
  local n = width(word)
  local begins = self.column > 0 and self.column + n > self.columns
  self.column = begins and n or self.column + n
  return (begins and "\n" or "") .. word
end

---A piece of text; what can be shown of it.
---@param text string
---@return string
function Wrap:feed(text)
  local out = {}
  for space, word in text:gmatch("([\n ]?)([^\n ]*)") do
    if space ~= "" then
      out[#out + 1] = self:flush()
      if space == "\n" then
        out[#out + 1], self.column = "\n", 0
      elseif self.column < self.columns then
        out[#out + 1], self.column = " ", self.column + 1
      end
    end
    self.word = self.word .. word
  end
  return table.concat(out)
end

return M
