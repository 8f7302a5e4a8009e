-- SPDX-License-Identifier: MIT
-- Modelfiles: Ollama's files that describe an assistant, read into the same table that an assistant
-- in Lua is, and printed.  The grammar is in modelfile/parser.lua; from there text -> instructions
-- -> (build.lua) assistant, and instructions -> (printer.lua) text.
-- More than Ollama has: PARAMETER takes every parameter of assistants, INCLUDE FILE reads another
-- Modelfile in its place, TOOL FILE.lua adds the tools that the script returns; GRAMMAR and MCP are
-- read and kept, and cannot be used yet.
local build = require "perigee.modelfile.build"
local parser = require "perigee.modelfile.parser"
local printer = require "perigee.modelfile.printer"

local M = {}

---The instructions of a Modelfile.
---@param text string    its bytes
---@param name? string   for texts of errors
---@return perigee.modelfile.instruction[]?
---@return string[]|string   warnings; or what is wrong, "NAME:LINE:COLUMN: ..."
function M.parse(text, name)
  return parser.parse(text, name or "Modelfile")
end

---The text of instructions.
---@param list { name: string, key?: string, value: string }[]
---@return string text
---@return string[] lost   what no Modelfile can say
function M.print(list)
  return printer.text(list)
end

---The assistant that a Modelfile describes.
---@param path string
---@param reader perigee.modelfile.reader   how files are reached
---@return perigee.modelfile.result?
---@return perigee.error? err
function M.load(path, reader)
  return build.load(path, reader)
end

---The assistant that instructions make, those of a model in a store.
---@param list perigee.modelfile.instruction[]
---@param reader perigee.modelfile.reader
---@return perigee.modelfile.result?
---@return perigee.error? err
function M.of_instructions(list, reader)
  return build.of_instructions(list, reader)
end

return M
