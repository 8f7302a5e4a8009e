-- SPDX-License-Identifier: MIT
-- From a name to a model, wherever it lies: our store, Ollama's, the cache of Hugging Face; and
-- from what lies in a store to the instructions of a Modelfile.
local assistants = require "perigee.assistants"
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local folders = require "perigee.store.folder"
local host = require "perigee.sys.host"
local hub = require "perigee.store.hub"
local manifests = require "perigee.store.manifest"
local names = require "perigee.store.name"
local places = require "perigee.store.places"

local M = {}

---Could the word be the name of a model?  Words with the look of a path cannot.
M.is_possible = names.is_possible

---All models of all places.
---@return perigee.store.entry[]
---@return string[] problems
function M.list()
  local out = {}
  local all, problems = places.all()
  local function add(entries, more)
    table.move(entries, 1, #entries, #out + 1, out)
    table.move(more, 1, #more, #problems + 1, problems)
  end
  for _, place in ipairs(all) do
    if place.kind == "hub" then
      add(hub.list(place))
    else
      local folder <close>, err = folders.open(place)
      if folder then add(folder:list()) else add({}, { tostring(err) }) end
    end
  end
  return out, problems
end

local function find_in(place, name, word)
  if place.kind == "hub" then return hub.find(place, name, word) end
  local folder <close>, err = folders.open(place)
  if not folder then return nil, err end
  return folder:find(name)
end

-- What a person could have meant: models, assistants, and files here that commands take.
local function nearest(word)
  local list, short = {}, {}
  for _, entry in ipairs((M.list())) do
    list[#list + 1] = entry.name
    local bare = entry.name:match("^(.*):latest$") or entry.name:match("^hf%.co/(.*)$")
    if bare then
      list[#list + 1], short[bare] = bare, entry.name
    end
  end
  for _, entry in ipairs((assistants.list())) do list[#list + 1] = entry.name end
  local here = host.look(".")
  for _, name in ipairs(here and here.names or {}) do
    local stem = name:match("^(.+)%.gguf$") or name:match("^(.+)%.lua$")
    if stem then
      list[#list + 1], list[#list + 2], short[stem] = name, stem, name
    end
  end
  local near = check.nearest(word, list)
  return near and (short[near] or near)
end

local function missing(word, is_name)
  local folder = not is_name and assistants.of_folder(word)
  if folder then return check.err("not_found", folder) end
  local near = nearest(word)
  return check.err("not_found", ("there is no %s%s perigee list shows the models there are, "
    .. "perigee create makes one%s"):format(is_name and ("model '%s'"):format(word)
    or ("file '%s' here, no assistant of that name and no model of that name"):format(word),
    near and ("; did you mean '%s'?"):format(near) or ";", is_name and "" or "; or give the path "
    .. "of a .gguf file, a .lua file or a Modelfile"))
end

---The model of a name.
---@param word string
---@param is_name? boolean      it cannot be a path
---@return perigee.store.entry?
---@return perigee.error? err   code "not_found": there is none
function M.find(word, is_name)
  local name, wrong = names.parse(word)
  if not name then return nil, check.err("invalid", wrong) end
  for _, place in ipairs((places.all())) do
    local entry, err = find_in(place, name, word)
    if entry or err then return entry, err end
  end
  return nil, missing(word, is_name)
end

---What is wrong when a word that means something else is the name of a model as well, else nil.
---@param word string
---@param other string   the file that it means
---@param is_assistant? boolean   as the name of an assistant; else as the path of the file
---@return perigee.error?
function M.clash(word, other, is_assistant)
  if not names.is_possible(word) then return nil end
  local entry = M.find(word)
  if not entry then return nil end
  local path = is_assistant and other or "./" .. word
  return check.err("invalid", ("'%s' is %s, and a model, %s in %s: write %s for the %s, %s for the "
    .. "model"):format(word, is_assistant and "the assistant " .. other or "a file here",
    entry.name, entry.place.shown, path, is_assistant and "assistant" or "file",
    entry.name == word and "registry.ollama.ai/library/" .. word or entry.name))
end

------------------------------------------------------------ a model as instructions

-- Kinds of layers that are text of one instruction.
local TEXTS <const> = { template = "TEMPLATE", system = "SYSTEM", license = "LICENSE" }
-- Kinds of layers that are files, and the instruction that names one.
local FILES <const> = { model = "FROM", projector = "FROM", adapter = "ADAPTER", draft = "DRAFT" }

local function instruction(entry, name, value, key)
  return { name = name, key = key, value = value, quote = "", file = entry.file, line = 0,
    column = 0, value_line = 0, value_column = 0, place = entry.name, origin = entry.name }
end

-- Read lists of { key, value } into instructions.
local LISTS <const> = {
  params = function(entry, text, place, out)
    local rows, wrong = manifests.read_parameters(text, place)
    for _, row in ipairs(rows or {}) do
      out[#out + 1] = instruction(entry, "PARAMETER", row[2], row[1])
    end
    return wrong
  end,
  messages = function(entry, text, place, out)
    local rows, wrong = manifests.read_messages(text, place)
    for _, row in ipairs(rows or {}) do
      out[#out + 1] = instruction(entry, "MESSAGE", row[2], row[1])
    end
    return wrong
  end,
  instructions = function(entry, text, place, out)
    local rows, wrong = manifests.read_instructions(text, place)
    for _, row in ipairs(rows or {}) do out[#out + 1] = instruction(entry, row[1], row[2]) end
    return wrong
  end,
}

local function add_layer(folder, entry, index, out)
  local layer = entry.manifest.layers[index]
  local kind = layer.kind
  if FILES[kind] then
    local path, err = folder:blob(entry, layer, index)
    if not path then return err end
    out[#out + 1] = instruction(entry, FILES[kind], path)
  elseif TEXTS[kind] or LISTS[kind] then
    local text, err = folder:text(entry, layer, index)
    if not text then return err end
    local place = ("%s: layers[%d] (%s)"):format(entry.file, index - 1, folders.blob(layer.digest))
    local wrong
    if TEXTS[kind] then
      out[#out + 1] = instruction(entry, TEXTS[kind], text)
    else
      wrong = LISTS[kind](entry, text, place, out)
    end
    return wrong and check.err("corrupt", wrong)
  end
end

local CONFIG <const> = { renderer = "RENDERER", parser = "PARSER", requires = "REQUIRES" }

local function add_config(folder, entry, out)
  local text, err = folder:text(entry, entry.manifest.config)
  if not text then return err end
  local config, wrong = manifests.read_config(text, entry.file .. ": config")
  if not config then return check.err("corrupt", wrong) end
  if config.remote_host or config.remote_model then
    return check.err("unsupported", ("%s is a model on another machine (%s), and this version "
      .. "reaches none"):format(entry.name, config.remote_host or config.remote_model))
  end
  for _, key in ipairs { "renderer", "parser", "requires" } do
    if config[key] then out[#out + 1] = instruction(entry, CONFIG[key], config[key]) end
  end
end

-- In the order in which they are printed.
local ORDER <const> = { FROM = 1, TEMPLATE = 2, SYSTEM = 3, RENDERER = 4, PARSER = 5, ADAPTER = 6,
  DRAFT = 7, PARAMETER = 8, MESSAGE = 9, GRAMMAR = 10, MCP = 11, LICENSE = 12, REQUIRES = 13 }

local function sort(list)
  local at = {}
  for i, one in ipairs(list) do at[one] = i end
  table.sort(list, function(a, b)
    local x, y = ORDER[a.name] or 99, ORDER[b.name] or 99
    if x ~= y then return x < y end
    return at[a] < at[b]
  end)
end

local function read_model(entry)
  local folder <close>, err = folders.open(entry.place)
  if not folder then return nil, err end
  local out, has_tensors = {}, false
  for i, layer in ipairs(entry.manifest.layers) do
    err = add_layer(folder, entry, i, out)
    if err then return nil, err end
    has_tensors = has_tensors or layer.kind == "tensor"
  end
  err = add_config(folder, entry, out)
  if err then return nil, err end
  sort(out)
  if out[1] and out[1].name == "FROM" then return out end
  return nil, check.err("unsupported", ("%s: %s"):format(entry.file, has_tensors
    and "found safetensors, expected a GGUF file; such models are not in this version"
    or "found no layer with a model"))
end

---A model as the instructions of a Modelfile.
---@param entry perigee.store.entry
---@return perigee.modelfile.instruction[]?
---@return perigee.error? err
function M.instructions(entry)
  if not entry.manifest then return { instruction(entry, "FROM", entry.file) } end
  return read_model(entry)
end

---What FROM of a Modelfile stands for: for the readers of modelfile/build.lua.
---@param word string
---@param is_target? boolean   it may have been meant as a path too
---@return { name: string, instructions: perigee.modelfile.instruction[], entry: table }?
---@return perigee.error? err   nil: the word cannot be the name of a model
function M.base(word, is_target)
  if not is_target and not names.is_possible(word) then return nil end
  local entry, err = M.find(word, not is_target)
  if not entry then return nil, err end
  local list, wrong = M.instructions(entry)
  if not list then return nil, wrong end
  return { name = entry.name, instructions = list, entry = entry }
end

---The GGUF file of what a command or a script names: a path, or the name of a model.
---@param word string
---@return string?
---@return perigee.error? err
function M.model_file(word)
  if not names.is_possible(word) then return word end
  local path = engine.find(word)
  if host.look(path) then
    local clash = M.clash(word, path)
    if clash then return nil, clash end
    return word
  end
  local base, err = M.base(word, true)
  if not base then return nil, err end
  return base.instructions[1].value
end

return M
