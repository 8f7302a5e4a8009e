-- SPDX-License-Identifier: MIT
-- Whether a model thinks before it answers, and how much: true, false, or a level.  Here is what
-- these words become for a chat template, and what a template does not heed.
--   Jinja: enable_thinking is true or false; reasoning_effort is the level, where one was given.
--          A template that asks for `thinking` and not for enable_thinking gets that.
--   Go:    .Think, .ThinkLevel and .IsThinkSet, as Ollama gives them (gotemplate/data.lua).  Like
--          there, a template that writes the thinking of earlier messages has it on unless told.
local check = require "perigee.check"

local M = {}

---@alias perigee.think boolean|"low"|"medium"|"high"

---The levels, least first.
M.LEVELS = { "low", "medium", "high" }

local EXPECTED <const> = 'true, false, "low", "medium" or "high"'
local IS_LEVEL <const> = { low = true, medium = true, high = true }

---Is it a level?
---@param v any
---@return boolean
function M.is_level(v)
  return IS_LEVEL[v] == true
end

---How the parameter is checked.
M.field = { expected = EXPECTED, check = function(v, path)
  if type(v) == "boolean" or IS_LEVEL[v] then return v end
  return nil, check.wrong(path, v, EXPECTED)
end }

---Put what a Jinja template is told among its variables.
---@param vars table<string, any>         changed
---@param reads table<string, boolean>    names that the template takes from its variables
---@param think? perigee.think
function M.tell(vars, reads, think)
  if think == nil then return end
  vars.enable_thinking = think ~= false
  if reads.thinking and not reads.enable_thinking then vars.thinking = think ~= false end
  if IS_LEVEL[think] then vars.reasoning_effort = think end
end

---What a template of Go is told.
---@param info perigee.gotemplate.info
---@param think? perigee.think
---@return perigee.think?
function M.of_go(info, think)
  if think == nil and info.uses_thinking then return true end
  return think
end

local function words(template)
  if template.go then
    return template.go.uses_think, template.go.uses_level, ".Think", ".ThinkLevel"
  end
  local reads = template.parsed.reads
  return reads.enable_thinking or reads.thinking, reads.reasoning_effort, "enable_thinking",
    "reasoning_effort"
end

---What of it has no effect on a template.
---@param template perigee.prompt
---@param think? perigee.think
---@return string? text
function M.unheeded(template, think)
  if think == nil then return nil end
  local switches, has_levels, switch, level = words(template)
  if not switches and not has_levels then
    return ("the chat template knows no %s; think has no effect"):format(switch)
  elseif IS_LEVEL[think] and not has_levels then
    return ("the chat template knows no %s, so the level %s has no effect; thinking is on"):format(
      level, think)
  elseif think == false and not switches then
    return ("the chat template knows levels of thinking (%s) and no %s; it is not turned off")
      :format(level, switch)
  end
end

return M
