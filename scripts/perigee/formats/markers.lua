-- SPDX-License-Identifier: MIT
-- The markers of a format by the state of a reply, with what each of them does there:
--   "call"     a call begins                 "section" / "unsection"  calls follow / are over
--   "think" / "unthink"                      "skip"    it only frames the text
--   "header"   the next message begins, in formats with channels
-- and the longest suffix that may be the beginning of one.
local scan = require "perigee.formats.scan"

local M = {}

local function text_rules(format, add)
  local call, section, thinking = format.call, format.section, format.thinking
  if thinking then
    add(thinking.open, "think")
    add(thinking.close, "unthink")
  end
  if section then
    add(section.open, "section")
    if call.is_loose then add(section.close, "skip") end
  end
  if call and call.open and (not section or call.is_loose) then add(call.open, "call") end
  for _, marker in ipairs(format.skip or {}) do add(marker, "skip") end
end

local function thinking_rules(format, add)
  local call = format.call
  if format.thinking then add(format.thinking.close, "unthink") end
  if not call or not call.in_thinking then return end
  if format.section then add(format.section.open, "section") else add(call.open, "call") end
end

local function section_rules(format, add)
  add(format.call.open, "call")
  add(format.section.open, "skip")
  add(format.section.close, "unsection")
end

---The rules of a format; kept, because a chat asks for each reply.
---@param format perigee.format
---@return table rules   lists of { marker =, does = } by state
function M.rules(format)
  local rules = { longest = 0 }
  local function fill(state, read)
    local list = {}
    rules[state] = list
    read(format, function(marker, does)
      if not marker then return end -- a call that begins with its bracket
      list[#list + 1] = { marker = marker, does = does }
      rules.longest = math.max(rules.longest, #marker)
    end)
    for _, marker in ipairs(format.channels and format.channels.ends or {}) do
      list[#list + 1] = { marker = marker, does = "header" }
      rules.longest = math.max(rules.longest, #marker)
    end
  end
  fill("text", text_rules)
  fill("thinking", thinking_rules)
  if format.section then fill("section", section_rules) end
  return rules
end

---The first marker in a text; of several at one place the longest.
---@param list table[]
---@param s string
---@param is_over boolean   no more will come
---@return integer? where    nil: none, or not known yet
---@return table? rule
---@return integer keep      the place up to which there is none
function M.first(list, s, is_over, longest)
  local where, rule
  for _, one in ipairs(list) do
    local at = s:find(one.marker, 1, true)
    if at and (not where or at < where or at == where and #one.marker > #rule.marker) then
      where, rule = at, one
    end
  end
  local last = where or #s + 1
  if is_over then return where, rule, last end
  for from = math.max(1, #s - longest + 2), math.min(last, #s) do
    for _, one in ipairs(list) do
      if scan.could_start(s, from, one.marker) then return nil, nil, from end
    end
  end
  return where, rule, last
end

return M
