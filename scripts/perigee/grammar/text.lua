-- SPDX-License-Identifier: MIT
-- Pieces of GBNF: literals, classes of characters, and the rules of one grammar by name.
local M = {}

---@class perigee.grammar.range: integer[]   first and last code point

local NAMED <const> = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\",
  ['"'] = '\\"' }

---A text as a literal.
---@param text string
---@return string
function M.literal(text)
  return '"' .. text:gsub('[%c\127\\"]', function(c)
    return NAMED[c] or ("\\x%02X"):format(c:byte())
  end) .. '"'
end

local function point(cp)
  if cp > 0xFFFF then return ("\\U%08X"):format(cp) end
  if cp > 0x7E then return ("\\u%04X"):format(cp) end
  local c = string.char(cp)
  return c:find("%w") and c or ("\\x%02X"):format(cp)
end

---A class of ranges.
---@param ranges perigee.grammar.range[]
---@return string
function M.class(ranges)
  local out = {}
  for i, r in ipairs(ranges) do
    out[i] = r[1] == r[2] and point(r[1]) or point(r[1]) .. "-" .. point(r[2])
  end
  return "[" .. table.concat(out) .. "]"
end

---Ranges in their order, apart from each other.
---@param ranges perigee.grammar.range[]
---@return perigee.grammar.range[]
function M.normal(ranges)
  local sorted, out = table.move(ranges, 1, #ranges, 1, {}), {}
  table.sort(sorted, function(a, b) return a[1] < b[1] end)
  for _, r in ipairs(sorted) do
    local last = out[#out]
    if last and r[1] <= last[2] + 1 then
      last[2] = math.max(last[2], r[2])
    else
      out[#out + 1] = { r[1], r[2] }
    end
  end
  return out
end

---All other characters.
---@param ranges perigee.grammar.range[]
---@return perigee.grammar.range[]
function M.complement(ranges)
  local out, from = {}, 0
  for _, r in ipairs(M.normal(ranges)) do
    if r[1] > from then out[#out + 1] = { from, r[1] - 1 } end
    from = r[2] + 1
  end
  if from <= 0x10FFFF then out[#out + 1] = { from, 0x10FFFF } end
  return out
end

---A repetition of what stands in one item.
---@param item string
---@param least integer
---@param most? integer   nil: without end
---@return string
function M.times(item, least, most)
  if least == 1 and most == 1 then return item end
  if least == 0 and not most then return item .. "*" end
  if least == 1 and not most then return item .. "+" end
  if least == 0 and most == 1 then return item .. "?" end
  if least == most then return ("%s{%d}"):format(item, least) end
  return ("%s{%d,%s}"):format(item, least, most or "")
end

---@class perigee.grammar.rules
---@field private list string[]
---@field private used table<string, boolean>
---@field private once_made table<string, boolean>
local Rules = {}
Rules.__index = Rules

-- Names that grammar/json.lua and grammar/schema.lua define, and the one where a text begins.
local RESERVED <const> = { "root", "gap", "ws", "hex", "hex4", "char", "string", "number", "array",
  "member", "object", "value", "year2", "month", "day", "hour", "clock", "octet" }

---@return perigee.grammar.rules
function M.rules()
  local used = {}
  for _, name in ipairs(RESERVED) do used[name] = true end
  return setmetatable({ list = {}, used = used, once_made = {} }, Rules)
end

---A name like the one wanted that is not taken.
---@param wanted string
---@return string
function Rules:name(wanted)
  local base = ("x" .. wanted):gsub("[^%w-]", "-"):sub(2, 40)
  if base == "" then base = "x" end
  local name, n = base, 1
  while self.used[name] do
    n = n + 1
    name = base .. "-" .. n
  end
  self.used[name] = true
  return name
end

---Define a rule.
---@param name string   from Rules:name
---@param body string
---@return string name
function Rules:add(name, body)
  self.list[#self.list + 1] = name .. " ::= " .. body
  return name
end

---Define a rule of one of the reserved names, once.
---@param name string
---@param body string
---@return string name
function Rules:once(name, body)
  if not self.once_made[name] then
    self.once_made[name] = true
    self:add(name, body)
  end
  return name
end

---@return string
function Rules:text()
  return table.concat(self.list, "\n") .. "\n"
end

return M
