-- SPDX-License-Identifier: MIT
-- TARGET of a command as an assistant: a model file, a script that returns a table, a Modelfile, or
-- the name of one in a folder of assistants, or of a model in a store.  A word that is two of these
-- is an error.
-- What the person at the terminal named is read without a grant; so this reads host.arguments, and
-- what is typed in the conversation, only.
local assistants = require "perigee.assistant"
local check = require "perigee.check"
local find = require "perigee.store.find"
local folders = require "perigee.assistants"
local host = require "perigee.sys.host"
local modelfile = require "perigee.modelfile"
local places = require "perigee.places"

local M = {}

---How what the person named is read.
M.reader = { look = host.look, read = host.read_file, load = host.load, find = find.base }

local function read_script(path, words)
  local script, err = host.load(path)
  if not script then return nil, err end
  local result = script(table.unpack(words))
  if type(result) ~= "table" then return result end
  local assistant, text = assistants.check(result)
  if not assistant then
    return nil, check.err("invalid", places.name(path, host.read_file(path) or "", text))
  end
  return assistant, {}
end

local function checked(path, result, err)
  if not result then return nil, err end
  local assistant, text = assistants.check(result.assistant)
  if not assistant then return nil, check.err("modelfile", path .. ": " .. text) end
  return assistant, result
end

local function read_name(name)
  local base, err = find.base(name, true)
  if not base then return nil, err end
  return checked(base.name, modelfile.of_instructions(base.instructions, M.reader))
end

-- A word without "/" may be the name of an assistant: path and kind of what it names, nil where it
-- is none.
local function find_name(word, kind)
  if word:find("/", 1, true) or word:find("%.lua$") or word:find("%.gguf$") then return nil end
  local entry, err = folders.find(word)
  if not entry then return nil, err end
  local there = kind ~= "name" and host.look(word)
  if there and there.path ~= (host.look(entry.path) or there).path then
    return nil, check.err("invalid", ("%s is both the file %s and the assistant %s; give the path")
      :format(word, there.path, entry.path))
  end
  return entry
end

local function read_kind(path, kind, words)
  if kind == "script" then return read_script(path, words) end
  if kind == "modelfile" then return checked(path, modelfile.load(path, M.reader)) end
  if kind == "name" then return read_name(path) end
  return assistants.check { from = path }, {}
end

---The assistant; a script that returned none: what it returned, and nothing else.  A name of one is
---replaced in host.arguments by the path it stands for.
---@return perigee.assistant|any
---@return perigee.modelfile.result|perigee.error|table|nil   of a Modelfile or a name; {}; or the
---error
function M.read()
  local arguments = host.arguments
  local entry, err = find_name(arguments.target, arguments.kind)
  if err then return nil, err end
  local other = entry and entry.path or arguments.kind ~= "name" and arguments.target
  local clash = other and find.clash(arguments.target, other, entry ~= nil)
  if clash then return nil, clash end
  if entry then arguments.target, arguments.kind = entry.path, entry.kind end
  return read_kind(arguments.target, arguments.kind, arguments.words or {})
end

-- The kind of a path that was typed.
local function kind_of(path)
  if path:find("%.lua$") then return "script" end
  local there, err = host.look(path)
  if not there then return nil, err end
  if there.kind ~= "file" then return nil, check.err("invalid", path .. ": this is a folder") end
  return there.is_gguf and "model" or "modelfile"
end

---Another target, typed in the conversation: it takes the first one's place.
---@param word string   a path or a name
---@return perigee.assistant?
---@return perigee.error|table|nil   the error
function M.read_typed(word)
  local arguments, kind, err = host.arguments, kind_of(word)
  local old_target, old_kind = arguments.target, arguments.kind
  arguments.target, arguments.kind = word, kind or "name"
  if not kind and (word:find("/", 1, true) or word:find("%.lua$")) then
    arguments.target, arguments.kind = old_target, old_kind
    return nil, err
  end
  local ok, assistant, more = pcall(M.read)
  if ok and type(assistant) == "table" and more and not (more.problems or {})[1] then
    return assistant, more
  end
  arguments.target, arguments.kind = old_target, old_kind
  if not ok then return nil, check.as_err(assistant, "script") end
  if more and more.problems and more.problems[1] then
    return nil, check.err("model", more.problems[1])
  end
  return nil, more or check.err("invalid", word .. ": returned no assistant")
end

return M
