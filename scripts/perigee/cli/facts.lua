-- SPDX-License-Identifier: MIT
-- /show: what answers here, as a whole or in parts.  The words are those of Ollama.
local check = require "perigee.check"
local conversations = require "perigee.cli.conversations"
local settings = require "perigee.cli.settings"

local M = {}

local branch_of, count = conversations.branch_of, conversations.count

local function info(self)
  local chat = branch_of(self).chat
  local model, assistant, names = chat:info(), chat:assistant(), check.keys(self.branches)
  for i, name in ipairs(names) do
    local mark = name == self.name and "*" or ""
    names[i] = ("%s%s (%s)"):format(mark, name, count(#self.branches[name].turns, "turn"))
  end
  local system = chat:system()
  local lines = {
    ("model         %s, %s"):format(model.path or "?", model.architecture or "?"),
    ("device        %s %s"):format(model.device or "?", model.isa or ""),
    ("context       %d tokens"):format(model.n_ctx or 0),
    "system        " .. (system and system ~= "" and system or "none"),
    "parameters    " .. settings.text(chat:set()),
    "tools         " .. count(#chat:tools(), "tool"),
    "conversations " .. table.concat(names, ", "),
  }
  if #assistant.files > 0 then
    table.insert(lines, 1, "built on      " .. table.concat(assistant.files, ", "))
  end
  if assistant.description then
    table.insert(lines, 1, "about         " .. assistant.description)
  end
  self.screen:say(table.concat(lines, "\n"))
end

-- A part as perigee show prints it.
local function part(name)
  return function(self)
    local text, notes = require("perigee.cli.show").part(name)
    if not text then return "/show: " .. tostring(notes) end
    for _, note in ipairs(notes) do self.screen:note("warning: " .. note) end
    if text ~= "" then self.screen:say((text:gsub("\n$", ""))) end
  end
end

local PARTS <const> = {
  info = info,
  parameters = function(self)
    self.screen:say("Parameters: " .. settings.text(branch_of(self).chat:set()))
  end,
  system = function(self) return settings.system(self, "") end,
  license = part "license", modelfile = part "modelfile", template = part "template",
  lua = part "lua",
}

---@param self perigee.cli.repl
---@param rest string
---@return string? text   what is wrong
function M.show(self, rest)
  local run = PARTS[rest == "" and "info" or rest]
  if run then return run(self) end
  local names = check.keys(PARTS)
  local near = check.nearest(rest, names)
  local hint = near and "did you mean " .. near .. "?" or "there are " .. table.concat(names, ", ")
  return ("/show: there is no %s; %s"):format(rest, hint)
end

return M
