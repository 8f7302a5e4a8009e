-- SPDX-License-Identifier: MIT
-- /save and /load: a conversation as an assistant that goes on with it, or its messages as JSON.
--   /save NAME          NAME.lua in the person's folder of assistants: from = what runs here, with
--                       what was set and said on top; perigee run NAME goes on with it.  It asks
--                       for the right to read what it stands on, where that lies elsewhere
--   /save FILE.lua      the same, at that path
--   /save FILE          (with a slash, or FILE.json) the system message and the messages
--   /load NAME|FILE     an assistant or a model, or messages that /save wrote
local assistants = require "perigee.assistants"
local check = require "perigee.check"
local conversations = require "perigee.cli.conversations"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local lua_text = require "perigee.lua_text"
local targets = require "perigee.cli.target"

local M = {}

local branch_of, count = conversations.branch_of, conversations.count
local MARK <const> = "-- Saved by /save; it may write this file again.\n"

-- The assistant that goes on with this conversation, as a table.
local function snapshot(self)
  local branch, out = branch_of(self), {}
  local there, err = host.look(host.arguments.target)
  if not there then return nil, tostring(err) end
  local set, over = {}, (self.options.over or {}).parameters or {}
  for name, v in next, over do set[name] = v end
  for name, v in next, branch.changes do
    if v == json.null then set[name] = nil else set[name] = v end
  end
  out.parameters, out.messages = set, branch.chat:messages()
  out.system = branch.chat:system()
  if host.arguments.kind ~= "model" and not assistants.holds(there.path) then
    out.capabilities = { fs = { read = { there.path:match("^(.*)/[^/]*$") } } }
  end
  return out, there.path
end

-- The first bytes of what stands there, unless /save wrote it.
local function is_foreign(path)
  if not host.look(path) then return false end
  local text = host.read_file(path)
  return not text or text:sub(1, #MARK) ~= MARK
end

local function save_assistant(self, path, name)
  local t, from = snapshot(self)
  if not t then return "/save: " .. from end
  if is_foreign(path) then
    return ("/save: %s is there and was not written by /save; take another name"):format(path)
  end
  local note = self.options.model and ("-- It ran with -m %s.\n"):format(
    tostring(self.options.model):gsub("%c", " ")) or ""
  local ok, err = host.write_file(path, MARK .. note .. lua_text.text(t, from))
  if not ok then return "/save: " .. tostring(err) end
  local how = name and "perigee run " .. name or "perigee run " .. path
  self.screen:say(("%s written: %s goes on with this conversation."):format(path, how))
end

local function save_messages(self, path)
  local chat = branch_of(self).chat
  local text = json.encode(json.object {
    { "version", 1 }, { "system", chat:system() or json.null },
    { "messages", json.array(chat:messages()) },
  }, { indent = 2 })
  local ok, err = host.write_file(path, text .. "\n")
  if not ok then return "/save: " .. tostring(err) end
  self.screen:say(("%s written, %s."):format(path, count(#chat:messages(), "message")))
end

---@param self perigee.cli.repl
---@param rest string
---@return string? text   what is wrong
function M.save(self, rest)
  if rest == "" then return "/save: the name is missing, /save NAME or /save FILE.json" end
  if rest:find("%.lua$") then return save_assistant(self, rest) end
  if rest:find("/", 1, true) or rest:find("%.json$") then return save_messages(self, rest) end
  if not rest:find("^[%w_][%w_-]*$") then
    return ("/save: found %q, expected a name of letters, digits, _ and -, or a file"):format(rest)
  end
  local folder = assistants.own_folder()
  if not folder then return "/save: neither $XDG_DATA_HOME nor $HOME is set; give a path" end
  local ok, err = host.make_folder(folder)
  if not ok then return "/save: " .. tostring(err) end
  return save_assistant(self, folder .. "/" .. rest .. ".lua", rest)
end

local function load_messages(self, path, text)
  local saved, wrong = json.decode(text)
  if saved == nil then return ("/load: %s: %s"):format(path, tostring(wrong)) end
  local is_saved = check.is_object(saved) and saved.version == 1 and check.is_array(saved.messages)
  if not is_saved then return ("/load: %s holds no conversation that /save wrote"):format(path) end
  wrong = conversations.begin(self, saved.messages)
  if wrong then return ("/load: %s: %s"):format(path, wrong) end
  branch_of(self).chat:system(type(saved.system) == "string" and saved.system or "")
  self.screen:say(("%s from %s."):format(count(#saved.messages, "message"), path))
end

---@param self perigee.cli.repl
---@param rest string
---@return string? text   what is wrong
function M.load(self, rest)
  if rest == "" then return "/load: the name is missing, /load NAME or /load FILE" end
  local there = host.look(rest)
  if there and there.kind == "file" and not there.is_gguf and not rest:find("%.lua$") then
    local text, err = host.read_file(rest)
    if not text then return "/load: " .. tostring(err) end
    if text:find("^%s*{") then return load_messages(self, rest, text) end
  end
  local assistant, err = targets.read_typed(rest)
  if not assistant then return "/load: " .. tostring(err) end
  local wrong = conversations.begin(self, nil, assistant)
  if wrong then return "/load: " .. wrong end
  local chat = branch_of(self).chat
  self.screen:say(("This is %s now, on %s."):format(chat:assistant().name or rest,
    chat:info().path or "its model"))
end

return M
