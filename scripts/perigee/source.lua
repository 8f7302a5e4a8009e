-- SPDX-License-Identifier: MIT
-- Where an assistant's model comes from: a path is opened (a relative one beside the script, else
-- in the current folder), and closed with the last chat that uses it; a model that the script
-- opened stays the script's.  A path may also lead to another assistant (lineage.lua) or to a
-- Modelfile, a name to a model in a store; that is then what the assistant is laid over.  Files of
-- saved chats go through the script's grants.
local assistants = require "perigee.assistant"
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local find = require "perigee.store.find"
local fs = require "perigee.sys.fs"
local grants = require "perigee.sys.grants"
local folders = require "perigee.assistants"
local host = require "perigee.sys.host"
local layers = require "perigee.layers"
local lineage = require "perigee.lineage"
local modelfile = require "perigee.modelfile"
local parameters = require "perigee.parameters"

local M = {}

---@class perigee.source.owner
---@field model table
---@field n integer   chats that use the model

-- A model of perigee.model stands for one of the engine; a fake one is its own.
local function engine_model(from)
  local known = engine.wrapped[from]
  if known then return known end
  if type(from.info) == "function" and type(from.tokenize) == "function" then return from end
end

-- A script may read Modelfiles, and what they include, beside itself; others need a grant.
local function script_reader(folder)
  local function is_beside(path)
    if folders.holds(path) then return true end
    return folder and folders.is_below(path, folder)
  end
  local reader = { look = host.look, find = find.base }
  function reader.read(path)
    if is_beside(path) then return host.read_file(path) end
    return fs.read(path)
  end
  function reader.load(path)
    local text, err = reader.read(path)
    if not text then return nil, err end
    return host.load_text(path, text)
  end
  return reader
end

-- Is it a file that is neither a model nor a script?
local function is_modelfile(path)
  if path:find("%.gguf$") or path:find("%.lua$") then return false end
  local there = host.look(path)
  return there and there.kind == "file" and not there.is_gguf
end

-- The Modelfile at a path, or the model of a store as one; nil: `from` is the path of a model file.
local function read_base(assistant, line)
  local from = assistant.from
  local path, folder = lineage.find(from, "")
  local there = host.look(path)
  if find.is_possible(from) and not (there and there.kind == "file") then
    local base, err = find.base(from, true)
    if not base then return nil, check.err(err.code, "from: " .. err.message) end
    local file = base.entry.file
    line.files[#line.files + 1] = { path = file, stamp = host.look(file).stamp }
    return modelfile.of_instructions(base.instructions, { look = host.look })
  end
  if not is_modelfile(path) then return nil end
  line.files[#line.files + 1] = { path = path, stamp = there.stamp }
  local refused = lineage.ask(assistant, path, folder)
  if refused then return nil, refused end
  return modelfile.load(path, script_reader(folder))
end

-- The assistant laid over the Modelfile, or the model of a store, that it names, if it names one.
local function over_modelfile(assistant, line)
  local from = assistant.from
  if type(from) ~= "string" then return assistant end
  local result, err = read_base(assistant, line)
  if not result then
    if err then return nil, err end
    return assistant
  end
  local base, text = assistants.check(result.assistant)
  if not base then return nil, check.err("modelfile", from .. ": " .. text) end
  return layers.lay(base, assistant), result
end

---@class perigee.source.options
---@field over? perigee.part    keys that lie over all others
---@field model? string|table   a model file, or a model, in place of the assistant's
---@field is_read? boolean      it is what a Modelfile says: from is the model's

---The assistant with everything it builds on: other assistants, parts, a Modelfile.
---@param assistant perigee.assistant   checked
---@param options? perigee.source.options
---@return perigee.assistant?
---@return perigee.modelfile.result|perigee.error|nil   of the Modelfile; or what is wrong
---@return perigee.lineage? line   where it comes from
function M.resolve(assistant, options)
  local own, line = lineage.flatten(assistant)
  if not own then return nil, line end
  local whole, result = own, nil
  if not (options and options.is_read) then whole, result = over_modelfile(own, line) end
  if not whole then return nil, result end
  if options and (options.over or options.model) then
    whole = layers.lay(whole, options.over or {})
    whole.from = options.model or whole.from
    if options.model then line.from_place = nil end
  end
  return whole, result, line
end

local function check_supported(assistant)
  for key, what in next, { adapters = "an adapter (ADAPTER)", draft = "a draft model (DRAFT)" } do
    local path = assistant[key] and assistant[key][1]
    if path then
      return check.err("model", ("the assistant asks for %s, %s: not in this version; "
        .. "take it out to use the model without"):format(what, path))
    end
  end
end

-- A path that leads nowhere is told where it stands, not where the engine looked.
local function missing(from, place)
  if not from:find("%.gguf$") or host.look(from) then return nil end
  return check.err("not_found", ("%s: from: there is no file %s"):format(place, from))
end

---The engine's model of an assistant.
---@param assistant perigee.assistant   checked
---@param place? string                 where its from stands, FILE:LINE
---@return table? model
---@return perigee.source.owner|perigee.error|nil
function M.open(assistant, place)
  if next(assistant.capabilities) then
    local ok, err = grants.request(assistant.capabilities)
    if not ok then return nil, check.as_err(err, "not_allowed") end
  end
  local unfit = check_supported(assistant)
  if unfit then return nil, unfit end
  local from = assistant.from
  if type(from) ~= "string" then
    local model = engine_model(from)
    if model then return model, nil end
    return nil, check.err("invalid", check.wrong("from", from, "a path or a model"))
  end
  local absent = place and missing(from, place)
  if absent then return nil, absent end
  local model, err = engine.open(from, parameters.pick(assistant.parameters, "model"))
  if not model then return nil, check.as_err(err, "model") end
  return model, { model = model, n = 1 }
end

---One more chat uses the model.
---@param owner perigee.source.owner?
function M.share(owner)
  if owner then owner.n = owner.n + 1 end
end

---A chat is done with the model.
---@param owner perigee.source.owner?
function M.release(owner)
  if not owner then return end
  owner.n = owner.n - 1
  if owner.n == 0 then owner.model:close() end
end

---Where a file lies that the engine may "read" or "write" for the script.
---@param path string
---@param right string
---@return string?
---@return perigee.error? err
function M.locate(path, right)
  local place, err = engine.locate(path, right)
  if not place then return nil, check.as_err(err, "not_allowed") end
  return place
end

---Read a file the script may read.
---@param path string
---@return string?
---@return perigee.error? err
function M.read(path)
  local text, err = fs.read(path)
  if not text then return nil, check.as_err(err, "file") end
  return text
end

---Write a file the script may write.
---@param path string
---@param text string
---@return boolean?
---@return perigee.error? err
function M.write(path, text)
  local ok, err = fs.write(path, text)
  if not ok then return nil, check.as_err(err, "file") end
  return true
end

return M
