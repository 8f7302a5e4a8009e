-- SPDX-License-Identifier: MIT
-- Instructions as the text of a Modelfile.  A value is printed as Ollama prints it (with a newline
-- or a blank at an end in "...", or """...""" where it holds a quote; else bare) where that reads
-- back as the same value, else in the first other form that does.  So parsing what is printed gives
-- the same instructions, and printing those the same text.
local parser = require "perigee.modelfile.parser"

local M = {}

local FORMS <const> = { bare = "%s", single = '"%s"', triple = '"""%s"""' }

local function order_of(value)
  local needs_quotes = value:find("\n", 1, true) or value:find("^ ") or value:find(" $")
  if not needs_quotes then return { "bare", "single", "triple" } end
  if value:find('"', 1, true) then return { "triple", "single" } end
  return { "single", "triple" }
end

-- Does a line read back as exactly this?
local function reads_back(line, instruction)
  local list, warnings = parser.parse(line .. "\n", "")
  local one = list and list[1]
  return one and #list == 1 and #warnings == 0 and one.name == instruction.name
    and one.key == instruction.key and one.value == instruction.value
end

---One instruction as text, without the newline behind it.
---@param instruction { name: string, key?: string, value: string }
---@return string?   nil where no Modelfile can say it
function M.line(instruction)
  local head = instruction.name .. " "
  if instruction.key then head = head .. instruction.key .. " " end
  for _, form in ipairs(order_of(instruction.value)) do
    local before, after = FORMS[form]:match("^(.*)%%s(.*)$")
    local line = head .. before .. instruction.value .. after
    if reads_back(line, instruction) then return line end
  end
end

---A whole Modelfile.
---@param list { name: string, key?: string, value: string }[]
---@return string text
---@return string[] lost   what could not be said, in words; a comment stands in its place
function M.text(list)
  local lines, lost = {}, {}
  for _, instruction in ipairs(list) do
    local line = M.line(instruction)
    if not line then
      local what = instruction.name .. (instruction.key and " " .. instruction.key or "")
      lost[#lost + 1] = what .. ": this text cannot be written in a Modelfile (quotes at the ends "
        .. "of its lines, or characters that do not print)"
      line = "# " .. lost[#lost]
    end
    lines[#lines + 1] = line .. "\n"
  end
  return table.concat(lines), lost
end

return M
