-- SPDX-License-Identifier: MIT
-- Hot reload in the conversation: when a file of the assistant has changed, the next message is
-- answered by the new version, with the same conversation.  A version that cannot be used is told
-- about once, and the one before it stays.
local host = require "perigee.sys.host"
local targets = require "perigee.cli.target"

local M = {}

local IS_READ <const> = { script = true, modelfile = true }

-- The target, what it builds on, the modules it requires: a text that differs when one changes.
local function signature(branch)
  local arguments, words = host.arguments, {}
  local files = { table.unpack(branch.chat:assistant().files) }
  table.move(host.modules(), 1, #host.modules(), #files + 1, files)
  files[#files + 1] = IS_READ[arguments.kind] and arguments.target or nil
  table.sort(files)
  for i, path in ipairs(files) do
    local there = host.look(path)
    words[i] = path .. "=" .. (there and there.stamp or "gone")
  end
  return table.concat(words, "\n")
end

---Remember what the files are now.
---@param branch perigee.cli.branch
function M.note(branch)
  branch.seen = signature(branch)
end

local function read_assistant(self)
  if not IS_READ[host.arguments.kind] then return self.assistant end
  local ok, assistant, more = pcall(targets.read)
  if not ok then return nil, assistant end
  if type(assistant) ~= "table" then return nil, more or "it returned no assistant" end
  return assistant
end

---Read the assistant anew for the branch we are in.
---@param self perigee.cli.repl
---@return boolean? ok
---@return any err
function M.reload(self)
  local branch = self.branches[self.name]
  local assistant, err = read_assistant(self)
  local ok = assistant ~= nil
  if ok then ok, err = branch.chat:reload(assistant) end
  M.note(branch)
  if not ok then return nil, err end
  self.assistant = assistant
  return true
end

---Reload where a file has changed since.
---@param self perigee.cli.repl
function M.before_turn(self)
  local branch = self.branches[self.name]
  if signature(branch) == branch.seen then return end
  local ok, err = M.reload(self)
  if ok then
    self.screen:say("(The assistant has changed: this is its new version.)")
  else
    self.screen:fail(tostring(err))
    self.screen:say("(The assistant has changed and cannot be used so; the version before stays.)")
  end
end

return M
