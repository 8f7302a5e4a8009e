-- SPDX-License-Identifier: MIT
-- Where an assistant's model comes from: a path is opened, and closed with the last chat that
-- uses it; a model that the script opened stays the script's.  Files of saved chats go through
-- the script's grants.
local check = require "perigee.check"
local parameters = require "perigee.parameters"

local M = {}

---@class perigee.source.owner
---@field model table
---@field n integer   chats that use the model

local function is_engine_model(v)
  return type(v.info) == "function" and type(v.tokenize) == "function"
    and type(v.session) == "function"
end

---The engine's model of an assistant.
---@param assistant perigee.assistant   checked
---@return table? model
---@return perigee.source.owner|perigee.error|nil
function M.open(assistant)
  local from = assistant.from
  if type(from) ~= "string" then
    if is_engine_model(from) then return from, nil end
    return nil, check.err("invalid", "from: found a table, expected a path or a model")
  end
  local options = parameters.pick(assistant.parameters, "model")
  local model, err = require("perigee.sys.engine").open(from, options)
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

---Read a file the script may read.
---@param path string
---@return string?
---@return perigee.error? err
function M.read(path)
  local text, err = require("perigee").fs.read(path)
  if not text then return nil, check.as_err(err, "file") end
  return text
end

---Write a file the script may write.
---@param path string
---@param text string
---@return boolean?
---@return perigee.error? err
function M.write(path, text)
  local ok, err = require("perigee").fs.write(path, text)
  if not ok then return nil, check.as_err(err, "file") end
  return true
end

return M
