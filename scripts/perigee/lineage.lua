-- SPDX-License-Identifier: MIT
-- From an assistant to the one it really is: `from` may lead to another assistant, that to a third,
-- until one names a model or a Modelfile; each may put parts together (`with`).  Files are run in
-- the script's sandbox; a script reads those beside the file that names them, and those in the
-- folders of assistants, without a grant.  What they are, with a stamp each, is kept, so that a
-- changed one is noticed.
local assistants = require "perigee.assistants"
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local fs = require "perigee.sys.fs"
local grants = require "perigee.sys.grants"
local host = require "perigee.sys.host"
local layers = require "perigee.layers"
local models = require "perigee.store.find"
local places = require "perigee.places"
local tables = require "perigee.assistant"

local M = {}

local MAX_DEPTH <const> = 16

---@class perigee.lineage
---@field files { path: string, stamp: string? }[]   read on the way
---@field origins table<string, string>   parameter -> the file that sets it
---@field label string                    what error texts call the assistant

local function folder_of(path)
  return path:match("^(.*/)[^/]*$") or ""
end

-- A relative path beside the file that names it, else as the engine finds it.
local function find(from, folder)
  if folder ~= "" and from:sub(1, 1) ~= "/" then
    local beside = folder .. from
    if host.look(beside) then return beside, folder end
  end
  local found = engine.find(from)
  local is_beside = found ~= from and found:sub(-#from) == from
  return found, is_beside and found:sub(1, -#from - 1) or nil
end
M.find = find

local function is_free(path, folder)
  return folder and assistants.is_below(path, folder) or assistants.holds(path)
end

-- A path as texts show it.
local function shown(path)
  return (path:gsub("^%./", ""))
end

local function stamp_of(path)
  local there = host.look(path)
  return there and there.stamp
end

---Ask for what an assistant declares, where a file that it names needs it.
---@param own perigee.assistant
---@param path string
---@param folder? string   whose files may be read anyway
---@return perigee.error? err
function M.ask(own, path, folder)
  if is_free(path, folder) or not own.capabilities or next(own.capabilities) == nil then return end
  local ok, err = grants.request(own.capabilities)
  if not ok then return check.as_err(err, "not_allowed") end
end

-- Run a file that returns a table.
local function load_table(path, folder, self)
  local text, err
  self.files[#self.files + 1] = { path = path, stamp = stamp_of(path) }
  if is_free(path, folder) then
    text, err = host.read_file(path)
  else
    text, err = fs.read(path)
  end
  if not text then return nil, err end
  local fn, wrong = host.load_text(path, text)
  if not fn then return nil, wrong end
  local ok, result = pcall(fn)
  if not ok then return nil, check.as_err(result, "script") end
  if type(result) ~= "table" then
    return nil, check.err("invalid", ("%s: returned %s, expected a table"):format(path,
      check.describe(result)))
  end
  return result, text
end

local function load_checked(path, folder, self, checker)
  local t, text = load_table(path, folder, self)
  if not t then return nil, text end
  local out, wrong = checker(t, "", folder_of(path))
  if not out then return nil, check.err("invalid", places.name(shown(path), text, wrong)) end
  return out, text
end

local function parts_of(own, folder, self)
  local out = {}
  for i, part in ipairs(own.with or {}) do
    local source = ("%s, with[%d]"):format(self.label, i)
    if type(part) == "string" then
      local path, beside = find(part, folder)
      local err
      if not path:find("%.lua$") then
        return nil, check.err("invalid", ("%s: found %q, expected a Lua file"):format(source, part))
      elseif not host.look(path) then
        return nil, check.err("not_found", ("%s: with: there is no file %s"):format(
          places.of_key(self.label, self.text, "with"), shown(path)))
      end
      part, err = load_checked(path, beside, self, tables.check_part)
      if not part then return nil, err end
      source = path
    end
    part = check.shallow(part)
    part.source = part.name or shown(source)
    out[i] = part
  end
  return out
end

-- One assistant with its parts.
local function assemble(own, folder, self)
  local parts, err = parts_of(own, folder, self)
  if not parts then return nil, err end
  local layer, text = layers.assemble(own, parts, self.label)
  if not layer then return nil, check.err("invalid", self.label .. ": " .. text) end
  return { layer = layer, label = self.label }
end

local function is_bare(from)
  return not from:find("/", 1, true) and not from:find("%.gguf$") and not from:find("%.lua$")
end

---The file that a name or a path leads to.
---@param from string
---@param folder string      of the file that names it, with its slash; "" where there is none
---@return string? path
---@return perigee.error|string|nil   what is wrong, or the folder whose files the script may read
function M.locate(from, folder)
  local path, beside = find(from, folder)
  local there = host.look(path)
  local entry, err
  if is_bare(from) then entry, err = assistants.find(from) end
  if err then return nil, err end
  local other = entry or there and there.kind == "file" and there
  local clash = other and models.clash(from, other.path, entry ~= nil)
  if clash then return nil, clash end
  if entry and there and there.kind == "file" and there.path ~= entry.path then
    return nil, check.err("invalid", ("%s is both the file %s and the assistant %s; give the path")
      :format(from, there.path, entry.path))
  end
  if entry then return entry.path, entry.folder .. "/" end
  return path, beside
end

-- A file that is one of those already read on this way down.
local function circle(self, path)
  local real = host.look(path)
  real = real and real.path or path
  local names = {}
  for _, step in ipairs(self.chain) do names[#names + 1] = shown(step.path) end
  for i, step in ipairs(self.chain) do
    if step.real == real then
      local way = table.concat(names, " -> ", i) .. " -> " .. shown(path)
      return check.err("invalid", ("%s: from leads in a circle: %s"):format(
        places.of_key(self.label, self.text, "from"), way))
    end
  end
  self.chain[#self.chain + 1] = { path = path, real = real }
  if #self.chain > MAX_DEPTH then
    return check.err("invalid", ("%s: more than %d assistants build on one another"):format(
      self.label, MAX_DEPTH))
  end
end

-- The next assistant down; nil where `from` is the model's.
local function step_down(own, folder, self)
  local from = own.from
  if type(from) == "table" and rawget(from, "from") ~= nil then
    self.text = nil
    self.label = from.name or "the assistant that " .. self.label .. " builds on"
    return from, folder
  elseif type(from) ~= "string" then
    return nil, from
  end
  local path, beside = M.locate(from, folder)
  if not path then return false, beside end
  if not path:find("%.lua$") then
    self.from_place = places.of_key(self.label, self.text, "from")
    return nil, path
  end
  if not host.look(path) then
    return false, check.err("not_found", ("%s: from: there is no file %s"):format(
      places.of_key(self.label, self.text, "from"), shown(path)))
  end
  local err = circle(self, path) or M.ask(own, path, beside)
  if err then return false, err end
  local next_one, wrong = load_checked(path, beside, self, function(t, _, its_folder)
    return tables.check(t, its_folder)
  end)
  if not next_one then return false, wrong end
  self.label, self.text = shown(path), wrong
  return next_one, folder_of(path)
end

-- All layers, the assistant itself first, and what the last one stands on.
local function collect(assistant, folder, self)
  local list, own = {}, assistant
  while true do
    if #list >= MAX_DEPTH * 2 then
      return nil, check.err("invalid", self.label .. ": too many assistants build on one another")
    end
    local step, err = assemble(own, folder, self)
    if not step then return nil, err end
    list[#list + 1] = step
    local below, more = step_down(own, folder, self)
    if below == false then return nil, more end
    if below == nil then return list, more end
    own, folder = below, more
  end
end

---The assistant that a checked one is, with everything it builds on.
---@param assistant perigee.assistant
---@return perigee.assistant?   its hooks are a list in `chain`; from is a model, or a path
---@return perigee.lineage|perigee.error
function M.flatten(assistant)
  local target = host.arguments and host.arguments.target
  local self = { files = {}, origins = {}, chain = {}, label = "the assistant" }
  if type(target) == "string" then
    self.label = target
    if host.arguments.kind == "script" then
      circle(self, target)
      self.text = host.read_file(target)
    end
  elseif assistant.name then
    self.label = assistant.name
  end
  local list, bottom = collect(assistant, "", self)
  if not list then return nil, bottom end
  local out = layers.settle(list[#list].layer)
  for i = #list, 1, -1 do
    for name in next, list[i].layer.parameters do self.origins[name] = list[i].label end
    if i < #list then out = layers.settle(layers.lay(out, list[i].layer)) end
  end
  out = check.shallow(out)
  out.from = bottom
  self.label, self.chain = list[1].label, nil
  return out, self
end

---Has a file changed since it was read?
---@param files { path: string, stamp: string? }[]
---@return string? path   the first that has
function M.changed(files)
  for _, file in ipairs(files) do
    if stamp_of(file.path) ~= file.stamp then return file.path end
  end
end

return M
