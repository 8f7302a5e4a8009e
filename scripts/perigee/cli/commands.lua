-- SPDX-License-Identifier: MIT
-- The commands of the conversation (repl.lua).  A command gets the conversation and the rest of its
-- line; what it returns as text is an error to show.
local assistants = require "perigee.assistants"
local check = require "perigee.check"
local conversations = require "perigee.cli.conversations"
local facts = require "perigee.cli.facts"
local reloads = require "perigee.cli.reload"
local saved = require "perigee.cli.saved"
local settings = require "perigee.cli.settings"

local M = {}

---@class perigee.cli.command
---@field name string
---@field usage string
---@field help string
---@field run fun(self: perigee.cli.repl, rest: string): string?

local branch_of = conversations.branch_of

local SHORTCUTS <const> = {
  "  Ctrl-A, Ctrl-E         to the beginning, to the end of the line",
  "  Ctrl-R                 search what was typed; up and down go through it",
  "  Ctrl-U, Ctrl-W         delete the line, a word",
  "  Tab                    complete a command or the name of a file",
  "  Ctrl-L                 clear the screen",
  "  Ctrl-C                 stop the answer; at the prompt, drop the line",
  "  Ctrl-D                 leave",
}

local function help(self, rest)
  if rest == "shortcuts" then return self.screen:say(table.concat(SHORTCUTS, "\n")) end
  if rest ~= "" then return ("/help: there is no help on %s; /help, /? shortcuts"):format(rest) end
  local lines = {}
  for _, command in ipairs(M.list) do
    lines[#lines + 1] = ("  %-22s %s"):format(command.name .. " " .. command.usage, command.help)
  end
  lines[#lines + 1] = '  """ ... """            several lines; one that ends with \\ goes on, too'
  lines[#lines + 1] = "  Ctrl-C                 stops the answer; at the prompt, drops the line"
  lines[#lines + 1] = "  /? shortcuts           keys that edit the line"
  self.screen:say(table.concat(lines, "\n"))
end

local function tools(self)
  local lines = {}
  for _, tool in ipairs(branch_of(self).chat:tools()) do
    lines[#lines + 1] = ("  %s  %s"):format(tool.signature, tool.description or "")
  end
  if #lines == 0 then lines[1] = "There are no tools: an assistant in Lua can give some." end
  self.screen:say(table.concat(lines, "\n"))
end

local function stats(self)
  local lines = require("perigee.cli.chat").stats_lines(branch_of(self).chat)
  self.screen:say(table.concat(lines, "\n"))
end

local function reload(self)
  local ok, err = reloads.reload(self)
  if not ok then return tostring(err) end
  self.screen:say("Read anew; the conversation goes on.")
end

local function list(self)
  local lines = {}
  for _, entry in ipairs(assistants.list()) do
    local note = entry.hidden_by and "  (the name means " .. entry.hidden_by .. ")" or ""
    lines[#lines + 1] = ("  %-14s %s%s"):format(entry.name, entry.path, note)
  end
  if #lines == 0 then lines[1] = "There are no assistants in " .. table.concat(assistants.folders(),
    ", ") .. "." end
  self.screen:say(table.concat(lines, "\n"))
end

local function bye(self)
  self.is_over = true
end

---@type perigee.cli.command[]
M.list = {
  { name = "/help", usage = "", help = "this list", run = help },
  { name = "/system", usage = "[TEXT]", help = "show or set the system message",
    run = settings.system },
  { name = "/set", usage = "[NAME VALUE]", help = "set a parameter; /set alone lists what there is",
    run = settings.set },
  { name = "/show", usage = "[PART]",
    help = "info, license, lua, modelfile, parameters, system, template", run = facts.show },
  { name = "/tools", usage = "", help = "what the model may call", run = tools },
  { name = "/rewind", usage = "[N]", help = "forget the last turn, or the last N",
    run = conversations.rewind },
  { name = "/retry", usage = "", help = "ask the last message again", run = conversations.retry },
  { name = "/fork", usage = "[NAME]", help = "go on in a copy of this conversation",
    run = conversations.fork },
  { name = "/switch", usage = "[NAME]", help = "go to another conversation",
    run = conversations.switch },
  { name = "/clear", usage = "", help = "begin anew", run = conversations.clear },
  { name = "/save", usage = "NAME|FILE.json",
    help = "keep all this as the assistant NAME, or the messages in a file", run = saved.save },
  { name = "/load", usage = "NAME|FILE", help = "another assistant or model, or saved messages",
    run = saved.load },
  { name = "/reload", usage = "", help = "read the assistant's files anew", run = reload },
  { name = "/list", usage = "", help = "the assistants there are", run = list },
  { name = "/stats", usage = "", help = "tokens, speed, memory", run = stats },
  { name = "/bye", usage = "", help = "leave; so does Ctrl-D", run = bye },
}
local ALIASES <const> = { ["/?"] = "/help", ["/exit"] = "/bye", ["/quit"] = "/bye" }

---Run a command line; says what is wrong with it.
---@param self perigee.cli.repl
---@param line string   begins with "/"
function M.run(self, line)
  local word, rest = line:match("^(%S+)%s*(.-)%s*$")
  word = ALIASES[word] or word
  local names = {}
  for i, command in ipairs(M.list) do
    if command.name == word then
      local text = command.run(self, rest)
      if text then self.screen:fail(text) end
      return
    end
    names[i] = command.name
  end
  local near = check.nearest(word, names)
  local hint = near and "did you mean " .. near .. "?" or "/help lists what there is"
  self.screen:fail(("there is no command %s; %s"):format(word, hint))
end

return M
