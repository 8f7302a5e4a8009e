-- SPDX-License-Identifier: MIT
-- The cache of Hugging Face, read in place: models--ORG--NAME/snapshots/REVISION/*.gguf.  A model
-- is called hf.co/ORG/NAME:TAG, TAG being the quantization that its file's name ends in, or the
-- whole of that name where two files end alike.  Without a tag Q4_K_M is meant, else the only file.
local check = require "perigee.check"
local host = require "perigee.sys.host"
local names = require "perigee.store.name"
local store = require "perigee.sys.store"

local M = {}

local HOSTS <const> = { ["hf.co"] = true, ["huggingface.co"] = true, [names.HOST] = true }
local MAX_FILES <const>, MAX_DEPTH <const>, MAX_REF <const> = 1000, 3, 256

-- GGUF files below a folder; of a split one the first part; no projectors.
local function add_files(handle, folder, depth, out)
  local list = handle:list(folder)
  for _, name in ipairs(list and list.names or {}) do
    local path, kind = folder .. "/" .. name, list.kinds[name]
    local part = name:match("%-(%d%d%d%d%d)%-of%-%d%d%d%d%d%.gguf$")
    if kind == "folder" and depth < MAX_DEPTH then
      add_files(handle, path, depth + 1, out)
    elseif name:find("%.gguf$") and (not part or part == "00001")
      and not name:lower():find("mmproj", 1, true) and #out < MAX_FILES then
      out[#out + 1] = { path = path, stem = name:gsub("%-%d%d%d%d%d%-of%-%d%d%d%d%d%.gguf$", "")
        :gsub("%.gguf$", "") }
    end
  end
end

-- The revision that "main" is, else the one that was changed last.
local function revision(handle, folder)
  local ref = handle:read(folder .. "/refs/main", MAX_REF)
  ref = ref and ref:match("^%s*([%w_.-]+)%s*$")
  local snapshots = folder .. "/snapshots"
  if ref and not ref:find("^%.") and handle:stat(snapshots .. "/" .. ref) then return ref end
  local list, best, latest = handle:list(snapshots), nil, -1
  for _, name in ipairs(list and list.names or {}) do
    local stat = list.kinds[name] == "folder" and handle:stat(snapshots .. "/" .. name)
    if stat and stat.mtime > latest then best, latest = name, stat.mtime end
  end
  return best
end

local function quantization(stem)
  local word = stem:match("[-._]([Ii]?[QqTt]+%d[%w_]*)$") or stem:match("[-._]([Bb]?[Ff]%d%d)$")
    or stem:match("[-._]([Mm][Xx][Ff][Pp]4[%w_]*)$")
  return word and word:upper()
end

local function set_tags(files)
  local n = {}
  for _, file in ipairs(files) do
    file.tag = quantization(file.stem) or file.stem
    n[file.tag] = (n[file.tag] or 0) + 1
  end
  for _, file in ipairs(files) do
    if n[file.tag] > 1 then file.tag = file.stem end
  end
end

local function entry_of(place, handle, org, model, file)
  local path = place.path .. "/" .. file.path
  local there, stat = host.look(path), handle:stat(file.path)
  if not there or not stat or stat.kind ~= "file" then return nil end
  local digest = there.path:match("/(%x+)$")
  return { place = place, name = ("hf.co/%s/%s:%s"):format(org, model, file.tag), file = path,
    id = digest and #digest == 64 and digest or "", size = stat.size, mtime = stat.mtime,
    path = file.path, org = org, model = model, tag = file.tag, stem = file.stem }
end

---All models of a cache.
---@param place perigee.store.place
---@return perigee.store.entry[]
---@return string[] problems
function M.list(place)
  local handle <close>, err = store.open(place.path)
  if not handle then return {}, { tostring(err) } end
  local top, unread = handle:list(".")
  if not top then return {}, { tostring(unread) } end
  local out, problems = {}, {}
  for _, folder in ipairs(top.names) do
    local org, model = folder:match("^models%-%-(.-)%-%-(.+)$")
    local rev = org and top.kinds[folder] == "folder" and revision(handle, folder)
    local files = {}
    if rev then add_files(handle, folder .. "/snapshots/" .. rev, 1, files) end
    set_tags(files)
    for _, file in ipairs(files) do
      local entry = entry_of(place, handle, org, model, file)
      if entry then
        out[#out + 1] = entry
      else
        problems[#problems + 1] = ("%s/%s: cannot be read, or leads out of the cache"):format(
          place.path, file.path)
      end
    end
  end
  return out, problems
end

-- The one that is meant among the files of a repository when no tag was given.
local function default(entries, word)
  if #entries <= 1 then return entries[1] end
  local tags = {}
  for i, entry in ipairs(entries) do
    if entry.tag == "Q4_K_M" then return entry end
    tags[i] = entry.tag
  end
  return nil, check.err("not_found", ("%s: found %d files in %s, expected one of them named: :%s")
    :format(word, #entries, entries[1].place.shown, table.concat(tags, ", :")))
end

---The model of a name.
---@param place perigee.store.place
---@param name perigee.store.name
---@param word string   as it was typed, for texts
---@return perigee.store.entry?   nil without an error: there is none
---@return perigee.error? err
function M.find(place, name, word)
  if not HOSTS[name.host:lower()] then return nil end
  local same, tag = {}, name.tag:lower()
  local org, model = name.namespace:lower(), name.model:lower()
  for _, entry in ipairs((M.list(place))) do
    if entry.org:lower() == org and entry.model:lower() == model then
      if entry.tag:lower() == tag or entry.stem:lower() == tag then return entry end
      same[#same + 1] = entry
    end
  end
  if name.tag == names.TAG then return default(same, word) end
end

return M
