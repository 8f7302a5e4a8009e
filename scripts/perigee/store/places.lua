-- SPDX-License-Identifier: MIT
-- Where models lie on this machine, in the order in which a name is looked for: our store, the
-- stores of Ollama, the caches of Hugging Face.  Only ours is ever written.
local host = require "perigee.sys.host"
local store = require "perigee.sys.store"

local M = {}

---@class perigee.store.place
---@field kind "perigee"|"ollama"|"hub"
---@field path string    absolute
---@field shown string   for texts: ~ stands for the person's folder

local function shown(path, home)
  if home and path:sub(1, #home + 1) == home .. "/" then return "~" .. path:sub(#home + 1) end
  return path
end

local function variable(set, name)
  local v = set[name]
  return v and v:sub(1, 1) == "/" and v or nil
end

---The folder of our store, whether it is there or not.
---@return perigee.store.place?
---@return string? text
function M.own()
  local set = store.environment()
  local home, data = variable(set, "HOME"), variable(set, "XDG_DATA_HOME")
  if not data and not home then
    return nil, "the model store has no place: neither XDG_DATA_HOME nor HOME is set to a folder"
  end
  local path = (data or home .. "/.local/share") .. "/perigee/models"
  return { kind = "perigee", path = path, shown = shown(path, home) }
end

-- Folders that may be stores of Ollama.
local function ollama_folders(set, home)
  local out = {}
  if variable(set, "OLLAMA_MODELS") then out[1] = set.OLLAMA_MODELS end
  if home then out[#out + 1] = home .. "/.ollama/models" end
  for _, path in ipairs { "/usr/share/ollama/.ollama/models", "/var/lib/ollama",
    "/var/lib/ollama/models", "/var/lib/ollama/.ollama/models" } do
    out[#out + 1] = path
  end
  return out
end

local function hub_folders(set, home)
  local out = {}
  for _, name in ipairs { "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE" } do
    out[#out + 1] = variable(set, name)
  end
  if variable(set, "HF_HOME") then out[#out + 1] = set.HF_HOME .. "/hub" end
  local cache = variable(set, "XDG_CACHE_HOME")
  if cache then out[#out + 1] = cache .. "/huggingface/hub" end
  if home then out[#out + 1] = home .. "/.cache/huggingface/hub" end
  return out
end

-- Is there something of that kind?
local function is_there(path, kind)
  local there = host.look(kind == "ollama" and path .. "/manifests" or path)
  return there and there.kind == "folder"
end

---All places that are there; each folder once.
---@return perigee.store.place[]
---@return string[] problems   places that may not be looked into
function M.all()
  local set, out, seen, problems = store.environment(), {}, {}, {}
  local home = variable(set, "HOME")
  local function add(kind, path)
    local there, err = host.look(path)
    if err and err.code ~= "not_found" then problems[#problems + 1] = err.message end
    if not there or seen[there.path] or not is_there(path, kind) then return end
    seen[there.path] = true
    out[#out + 1] = { kind = kind, path = path, shown = shown(path, home) }
  end
  local own = M.own()
  if own then add("perigee", own.path) end
  for _, path in ipairs(ollama_folders(set, home)) do add("ollama", path) end
  for _, path in ipairs(hub_folders(set, home)) do add("hub", path) end
  return out, problems
end

return M
