-- SPDX-License-Identifier: MIT
-- The files a Modelfile names: paths relative to the Modelfile, ~ for the person's folder, and of a
-- folder the GGUF file in it.
local host = require "perigee.sys.host"

local M = {}

---@class perigee.modelfile.reader
---@field look fun(path: string): table?, perigee.error?    as host.look
---@field read fun(path: string): string?, perigee.error?
---@field load fun(path: string): function?, perigee.error?   a Lua file, not yet run
---@field find? fun(word: string): table?, perigee.error?   the model of a store (store/find.lua); a
---nil without an error: the word cannot be the name of a model

---Where a path in a Modelfile leads.
---@param file string   the Modelfile
---@param path string
---@return string? path
---@return string? text   what is wrong with it
function M.join(file, path)
  if path:find("\0", 1, true) then return nil, "found a zero byte, expected a path" end
  local rest = path:match("^~(.*)$")
  if rest and (rest == "" or rest:sub(1, 1) == "/") then
    if not host.home then return nil, "~ is unknown: HOME is not set" end
    return host.home .. rest
  elseif rest and rest:find("^[%w_.-]+/") then
    return nil, "the folder of another person (~NAME) is not in this version; write the whole path"
  end
  if path:sub(1, 1) == "/" then return path end
  return (file:match("^(.*/)[^/]*$") or "") .. path
end

-- "m-00001-of-00003.gguf" -> "m", 1
local function shard(name)
  local stem, number = name:match("^(.*)%-(%d%d%d%d%d)%-of%-%d%d%d%d%d%.gguf$")
  return stem, tonumber(number)
end

-- The GGUF file among names: the only one, or the first part of the only split one.
local function model_in(names)
  local found, n = nil, 0
  table.sort(names)
  for _, name in ipairs(names) do
    local _, number = shard(name)
    if name:find("%.gguf$") and (not number or number == 1) then found, n = name, n + 1 end
  end
  if n == 1 then return found end
  for _, name in ipairs(names) do
    if name:find("%.safetensors$") then
      return nil, "found safetensors, expected a GGUF file; importing them is not in this version"
    end
  end
  return nil, n == 0 and "found a folder without a .gguf file" or
    ("found a folder with %d models, expected one: name the file"):format(n)
end

---The model file at a path.
---@param reader perigee.modelfile.reader
---@param path string
---@return string? path   absolute
---@return string? text   what is wrong; both nil: there is nothing
function M.model(reader, path)
  local there, err = reader.look(path)
  if not there then
    return nil, err and err.code ~= "not_found" and tostring(err) or nil
  end
  if there.kind == "folder" then
    local name, text = model_in(there.names or {})
    if not name then return nil, path .. ": " .. text end
    return there.path .. "/" .. name
  end
  if there.is_gguf then return there.path end
  if there.kind ~= "file" then
    return nil, path .. ": found a device, pipe or socket, expected a GGUF file"
  end
  return nil, path .. ": found a file that is no GGUF file; to build on another Modelfile, "
    .. "INCLUDE it"
end

---Are the files the parts of one split model?  Then the first of them.
---@param files string[]
---@return string?
function M.first_part(files)
  local first, stem
  for _, file in ipairs(files) do
    local name, number = shard(file)
    if not name or stem and stem ~= name then return nil end
    stem = name
    if number == 1 then first = file end
  end
  return first
end

return M
