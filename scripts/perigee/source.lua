-- SPDX-License-Identifier: MIT
-- Where an assistant's model comes from: a path is opened (a relative one beside the script, else
-- in the current folder), and closed with the last chat that uses it; a model that the script
-- opened stays the script's.  Files of saved chats go through the script's grants.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local fs = require "perigee.sys.fs"
local grants = require "perigee.sys.grants"
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

---The engine's model of an assistant.
---@param assistant perigee.assistant   checked
---@return table? model
---@return perigee.source.owner|perigee.error|nil
function M.open(assistant)
  if next(assistant.capabilities) then
    local ok, err = grants.request(assistant.capabilities)
    if not ok then return nil, check.as_err(err, "not_allowed") end
  end
  local from = assistant.from
  if type(from) ~= "string" then
    local model = engine_model(from)
    if model then return model, nil end
    return nil, check.err("invalid", check.wrong("from", from, "a path or a model"))
  end
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
