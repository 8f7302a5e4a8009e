-- SPDX-License-Identifier: MIT
-- From a Modelfile to a model of our store: its files and texts as layers, what else it says in the
-- configuration, so that Ollama reads the same.  A chat template that lies in the GGUF file stays
-- there.  Models of other stores are copied with their manifest as it is.
local check = require "perigee.check"
local folders = require "perigee.store.folder"
local json = require "perigee.sys.json"
local manifests = require "perigee.store.manifest"
local parameters = require "perigee.modelfile.parameters"
local store = require "perigee.sys.store"

local M = {}

-- general.file_type -> the name people know.  Source: llama.h, enum llama_ftype.
local FILE_TYPES <const> = { [0] = "F32", "F16", "Q4_0", "Q4_1", nil, nil, nil, "Q8_0", "Q5_0",
  "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",
  "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S",
  "IQ2_M", "IQ4_XS", "IQ1_M", "BF16", nil, nil, nil, "TQ1_0", "TQ2_0", "MXFP4" }

local UNITS <const> = { { 1e12, "T", 1 }, { 1e9, "B", 1 }, { 1e6, "M", 2 }, { 1e3, "K", 0 } }

---A number of parameters as Ollama writes it: 7.2B, 596.05M, 12K.
---@param n integer
---@return string
function M.count_text(n)
  for _, unit in ipairs(UNITS) do
    if n >= unit[1] then
      local x = n / unit[1]
      return ("%." .. (x == x // 1 and 0 or unit[3]) .. "f%s"):format(x, unit[2])
    end
  end
  return tostring(n)
end

local function fail(err)
  error({ err = err }, 0)
end

local function must(v, err)
  if v == nil then fail(err) end
  return v
end

------------------------------------------------------------ files

local KEYS <const> = { adapter = "adapters", draft = "draft" } -- of assistants
local CHECKED <const> = { model = "FROM", adapter = "ADAPTER", draft = "DRAFT" }

-- What the file says; an error where it is no model that can be stored.
local function describe(kind, path)
  local about, err = store.describe(path)
  if not about then
    fail(check.err(err.code, ("%s: %s"):format(CHECKED[kind], err)))
  elseif about.n_file and about.n_file > 1 then
    fail(check.err("unsupported", ("%s: found a model split into %d files, expected one file; "
      .. "merging them is not in this version"):format(path, about.n_file)))
  end
  return about
end

-- The layer of the base that a file is, so that its digest is known.
local function base_layer(result, kind, path)
  local entry = result.base and result.base.entry
  for _, one in ipairs(entry and entry.manifest and entry.manifest.layers or {}) do
    if one.kind == kind and path:find(folders.blob(one.digest), 1, true) then return one, entry end
  end
end

local function add_file(writer, result, kind, path, layers)
  local about = describe(kind, path)
  local known, entry = base_layer(result, kind, path)
  if known and entry.place.kind == "perigee" then
    layers[#layers + 1] = known
  else
    layers[#layers + 1] = must(writer:put_file(kind, path, known and known.digest))
  end
  return about
end

------------------------------------------------------------ texts

-- The last of an instruction, or nil.
local function last(result, name)
  local found
  for _, one in ipairs(result.applied) do
    if one.name == name then found = one.value end
  end
  return found
end

local function encode(value)
  return assert(json.encode(value, { separators = { ",", ":" } }))
end

-- The parameters as one object; the first of the Modelfile's own replaces a list of the base.
local function parameter_text(result)
  local values, order, is_inherited = {}, {}, {}
  for _, one in ipairs(result.applied) do
    if one.name == "PARAMETER" then
      local fresh = {}
      local key = parameters.store(fresh, one.key, one.value)
      if key and (values[key] == nil or is_inherited[key] and not one.place) then
        if values[key] == nil then order[#order + 1] = key end
        values[key] = fresh[key]
      elseif key then
        parameters.store(values, one.key, one.value)
      end
      if key then is_inherited[key] = one.place ~= nil end
    end
  end
  if #order == 0 then return nil end
  local members = {}
  for i, key in ipairs(order) do
    local v = values[key]
    members[i] = { key, type(v) == "table" and json.array(v) or v }
  end
  return encode(json.object(members))
end

local function message_text(result)
  local list = {}
  for i, message in ipairs(result.assistant.messages) do
    list[i] = json.object { { "role", message.role }, { "content", message.content } }
  end
  return #list > 0 and encode(json.array(list)) or nil
end

-- Instructions that Ollama has no layer for.
local function instruction_text(result)
  local list = {}
  for _, one in ipairs(result.applied) do
    if one.name == "GRAMMAR" or one.name == "MCP" then
      list[#list + 1] = json.object { { "name", one.name }, { "value", one.value } }
    end
  end
  return #list > 0 and encode(json.array(list)) or nil
end

local function add_texts(writer, result, layers)
  local function add(kind, text)
    if text then layers[#layers + 1] = must(writer:put_text(kind, text)) end
  end
  add("template", last(result, "TEMPLATE"))
  add("system", last(result, "SYSTEM"))
  add("params", parameter_text(result))
  add("messages", message_text(result))
  add("instructions", instruction_text(result))
  for _, text in ipairs(result.license) do add("license", text) end
end

------------------------------------------------------------ the configuration

local function config_text(about, result, layers)
  local digests = {}
  for i, one in ipairs(layers) do digests[i] = "sha256:" .. one.digest end
  local members = {}
  local function add(key, v)
    if v ~= nil then members[#members + 1] = { key, v } end
  end
  local family = about.architecture
  add("model_format", "gguf")
  add("model_family", family)
  add("model_families", family and json.array { family })
  add("model_type", M.count_text(about.n_parameter))
  add("file_type", about.file_type and FILE_TYPES[about.file_type] or "unknown")
  add("renderer", last(result, "RENDERER"))
  add("parser", last(result, "PARSER"))
  add("requires", last(result, "REQUIRES"))
  add("context_length", about.n_ctx)
  add("embedding_length", about.d_model)
  add("architecture", "amd64")
  add("os", "linux")
  add("rootfs", json.object { { "type", "layers" }, { "diff_ids", json.array(digests) } })
  return encode(json.object(members))
end

------------------------------------------------------------ the whole

-- What no store can hold, and what is no single model.
local function check_storable(result)
  for _, one in ipairs(result.applied) do
    if one.name == "TOOL" then
      fail(check.err("unsupported", ("%s:%d:%d: TOOL: a store holds no scripts; run the "
        .. "Modelfile itself, or name the model in a Lua file with the tools"):format(one.file,
        one.value_line, one.value_column)))
    end
  end
  if #result.models ~= 1 then
    fail(check.err("modelfile", result.problems[1] or ("found %d models, expected one"):format(
      #result.models)))
  end
end

local function write(writer, name, result)
  check_storable(result)
  local layers = {}
  local about = add_file(writer, result, "model", result.models[1], layers)
  for _, kind in ipairs { "adapter", "draft" } do
    for _, path in ipairs(result.assistant[KEYS[kind]] or {}) do
      add_file(writer, result, kind, path, layers)
    end
  end
  add_texts(writer, result, layers)
  local config = must(writer:put_text("config", config_text(about, result, layers)))
  local entry = must(writer:publish(name, manifests.text { config = config, layers = layers }))
  writer:collect()
  return entry
end

-- The manifest of a model that has none: a file of Hugging Face's cache.
local function wrap(writer, entry)
  local layers = {}
  local about = describe("model", entry.file)
  layers[1] = must(writer:put_file("model", entry.file, entry.id ~= "" and entry.id or nil))
  local none = { applied = {} }
  local config = must(writer:put_text("config", config_text(about, none, layers)))
  return manifests.text { config = config, layers = layers }
end

local function copy(writer, entry, name)
  local text = entry.text or wrap(writer, entry)
  if entry.manifest and entry.place.kind ~= "perigee" then
    local folder <close> = must(folders.open(entry.place))
    local function bring(layer, index)
      local path = must(folder:blob(entry, layer, index))
      must(writer:put_file(layer.kind or "config", path, layer.digest))
    end
    for i, layer in ipairs(entry.manifest.layers) do bring(layer, i) end
    bring(entry.manifest.config)
  end
  local made = must(writer:publish(name, text))
  writer:collect()
  return made
end

local function run(fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  if type(result) == "table" and result.err then return nil, result.err end
  error(result, 0)
end

---Store what a Modelfile describes.
---@param writer perigee.store.writer
---@param name perigee.store.name
---@param result perigee.modelfile.result
---@return perigee.store.entry?
---@return perigee.error? err
---@async
function M.create(writer, name, result)
  return run(write, writer, name, result)
end

---Store a model under another name.
---@param writer perigee.store.writer
---@param entry perigee.store.entry
---@param name perigee.store.name
---@return perigee.store.entry?
---@return perigee.error? err
---@async
function M.copy(writer, entry, name)
  return run(copy, writer, entry, name)
end

return M
