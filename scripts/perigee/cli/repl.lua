-- SPDX-License-Identifier: MIT
-- The conversation on a terminal: messages of one or more lines, commands (commands.lua), branches.
-- Nothing that goes wrong in an answer or a command ends it.
local commands = require "perigee.cli.commands"
local host = require "perigee.sys.host"
local reload = require "perigee.cli.reload"
local screens = require "perigee.cli.screen"

local M = {}

---@class perigee.cli.branch
---@field chat table
---@field turns { mark: table, text: string }[]   before each message sent
---@field changes table    parameters set here; json.null: the default
---@field seen string      what the assistant's files were when it was read (reload.lua)

---@class perigee.cli.repl
---@field branches table<string, perigee.cli.branch>
---@field name string       of the branch we are in
---@field assistant table   as the chat was opened
---@field options table     likewise
---@field shows_stats? boolean   after each answer
---@field screen perigee.cli.screen
---@field is_over boolean

-- Lines up to the one that holds the closing quotes.
local function read_quoted(first)
  local lines = {}
  local line = first:gsub('^%s*"""', "")
  while true do
    local head, tail = line:match('^(.-)"""(.*)$')
    if head then
      lines[#lines + 1] = head .. tail
      return table.concat(lines, "\n"):gsub("^\n", ""):gsub("\n$", "")
    end
    lines[#lines + 1] = line
    local next_line, err = host.read_line("... ")
    if not next_line then return nil, err end
    line = next_line
  end
end

-- Lines as long as they end with a backslash.
local function read_continued(first)
  local lines, line = {}, first
  while line:sub(-1) == "\\" do
    lines[#lines + 1] = line:sub(1, -2)
    local next_line, err = host.read_line("... ")
    if not next_line then return nil, err end
    line = next_line
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

---One message or command.
---@return string? text   nil at the end of input, and with err after Ctrl-C
---@return perigee.error? err
local function read_message()
  local line, err = host.read_line(">>> ")
  if not line then return nil, err end
  if line:find('^%s*"""') then return read_quoted(line) end
  return read_continued(line)
end
M.read_message = read_message

local function send(self, text)
  local branch = self.branches[self.name]
  reload.before_turn(self)
  local turn = { mark = branch.chat:mark(), text = text }
  local done = require("perigee.cli.chat").answer(branch.chat, text, self.screen)
  if done then table.insert(branch.turns, turn) end
  self.screen:write("\n")
  if self.shows_stats then
    for _, line in ipairs(require("perigee.cli.chat").stats_lines(branch.chat)) do
      self.screen:say(line)
    end
  end
  return done
end

local function greet(self)
  local chat = self.branches[self.name].chat
  local info = chat:info()
  local name = chat:assistant().name or tostring(info.path or "model"):match("([^/]+)$")
  local isa = info.isa and info.isa ~= "" and " (" .. info.isa .. ")" or ""
  self.screen:say(("%s on %s%s, context %d. /help lists commands, Ctrl-D leaves."):format(
    name, info.device or "?", isa, info.n_ctx or 0))
end

-- Ctrl-C at the prompt: the line is gone; twice in a row leaves.
local function interrupted(self)
  self.n_interrupt = self.n_interrupt + 1
  if self.n_interrupt > 1 then
    self.is_over = true
  else
    self.screen:say("(Ctrl-C again, Ctrl-D or /bye leaves.)")
  end
end

local function turn(self)
  local text, err = read_message()
  if not text then
    if not err then
      self.is_over = true
    elseif err.code == "cancelled" then
      interrupted(self)
    else
      self.is_over, self.status = true, 1
      self.screen:fail(tostring(err))
    end
    return
  end
  self.n_interrupt = 0
  if text:find("^%s*$") then return end
  if text:find("^/") then return commands.run(self, text) end
  send(self, text)
end

local function close(self)
  for _, branch in pairs(self.branches) do branch.chat:close() end
end

---@param chat table
---@param assistant table
---@param options table
---@param arguments table
---@return integer status
function M.run(chat, assistant, options, arguments)
  local self <close> = setmetatable({
    branches = { main = { chat = chat, turns = {}, changes = {} } }, name = "main",
    assistant = assistant,
    options = options, screen = screens.new(arguments, true), n_interrupt = 0, status = 0,
    is_over = false, send = send,
  }, { __close = close })
  greet(self)
  reload.note(self.branches.main)
  while not self.is_over do
    local ok, err = pcall(turn, self)
    if not ok then self.screen:fail(tostring(err)) end
  end
  if arguments.verbose and arguments.verbose > 0 then
    local lines = require("perigee.cli.chat").stats_lines(self.branches[self.name].chat)
    for _, line in ipairs(lines) do self.screen:note(line) end
  end
  return self.status
end

return M
