-- SPDX-License-Identifier: MIT
-- The commands of the conversation (repl.lua).  A command gets the conversation and the rest of its
-- line; what it returns as text is an error to show.
local check = require "perigee.check"
local conversations = require "perigee.cli.conversations"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"

local M = {}

---@class perigee.cli.command
---@field name string
---@field usage string
---@field help string
---@field run fun(self: perigee.cli.repl, rest: string): string?

local branch_of, count = conversations.branch_of, conversations.count

-- "temp 0.2, top_k 40"
local function parameter_text(all)
  local words = {}
  for _, name in ipairs(check.keys(all)) do
    local v = all[name]
    local text = type(v) == "string" and v or json.encode(check.copy(v, name))
    words[#words + 1] = name .. " " .. text
  end
  if #words == 0 then return "as the model file recommends, else the defaults" end
  return table.concat(words, ", ")
end

local function help(self)
  local lines = {}
  for _, command in ipairs(M.list) do
    lines[#lines + 1] = ("  %-22s %s"):format(command.name .. " " .. command.usage, command.help)
  end
  lines[#lines + 1] = '  """ ... """            several lines; one that ends with \\ goes on, too'
  lines[#lines + 1] = "  Ctrl-C                 stops the answer; at the prompt, drops the line"
  self.screen:say(table.concat(lines, "\n"))
end

local function system(self, rest)
  local chat = branch_of(self).chat
  if rest == "" then
    self.screen:say(chat:system() or "There is no system message.")
  else
    chat:system(rest)
    self.screen:say("The system message is set; it holds from your next message on.")
  end
end

-- The first reading of a word that the parameter takes: a number, true or false, a text.
local function read_value(name, word)
  local readings, first = { tonumber(word) }, nil
  if word == "true" or word == "false" then readings[#readings + 1] = word == "true" end
  readings[#readings + 1] = word
  for _, v in ipairs(readings) do
    local checked, text = parameters.check({ [name] = v }, "")
    if checked then return checked end
    first = first or text
  end
  return nil, first
end

local function set(self, rest)
  local chat = branch_of(self).chat
  rest = rest:gsub("^parameter%s+", "")
  local name, word = rest:match("^(%S+)%s+(.-)%s*$")
  if not name then
    if rest ~= "" then return ("/set: the value is missing, /set %s VALUE"):format(rest) end
    return self.screen:say("Parameters: " .. parameter_text(chat:set()))
  end
  if name == "system" then return system(self, word) end
  name = name:gsub("-", "_")
  local changes, text = read_value(name, word)
  if not changes then return "/set: " .. text end
  local fixed = next(parameters.pick(changes, "model"))
  if fixed then
    return ("/set: %s is fixed while the model is open; start again with --%s"):format(fixed, fixed)
  end
  chat:set(changes)
  self.screen:say("Parameters: " .. parameter_text(chat:set()))
end

local function show(self)
  local branch = branch_of(self)
  local chat = branch.chat
  local info, names = chat:info(), check.keys(self.branches)
  for i, name in ipairs(names) do
    local mark = name == self.name and "*" or ""
    names[i] = ("%s%s (%s)"):format(mark, name, count(#self.branches[name].turns, "turn"))
  end
  self.screen:say(table.concat({
    ("model         %s, %s"):format(info.path or "?", info.architecture or "?"),
    ("device        %s %s"):format(info.device or "?", info.isa or ""),
    ("context       %d tokens"):format(info.n_ctx or 0),
    "system        " .. (chat:system() or "none"),
    "parameters    " .. parameter_text(chat:set()),
    "tools         " .. count(#chat:tools(), "tool"),
    "conversations " .. table.concat(names, ", "),
  }, "\n"))
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

local function bye(self)
  self.is_over = true
end

---@type perigee.cli.command[]
M.list = {
  { name = "/help", usage = "", help = "this list", run = help },
  { name = "/system", usage = "[TEXT]", help = "show or set the system message", run = system },
  { name = "/set", usage = "[NAME VALUE]", help = "set a parameter: temp, top_k, max, ...",
    run = set },
  { name = "/show", usage = "", help = "model, parameters, conversations", run = show },
  { name = "/tools", usage = "", help = "what the model may call", run = tools },
  { name = "/rewind", usage = "[N]", help = "forget the last turn, or the last N",
    run = conversations.rewind },
  { name = "/retry", usage = "", help = "ask the last message again", run = conversations.retry },
  { name = "/fork", usage = "[NAME]", help = "go on in a copy of this conversation",
    run = conversations.fork },
  { name = "/switch", usage = "[NAME]", help = "go to another conversation",
    run = conversations.switch },
  { name = "/clear", usage = "", help = "begin anew", run = conversations.clear },
  { name = "/save", usage = "FILE", help = "write the conversation to a file",
    run = conversations.save },
  { name = "/load", usage = "FILE", help = "go on with a conversation from a file",
    run = conversations.load },
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
