-- SPDX-License-Identifier: MIT
-- A store in Ollama's layout, read in place: manifests/HOST/NAMESPACE/MODEL/TAG names the blobs
-- that make up a model, blobs/sha256-DIGEST hold them.  Whatever stands there is checked; what is
-- wrong names the file and the key.
local check = require "perigee.check"
local loop = require "perigee.sys.loop"
local manifests = require "perigee.store.manifest"
local names = require "perigee.store.name"
local store = require "perigee.sys.store"

local M = {}

local AT_ONCE <const> = 200 -- manifests read between two waits

---@class perigee.store.entry
---@field place perigee.store.place
---@field name string           short
---@field file string           absolute; of the manifest, or of the model itself
---@field id string             64 hexadecimal digits, or "" where it is not known
---@field size integer          bytes in all
---@field mtime integer
---@field manifest? perigee.store.manifest
---@field text? string          the manifest's bytes

---@class perigee.store.folder
---@field place perigee.store.place
---@field handle perigee.sys.store.folder
local Folder = {}
Folder.__index = Folder

---@param place perigee.store.place
---@return perigee.store.folder?
---@return perigee.error? err
function M.open(place)
  local handle, err = store.open(place.path)
  if not handle then return nil, err end
  return M.new(place, handle)
end

---@param place perigee.store.place
---@param handle perigee.sys.store.folder
---@return perigee.store.folder
function M.new(place, handle)
  return setmetatable({ place = place, handle = handle }, Folder)
end

function Folder:close()
  self.handle:close()
end
Folder.__close = Folder.close

---Where a blob lies below the store's folder.
---@param digest string
---@return string
function M.blob(digest)
  return "blobs/sha256-" .. digest
end

-- The entry of a manifest; nil and an error where the file is not as it must be.
function Folder:entry(path, name)
  local text, err = self.handle:read(path, manifests.MAX_BYTES)
  if not text then return nil, err end
  local file = self.place.path .. "/" .. path
  local manifest, wrong = manifests.read(text, file)
  if not manifest then return nil, check.err("corrupt", wrong) end
  local stat = self.handle:stat(path)
  local size = manifest.config.size
  for _, layer in ipairs(manifest.layers) do size = size + layer.size end
  return { place = self.place, name = names.short(name), file = file, id = store.hash(text),
    size = size, mtime = stat and stat.mtime or 0, manifest = manifest, text = text, path = path }
end

-- The entry of a folder whose name differs from `name` in case only, or is it.
local function same_name(handle, folder, name)
  if handle:stat(folder .. "/" .. name) then return name end
  local list = handle:list(folder)
  for _, other in ipairs(list and list.names or {}) do
    if other:lower() == name:lower() then return other end
  end
end

---A name as the store spells it, where it has a model of that name.
---@param name perigee.store.name
---@return perigee.store.name?
function Folder:spelling(name)
  local out, folder = {}, "manifests"
  for _, part in ipairs { "host", "namespace", "model", "tag" } do
    local found = same_name(self.handle, folder, name[part])
    if not found then return nil end
    out[part], folder = found, folder .. "/" .. found
  end
  return out
end

---The model of a name.
---@param name perigee.store.name
---@return perigee.store.entry?   nil without an error: there is none
---@return perigee.error? err
function Folder:find(name)
  local found = self:spelling(name)
  if not found then return nil end
  return self:entry(names.path(found), found)
end

-- Calls fn(path, kind, parts) for what lies four levels below manifests, and for what lies higher
-- and is no folder.
local function walk(handle, folder, parts, fn)
  local list, err = handle:list(folder)
  if not list then return err end
  for _, name in ipairs(list.names) do
    local path, kind = folder .. "/" .. name, list.kinds[name]
    parts[#parts + 1] = name
    if #parts < 4 and kind == "folder" then
      err = walk(handle, path, parts, fn)
      if err then return err end
    else
      fn(path, kind, parts)
    end
    parts[#parts] = nil
  end
end

---All files below manifests, hidden ones included: fn(path, kind, parts).
---@param fn fun(path: string, kind: string, parts: string[])
---@return perigee.error? err
function Folder:walk(fn)
  if not self.handle:stat("manifests") then return nil end
  return walk(self.handle, "manifests", {}, fn)
end

---All models.
---@return perigee.store.entry[]
---@return string[] problems   files that are no manifests, in words
---@async
function Folder:list()
  local out, problems, n = {}, {}, 0
  local err = self:walk(function(path, kind, parts)
    n = n + 1
    if n % AT_ONCE == 0 then loop.sleep(0) end
    if parts[#parts]:sub(1, 1) == "." then return end
    local file = self.place.path .. "/" .. path
    local name, wrong = nil, "found a " .. kind .. ", expected a folder"
    if #parts == 4 then name, wrong = names.of_parts(table.unpack(parts)) end
    if name and kind ~= "file" then name, wrong = nil, "found a " .. kind .. ", expected a file" end
    if not name then
      problems[#problems + 1] = file .. ": " .. wrong
      return
    end
    local entry, unfit = self:entry(path, name)
    if entry then out[#out + 1] = entry else problems[#problems + 1] = tostring(unfit) end
  end)
  if err then problems[#problems + 1] = tostring(err) end
  return out, problems
end

-- "FILE: layers[2]: "
local function place_of(entry, index)
  return ("%s: %s: "):format(entry.file, index and ("layers[%d]"):format(index - 1) or "config")
end

---Is the blob of a layer there, with the size it must have?
---@param entry perigee.store.entry
---@param layer perigee.store.layer
---@param index? integer   nil: the configuration
---@return string? path    absolute
---@return perigee.error? err
function Folder:blob(entry, layer, index)
  local path = M.blob(layer.digest)
  local there, err = self.handle:stat(path)
  if not there then return nil, check.err("corrupt", place_of(entry, index) .. tostring(err)) end
  if there.kind ~= "file" or there.size ~= layer.size then
    local found = there.kind == "file" and there.size .. " bytes" or "a " .. there.kind
    return nil, check.err("corrupt", ("%sfound %s in %s/%s, expected a file of %d bytes"):format(
      place_of(entry, index), found, self.place.path, path, layer.size))
  end
  return self.place.path .. "/" .. path
end

---The text of a layer.
---@param entry perigee.store.entry
---@param layer perigee.store.layer
---@param index? integer
---@return string?
---@return perigee.error? err
function Folder:text(entry, layer, index)
  local path, err = self:blob(entry, layer, index)
  if not path then return nil, err end
  local text, unread = self.handle:read(M.blob(layer.digest), manifests.MAX_BYTES)
  if not text then return nil, check.err("corrupt", place_of(entry, index) .. tostring(unread)) end
  if not utf8.len(text) then
    return nil, check.err("corrupt", place_of(entry, index) .. path .. ": found bytes that are no "
      .. "UTF-8, expected text")
  end
  return text
end

return M
