-- SPDX-License-Identifier: MIT
-- Folders of assistants: a file NAME.lua, NAME.modelfile or NAME.gguf in one of them is the
-- assistant NAME.  Searched in this order: the folders of --assistants, the person's own
-- ($XDG_DATA_HOME/perigee/assistants), those that come with Perigee.  The first folder that has the
-- name gives it; the same name twice in one folder is an error.
local check = require "perigee.check"
local fs = require "perigee.sys.fs"
local host = require "perigee.sys.host"

local M = {}

---An assistant of a folder.
---@class perigee.assistants.entry
---@field name string
---@field path string
---@field kind "script"|"modelfile"|"model"
---@field folder string
---@field hidden_by? string   the path that the name means, where it is not this one

local KINDS <const> = { lua = "script", modelfile = "modelfile", gguf = "model" }

---Where the person's own assistants are, if that is known.
---@return string?
function M.own_folder()
  local data = host.data_home or host.home and host.home .. "/.local/share"
  return data and data .. "/perigee/assistants"
end

---The folders that are searched, first to last.
---@return string[]
function M.folders()
  local out = {}
  for _, folder in ipairs(host.arguments.assistants or {}) do out[#out + 1] = folder end
  out[#out + 1] = M.own_folder()
  if host.scripts then
    out[#out + 1] = host.scripts .. "/personality"
    out[#out + 1] = host.scripts .. "/models"
  end
  return out
end

local function is_name(text)
  return text:find("^[%w_][%w_.:-]*$") ~= nil
end

-- NAME and kind of a file's name, if it is one of an assistant; specs are not.
local function parse(file)
  local name, ending = file:match("^(.+)%.(%w+)$")
  local kind = ending and KINDS[ending:lower()]
  if not kind or not is_name(name) or name:find("_spec$") then return nil end
  return name, kind
end

local function names_in(folder, is_foreign)
  if is_foreign then return fs.list(folder) end
  local there = host.look(folder)
  return there and there.names or {}
end

local function entries_of(folder, names)
  local out = {}
  for _, file in ipairs(names) do
    local name, kind = parse(file)
    if name then
      out[#out + 1] = { name = name, path = folder .. "/" .. file, kind = kind, folder = folder }
    end
  end
  table.sort(out, function(a, b)
    return a.name < b.name or a.name == b.name and a.path < b.path
  end)
  return out
end

---The assistants there are, by name, then in the order of the folders.
---@param folders? string[]   these folders, which the script may read, instead of the usual ones
---@return perigee.assistants.entry[]?
---@return perigee.error? err
function M.list(folders)
  local list, wrong = check.strings(folders or M.folders(), "folders")
  if not list then check.blame(wrong) end
  local out, first = {}, {}
  for _, folder in ipairs(list) do
    local names, err = names_in(folder, folders ~= nil)
    if not names then return nil, err end
    for _, entry in ipairs(entries_of(folder, names)) do
      entry.hidden_by, entry.rank = first[entry.name], #out
      first[entry.name] = first[entry.name] or entry.path
      out[#out + 1] = entry
    end
  end
  table.sort(out, function(a, b)
    return a.name < b.name or a.name == b.name and a.rank < b.rank
  end)
  for _, entry in ipairs(out) do entry.rank = nil end
  return out
end

local function in_folder(folder, name)
  local found = {}
  for _, entry in ipairs(entries_of(folder, names_in(folder))) do
    if entry.name == name then found[#found + 1] = entry end
  end
  return found
end

---The assistant of that name.
---@param name string
---@return perigee.assistants.entry?   nil and nothing else where there is none
---@return perigee.error? err          two of that name in one folder
function M.find(name)
  if not is_name(name) then return nil end
  for _, folder in ipairs(M.folders()) do
    local found = in_folder(folder, name)
    if #found > 1 then
      return nil, check.err("invalid", ("the assistant %s is both %s and %s; rename one"):format(
        name, found[1].path, found[2].path))
    end
    if found[1] then return found[1] end
  end
end

---What is said of a folder where the name of an assistant was expected; nil when it is none.
---@param name string
---@return string?
function M.of_folder(name)
  local there = host.look(name)
  if not there or there.kind ~= "folder" then return nil end
  local inside = {}
  for _, entry in ipairs(entries_of(name, there.names or {})) do
    inside[#inside + 1] = entry.name
  end
  if #inside == 0 then
    return ("%s is a folder without assistants, expected a .gguf file, a .lua file or a Modelfile")
      :format(name)
  end
  return ("%s is a folder; name one of its assistants (%s) behind --assistants %s"):format(name,
    table.concat(inside, ", "), name)
end

---Is the path below the folder?
---@param path string
---@param folder string   with its slash
---@return boolean
function M.is_below(path, folder)
  local rest = path:sub(#folder + 1)
  return path:sub(1, #folder) == folder and not ("/" .. rest .. "/"):find("/../", 1, true)
end

---Is the path below one of the folders?
---@param path string
---@return boolean
function M.holds(path)
  for _, folder in ipairs(M.folders()) do
    if M.is_below(path, folder .. "/") then return true end
  end
  return false
end

return M
