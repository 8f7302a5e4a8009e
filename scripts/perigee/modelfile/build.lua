-- SPDX-License-Identifier: MIT
-- Instructions to an assistant: each instruction has one function here, which lays it over what
-- came before.  What only matters when the model is to answer (a model that is not there, a
-- renderer that is not here) is a problem, not an error: the Modelfile can still be shown.
local check = require "perigee.check"
local format = require "perigee.format"
local gotemplate = require "perigee.gotemplate"
local schema = require "perigee.gotemplate.schema"
local parameters = require "perigee.modelfile.parameters"
local parser = require "perigee.modelfile.parser"
local paths = require "perigee.modelfile.paths"
local tool = require "perigee.tool"

local M = {}

local MAX_BYTES <const>, MAX_DEPTH <const>, MAX_FILES <const> = 1 << 20, 8, 64

-- Modelfiles as Ollama 0.14 reads them; REQUIRES of a later one is told as a warning.
local SPEAKS <const> = { 0, 14, 0 }

-- RENDERER and PARSER: Ollama's names of built-in formats, and ours -> a format of formats/.
local FORMATS <const> = {
  passthrough = "plain", qwen3 = "hermes", ["qwen3-thinking"] = "hermes",
  ["qwen3-vl-instruct"] = "hermes", ["qwen3-vl-thinking"] = "hermes",
  ["qwen3-coder"] = "qwen_coder", ["qwen3.5"] = "qwen_coder", ["nemotron-3-nano"] = "qwen_coder",
  ["deepseek3.1"] = "deepseek_v31", ["glm-4.7"] = "glm",
}
for _, family in ipairs(format.families()) do FORMATS[family.name] = family.name end

---@class perigee.modelfile.result
---@field assistant perigee.assistant   unchecked
---@field instructions perigee.modelfile.instruction[]   includes in their places, paths absolute
---@field origins table<string, string>   parameter -> "FILE:LINE", or what default it is
---@field warnings string[]
---@field problems string[]   why the model cannot answer, most telling first
---@field license string[]
---@field requires? string
---@field models string[]         the files that FROM names
---@field base? table             the model of a store that FROM names (store/find.lua)
---@field applied perigee.modelfile.instruction[]   those of the base, then the others, in effect

local function at(instruction)
  if instruction.place then return instruction.place .. ": " end
  return ("%s:%d:%d: "):format(instruction.file, instruction.value_line, instruction.value_column)
end

-- Errors leave by error(); M.load catches them.
local function fail(instruction, text, ...)
  error({ text = at(instruction) .. text:format(...) }, 0)
end

local function path_of(build, one)
  local path, wrong = paths.join(one.file, one.value)
  if one.value == "" then wrong = "found nothing, expected a path" end
  if wrong then fail(one, "%s: %s", one.name, wrong) end
  return path, build.reader.look(path)
end

------------------------------------------------------------ files in files

local function read_file(build, path, one)
  local bytes, err = build.reader.read(path)
  if bytes and #bytes > MAX_BYTES then
    err = ("%s: found %d bytes, expected at most %d"):format(path, #bytes, MAX_BYTES)
  end
  if not bytes or #bytes > MAX_BYTES then
    if one then fail(one, "INCLUDE: %s", tostring(err)) end
    error({ text = tostring(err), err = bytes == nil and err or nil }, 0)
  end
  local list, more = parser.parse(bytes, path)
  if not list then error({ text = more }, 0) end
  table.move(more, 1, #more, #build.result.warnings + 1, build.result.warnings)
  return list
end

local expand

local function include(build, one, open, out)
  local path, there = path_of(build, one)
  local name = there and there.path or path
  if open[name] then fail(one, "INCLUDE: %s includes itself", path) end
  if open.n == MAX_DEPTH then
    fail(one, "INCLUDE: found more than %d files in one another", MAX_DEPTH)
  end
  build.n_file = build.n_file + 1
  if build.n_file > MAX_FILES then fail(one, "INCLUDE: found more than %d files", MAX_FILES) end
  open[name], open.n = true, open.n + 1
  expand(build, read_file(build, path, one), open, out)
  open[name], open.n = nil, open.n - 1
end

-- `open`: the files we are inside of.
function expand(build, list, open, out)
  for _, one in ipairs(list) do
    if one.name == "INCLUDE" then
      include(build, one, open, out)
    else
      out[#out + 1] = one
    end
  end
end

------------------------------------------------------------ instructions

local ADD = {}

local function problem(build, one, text, ...)
  table.insert(build.result.problems, at(one) .. text:format(...))
end

local function warn(build, one, text, ...)
  table.insert(build.result.warnings, at(one) .. text:format(...))
end

local function looks_like_path(value)
  return value:find("^[./~]") ~= nil or value:find("%.gguf$") ~= nil
end

-- A model of a store: its instructions hold where the Modelfile has none of its own.
local function add_base(build, one, base)
  build.result.base, one.value = base, base.name
  for _, inner in ipairs(base.instructions) do
    table.insert(build.result.applied, inner)
    if inner.name == "FROM" then
      build.models[#build.models + 1] = inner.value
      build.from = build.from or one
    else
      ADD[inner.name](build, inner)
    end
  end
  build.inherited = check.shallow(build.result.assistant.parameters)
  build.has_inherited_messages = true
end

-- The model of a store that is called as FROM says; or why there is none, in words.
local function find_base(build, one)
  if not build.reader.find or one.place then return nil end
  local base, err = build.reader.find(one.value)
  return base, base == nil and err and tostring(err) or nil
end

function ADD.FROM(build, one)
  local path = path_of(build, one)
  local file, wrong = paths.model(build.reader, path)
  local base, missing = find_base(build, one)
  if base and (file or wrong) then
    fail(one, "FROM %s: there is %s, and the model %s in %s as well: write ./%s or %s", one.value,
      path, base.name, base.entry.place.shown, one.value, base.name)
  elseif base then
    add_base(build, one, base)
  elseif file then
    build.models[#build.models + 1] = file
    build.from = build.from or one
    one.value = file
  elseif wrong then
    problem(build, one, "FROM %s: %s", one.value, wrong)
  elseif looks_like_path(one.value) then
    problem(build, one, "FROM %s: there is no file or folder %s", one.value, path)
  else
    problem(build, one, "FROM %s: there is no file %s; %s", one.value, path, missing
      or "and names of models are not looked up here: give the path of a GGUF file")
  end
  build.name = one.value
end

local function add_text(key)
  return function(build, one) build.result.assistant[key] = one.value end
end

ADD.SYSTEM = add_text "system"

-- What is said of a place in the template, with the place in the Modelfile.
local function of_template(one, place, text)
  local line, column = one.value_line + place.line - 1, place.column
  if place.line == 1 then column = one.value_column + #one.quote + place.column - 1 end
  return ("%s:%d:%d: TEMPLATE: %s"):format(one.file, line, column, text)
end

-- A misspelt name may be empty without an error, so it is told; a name that is like no other may be
-- one of the data's own, that of a parameter of a tool.
local function check_template(build, one)
  local template, err = gotemplate.parse(one.value, "TEMPLATE")
  if not template then
    error({ text = of_template(one, err, (err.message:gsub("^TEMPLATE:%d+:%d+: ", ""))) }, 0)
  end
  local known = check.keys(schema.field_names())
  for _, strange in ipairs(template:strange()) do
    local near = check.nearest(strange.name, known)
    if near then
      table.insert(build.result.warnings, of_template(one, strange,
        ("there is no .%s; did you mean .%s?"):format(strange.name, near)))
    end
  end
end

function ADD.TEMPLATE(build, one)
  check_template(build, one)
  local name = ("%s:%d: TEMPLATE"):format(one.file, one.value_line)
  build.result.assistant.template = { go = one.value, name = name }
end

function ADD.LICENSE(build, one)
  table.insert(build.result.license, one.value)
end

function ADD.MESSAGE(build, one)
  if build.has_inherited_messages then build.result.assistant.messages = {} end
  build.has_inherited_messages = nil
  table.insert(build.result.assistant.messages, { role = one.key, content = one.value })
end

-- A list that the base gave is replaced by the first of the Modelfile's own, not added to.
local function forget_inherited(build, one)
  local name = build.inherited and require("perigee.parameters").kind(one.key)
  if not name or build.inherited[name] == nil then return end
  build.inherited[name] = nil
  build.result.assistant.parameters[name] = nil
end

function ADD.PARAMETER(build, one)
  local result = build.result
  forget_inherited(build, one)
  local key, warning, wrong = parameters.add(result.assistant.parameters, one.key, one.value)
  if wrong then fail(one, "PARAMETER %s", wrong) end
  if warning then warn(build, one, "PARAMETER %s", warning) end
  if key then result.origins[key] = one.place or ("%s:%d"):format(one.file, one.line) end
end

-- A file that must be there to be used; it is kept by its absolute name.
local function add_file(key, is_last_only)
  return function(build, one)
    local path, there = path_of(build, one)
    local list = not is_last_only and build.result.assistant[key] or {}
    one.value = there and there.path or one.value
    list[#list + 1] = there and there.path or path
    build.last[key] = one
    build.result.assistant[key] = list
  end
end

ADD.ADAPTER = add_file("adapters", true)
ADD.DRAFT = add_file("draft")

local function add_format(build, one)
  local names = check.keys(FORMATS)
  local known = FORMATS[one.value]
  if known then
    build.formats[one.name] = known
    return
  end
  build.formats[one.name] = nil
  local near = check.nearest(one.value, names)
  problem(build, one, "%s %s: this version has no such format; known are %s%s", one.name,
    one.value, table.concat(names, ", "), near and "; did you mean " .. near .. "?" or "")
end

ADD.RENDERER, ADD.PARSER = add_format, add_format

-- MAJOR[.MINOR[.PATCH[-PRE][+BUILD]]], with or without v.
local function read_version(text)
  local core = text:match("^v?(%d[%d.]*)$") or text:match("^v?(%d+%.%d+%.%d+)[-+][%w.+-]+$")
  local out = {}
  if not core or core:find("..", 1, true) or core:find("%.$") then return nil end
  for number in core:gmatch("%d+") do
    if #number > 9 or #number > 1 and number:sub(1, 1) == "0" then return nil end
    out[#out + 1] = tonumber(number)
  end
  return #out <= 3 and out or nil
end

local function is_later(version)
  for i, number in ipairs(SPEAKS) do
    local other = version[i] or 0
    if other ~= number then return other > number end
  end
  return false
end

function ADD.REQUIRES(build, one)
  local version = read_version(one.value)
  if not version then
    fail(one, "REQUIRES: found %s, expected a version such as 0.14.0",
      check.describe(one.value):sub(12))
  end
  build.result.requires = one.value
  if is_later(version) then
    warn(build, one, "REQUIRES %s speaks of Ollama; Modelfiles are read here as by Ollama %s, and "
      .. "what came later may be unknown", one.value, table.concat(SPEAKS, "."))
  end
end

-- The same as PARAMETER grammar.
function ADD.GRAMMAR(build, one)
  local result = build.result
  local _, _, wrong = parameters.add(result.assistant.parameters, "grammar", one.value)
  if wrong then fail(one, "GRAMMAR%s", wrong:gsub("^grammar", "")) end
  result.origins.grammar = one.place or ("%s:%d"):format(one.file, one.line)
end

-- Kept, so that the file can be shown and stored; what it asks for is not there to be used.
function ADD.MCP(build, one)
  problem(build, one, "MCP: MCP servers are not in this version; take the instruction out to use "
    .. "the model without")
end

function ADD.TOOL(build, one)
  local path, there = path_of(build, one)
  local fn, err = build.reader.load(path)
  if not fn then fail(one, "TOOL: %s", tostring(err)) end
  one.value = there and there.path or one.value
  local value = fn()
  if type(value) == "table" and (value.name or value.run) then value = { value } end
  local list, wrong = tool.check_list(value, "tools")
  if not list then fail(one, "TOOL: %s: %s", path, wrong) end
  local tools = build.result.assistant.tools
  table.move(list, 1, #list, #tools + 1, tools)
end

------------------------------------------------------------ the whole

-- Several FROM paths are parts of one split file; a projector beside the model is not yet possible.
local function choose_model(build)
  local models = build.models
  local model = #models > 1 and paths.first_part(models) or models[1]
  if #models > 1 and not paths.first_part(models) then
    problem(build, build.from, "FROM is given %d times: a model with a projector, or of several "
      .. "files other than the parts of a split one, is not in this version", #models)
  end
  build.result.assistant.from = model or build.name
end

local function finish(build)
  local result = build.result
  local assistant = result.assistant
  choose_model(build)
  assistant.format = build.formats.PARSER or build.formats.RENDERER
  if build.formats.RENDERER and assistant.template then
    table.insert(result.warnings, assistant.template.name .. " is not used: the Modelfile has a "
      .. "RENDERER, for which the chat template of the model stands in")
    assistant.template = nil
  end
  for _, path in ipairs(assistant.draft or {}) do
    if path == assistant.from then
      fail(build.last.draft, "DRAFT: found the model of FROM itself, expected a smaller one")
    end
  end
  if not assistant.template and not build.formats.RENDERER then
    assistant.template = { go = gotemplate.DEFAULT, is_default = true }
  end
  for key, what in next, { adapters = "adapters are", draft = "draft models are" } do
    local one = build.last[key]
    if one then
      problem(build, one, "%s %s: %s not in this version; take the instruction out to use the "
        .. "model without", one.name, one.value, what)
    end
  end
  local given = assistant.parameters
  assistant.parameters = require("perigee.parameters").of_ollama()
  for name in next, assistant.parameters do
    result.origins[name] = result.origins[name] or "default of Modelfiles"
  end
  for name, v in next, given do assistant.parameters[name] = v end
end

-- FROM first: what it names is what the other instructions are laid over.
local function add_all(build)
  local result = build.result
  for _, is_first in ipairs { true, false } do
    for _, one in ipairs(result.instructions) do
      if (one.name == "FROM") == is_first then
        ADD[one.name](build, one)
        if not is_first then table.insert(result.applied, one) end
      end
    end
  end
  result.models = build.models
  finish(build)
  return result
end

local function build_all(build, path)
  local there = build.reader.look(path)
  local list = read_file(build, path)
  expand(build, list, { [there and there.path or path] = true, n = 1 }, build.result.instructions)
  local has_from = false
  for _, one in ipairs(build.result.instructions) do
    if one.name == "FROM" then has_from = true end
  end
  if not has_from then
    error({ text = path .. ": found no FROM line; add FROM model.gguf" }, 0)
  end
  return add_all(build)
end

local function build_list(build, list)
  build.result.instructions = list
  return add_all(build)
end

local function run(reader, how, ...)
  local build = { reader = reader, models = {}, formats = {}, last = {}, n_file = 1, result = {
    assistant = { parameters = {}, messages = {}, tools = {} }, instructions = {}, origins = {},
    warnings = {}, problems = {}, license = {}, applied = {},
  } }
  local ok, result = pcall(how, build, ...)
  if ok then return result end
  if type(result) == "table" and result.text then
    return nil, result.err or check.err("modelfile", result.text)
  end
  error(result, 0)
end

---The assistant of a Modelfile.
---@param path string
---@param reader perigee.modelfile.reader
---@return perigee.modelfile.result?
---@return perigee.error? err
function M.load(path, reader)
  return run(reader, build_all, path)
end

---The assistant of instructions, those of a model in a store.
---@param list perigee.modelfile.instruction[]
---@param reader perigee.modelfile.reader
---@return perigee.modelfile.result?
---@return perigee.error? err
function M.of_instructions(list, reader)
  return run(reader, build_list, list)
end

return M
