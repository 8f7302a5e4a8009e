-- SPDX-License-Identifier: MIT
-- TARGET of a command as an assistant: a model file, a script that returns a table, or a Modelfile.
-- What the person at the terminal named is read without a grant; so this reads host.arguments only.
local assistants = require "perigee.assistant"
local check = require "perigee.check"
local host = require "perigee.sys.host"
local modelfile = require "perigee.modelfile"

local M = {}

local READER <const> = { look = host.look, read = host.read_file, load = host.load }

local function read_script(path, words)
  local script, err = host.load(path)
  if not script then return nil, err end
  local result = script(table.unpack(words))
  if type(result) ~= "table" then return result end
  local assistant, text = assistants.check(result)
  if not assistant then return nil, check.err("invalid", path .. ": " .. text) end
  return assistant, {}
end

local function read_modelfile(path)
  local result, err = modelfile.load(path, READER)
  if not result then return nil, err end
  local assistant, text = assistants.check(result.assistant)
  if not assistant then return nil, check.err("modelfile", path .. ": " .. text) end
  return assistant, result
end

---The assistant; a script that returned none: what it returned, and nothing else.
---@return perigee.assistant|any
---@return perigee.modelfile.result|perigee.error|table|nil   of a Modelfile; else {}, or the error
function M.read()
  local arguments = host.arguments
  local path = arguments.target
  if arguments.kind == "script" then return read_script(path, arguments.words or {}) end
  if arguments.kind == "modelfile" then return read_modelfile(path) end
  return assistants.check { from = path }, {}
end

return M
