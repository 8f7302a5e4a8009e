-- SPDX-License-Identifier: MIT
-- Commands that change which conversation goes on: forget, ask again, copy, begin anew, keep in a
-- file.  Each gets the conversation (repl.lua) and the rest of its line; what it returns as text is
-- an error to show.
local check = require "perigee.check"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"

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
  self.branches[name] = { chat = chat, turns = table.move(branch.turns, 1, #branch.turns, 1, {}) }
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

-- A new chat in this branch that begins with these messages.
local function begin(self, messages, text)
  local old = branch_of(self)
  local assistant = check.shallow(self.assistant)
  assistant.messages, assistant.system = messages, text
  assistant.parameters = old.chat:set()
  local chat, err = require("perigee.cli.chat").open(assistant, self.options)
  if not chat then return tostring(err) end
  old.chat:close()
  self.branches[self.name] = { chat = chat, turns = {} }
end

function M.clear(self)
  local err = begin(self, self.assistant.messages, branch_of(self).chat:system())
  if err then return "/clear: " .. err end
  self.screen:say("A new conversation.")
end

function M.save(self, rest)
  if rest == "" then return "/save: the file is missing, /save FILE" end
  local chat = branch_of(self).chat
  local text = json.encode(json.object {
    { "version", 1 }, { "system", chat:system() or json.null },
    { "messages", json.array(chat:messages()) },
  }, { indent = 2 })
  local ok, err = host.write_file(rest, text .. "\n")
  if not ok then return "/save: " .. tostring(err) end
  self.screen:say(("%s written, %s."):format(rest, count(#chat:messages(), "message")))
end

function M.load(self, rest)
  if rest == "" then return "/load: the file is missing, /load FILE" end
  local text, err = host.read_file(rest)
  if not text then return "/load: " .. tostring(err) end
  local saved, wrong = json.decode(text)
  if saved == nil then return ("/load: %s: %s"):format(rest, tostring(wrong)) end
  local is_saved = check.is_object(saved) and saved.version == 1 and check.is_array(saved.messages)
  if not is_saved then return ("/load: %s holds no conversation that /save wrote"):format(rest) end
  local system_text = type(saved.system) == "string" and saved.system or nil
  wrong = begin(self, saved.messages, system_text)
  if wrong then return ("/load: %s: %s"):format(rest, wrong) end
  self.screen:say(("%s from %s."):format(count(#saved.messages, "message"), rest))
end

return M
