-- SPDX-License-Identifier: MIT
-- Commands that change which conversation goes on: forget, ask again, copy, begin anew.  Each gets
-- the conversation (repl.lua) and the rest of its line; what it returns as text is an error to
-- show.
local check = require "perigee.check"
local reload = require "perigee.cli.reload"

local M = {}

function M.branch_of(self)
  return self.branches[self.name]
end
local branch_of = M.branch_of

---"1 turn", "2 turns"
function M.count(n, one)
  return ("%d %s%s"):format(n, one, n == 1 and "" or "s")
end
local count = M.count

function M.fork(self, rest)
  local name, n = rest, 1
  while name == "" or (rest == "" and self.branches[name]) do
    name, n = "fork" .. n, n + 1
  end
  if name:find("%s") then return "/fork: a name is one word" end
  if self.branches[name] then
    return ("/fork: there is a conversation %s; /switch %s goes there"):format(name, name)
  end
  local branch = branch_of(self)
  local chat, err = branch.chat:fork()
  if not chat then return "/fork: " .. tostring(err) end
  self.branches[name] = { chat = chat, turns = table.move(branch.turns, 1, #branch.turns, 1, {}),
    changes = check.shallow(branch.changes), seen = branch.seen }
  local text = "This is %s now, a copy of %s; /switch %s goes back."
  self.screen:say(text:format(name, self.name, self.name))
  self.name = name
end

function M.switch(self, rest)
  local names = check.keys(self.branches)
  if self.branches[rest] then
    self.name = rest
    local turns = self.branches[rest].turns
    return self.screen:say(("This is %s, after %s."):format(rest, count(#turns, "turn")))
  end
  local near = rest ~= "" and check.nearest(rest, names)
  local list = table.concat(names, ", ")
  if rest == "" then return self.screen:say("Conversations: " .. list) end
  local hint = near and ("did you mean %s?"):format(near) or "there are " .. list
  return ("/switch: there is no conversation %s; %s"):format(rest, hint)
end

function M.rewind(self, rest)
  local turns = branch_of(self).turns
  local n = rest == "" and 1 or math.tointeger(tonumber((rest:gsub("%s*turns?$", ""))))
  if not n or n < 1 then return ("/rewind: found %q, expected a number of turns"):format(rest) end
  if #turns == 0 then return "/rewind: nothing has been said yet" end
  n = math.min(n, #turns)
  local place = turns[#turns - n + 1]
  local ok, err = branch_of(self).chat:rewind(place.mark)
  if not ok then return "/rewind: " .. tostring(err) end
  for _ = 1, n do table.remove(turns) end
  self.screen:say(("Forgotten: %s, from %q on."):format(count(n, "turn"), place.text:sub(1, 40)))
end

-- Again, on another stream of random numbers: at a temperature above 0 the answer differs.
function M.retry(self)
  local branch = branch_of(self)
  local last = branch.turns[#branch.turns]
  if not last then return "/retry: nothing has been said yet" end
  local ok, err = branch.chat:rewind(last.mark)
  if not ok then return "/retry: " .. tostring(err) end
  table.remove(branch.turns)
  local chat, wrong = branch.chat:fork()
  if not chat then return "/retry: " .. tostring(wrong) end
  branch.chat:close()
  branch.chat = chat
  self:send(last.text)
end

---A new chat in this branch, in place of the old one.
---@param self perigee.cli.repl
---@param messages? table[]   that it begins with; nil: the assistant's own
---@param assistant? table    another one
---@return string? text       what is wrong: then the old one stays
function M.begin(self, messages, assistant)
  local old, options = branch_of(self), check.shallow(self.options)
  options.over = check.shallow(options.over or {})
  if messages then options.over.messages = messages end
  if assistant then options.model = nil end
  local chat, err = require("perigee.cli.chat").open(assistant or self.assistant, options)
  if not chat then return tostring(err) end
  local changes = assistant and {} or old.changes
  if next(changes) then
    local ok, wrong = chat:set(changes)
    if not ok then
      chat:close()
      return tostring(wrong)
    end
  end
  if assistant then self.assistant = assistant end
  old.chat:close()
  self.branches[self.name] = { chat = chat, turns = {}, changes = changes }
  reload.note(self.branches[self.name])
end

function M.clear(self)
  local system = branch_of(self).chat:system()
  local err = M.begin(self)
  if err then return "/clear: " .. err end
  local chat = branch_of(self).chat
  if (system or "") ~= (chat:system() or "") then chat:system(system or "") end
  self.screen:say("A new conversation.")
end

return M
