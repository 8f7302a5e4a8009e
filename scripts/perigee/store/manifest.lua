-- SPDX-License-Identifier: MIT
-- Manifests and configurations of Ollama's layout: JSON text to a checked table and back.  A store
-- may come from anybody: what a field must be is checked before it is used, above all digests,
-- which become names of files.  Keys that are not known are left alone.
-- Checked: tests/cases/store/manifest.case, tests/lua/store_spec.lua.
local check = require "perigee.check"
local json = require "perigee.sys.json"

local M = {}

---Most bytes of a manifest, of its configuration, and of the layers that are text.
M.MAX_BYTES = 1 << 20
local MAX_LAYERS <const> = 8192
local MAX_SIZE <const> = 1 << 50

local MANIFEST <const> = "application/vnd.docker.distribution.manifest.v2+json"
local CONFIG <const> = "application/vnd.docker.container.image.v1+json"
local LAYER <const> = "application/vnd.ollama.image."
-- Of Perigee's own: instructions of Modelfiles that Ollama has no layer for.  Ollama passes it by.
local EXTRA <const> = "application/vnd.perigee.image.instructions"

---@class perigee.store.layer
---@field kind? string     "model", "template", ...; nil: of a type that is not known here
---@field type string      the media type
---@field digest string    64 hexadecimal digits, as the manifest spells them
---@field size integer
---@field from? string

---@class perigee.store.manifest
---@field config perigee.store.layer
---@field layers perigee.store.layer[]

---The media type of a kind of layer.
---@param kind string
---@return string
function M.media_type(kind)
  if kind == "config" then return CONFIG end
  return kind == "instructions" and EXTRA or LAYER .. kind
end

local function kind_of(media_type)
  if media_type == EXTRA then return "instructions" end
  local kind = media_type:match("^application/vnd%.ollama%.image%.(%l+)$")
  return kind == "prompt" and "template" or kind
end

-- Errors leave by error({ text }); M.read catches them.
local function fail(place, text, ...)
  error({ text = ("%s: %s"):format(place, text:format(...)) }, 0)
end

local function need(v, place, expected)
  fail(place, "%s", (check.wrong("", v, expected):gsub("^: ", "")))
end

local function read_layer(v, place)
  if not check.is_object(v) then need(v, place, "an object with mediaType, digest and size") end
  local media_type, digest, size = v.mediaType, v.digest, v.size
  if type(media_type) ~= "string" then need(media_type, place .. ".mediaType", "a string") end
  local hex = type(digest) == "string" and digest:match("^sha256[:-](%x+)$")
  if not hex or #hex ~= 64 then
    need(digest, place .. ".digest", "sha256: and 64 hexadecimal digits")
  end
  if math.type(size) ~= "integer" or size < 0 or size > MAX_SIZE then
    need(size, place .. ".size", "the number of bytes")
  end
  return { kind = kind_of(media_type), type = media_type, digest = hex, size = size,
    from = type(v.from) == "string" and v.from or nil }
end

local function read(text)
  local v, err = json.decode(text)
  if v == nil then error({ text = tostring(err) }, 0) end
  if not check.is_object(v) then need(v, "the manifest", "an object") end
  if v.schemaVersion ~= 2 then need(v.schemaVersion, "schemaVersion", "2") end
  if not check.is_array(v.layers) then need(v.layers, "layers", "a list") end
  if #v.layers > MAX_LAYERS then
    fail("layers", "found %d of them, expected at most %d", #v.layers, MAX_LAYERS)
  end
  local out = { config = read_layer(v.config, "config"), layers = {} }
  for i, layer in ipairs(v.layers) do
    out.layers[i] = read_layer(layer, ("layers[%d]"):format(i - 1))
  end
  return out
end

---A manifest.
---@param text string
---@param file string   for texts
---@return perigee.store.manifest?
---@return string? text   what is wrong: "FILE: KEY: found ..., expected ..."
function M.read(text, file)
  local ok, result = check.try(read, text)
  if ok then return result end
  if type(result) == "table" and result.text then return nil, file .. ": " .. result.text end
  error(result, 0)
end

local function layer_object(layer)
  local members = { { "mediaType", layer.type }, { "digest", "sha256:" .. layer.digest },
    { "size", layer.size } }
  return json.object(members)
end

---The text of a manifest.
---@param manifest perigee.store.manifest
---@return string
function M.text(manifest)
  local layers = {}
  for i, layer in ipairs(manifest.layers) do layers[i] = layer_object(layer) end
  return assert(json.encode(json.object {
    { "schemaVersion", 2 }, { "mediaType", MANIFEST }, { "config", layer_object(manifest.config) },
    { "layers", json.array(layers) },
  }, { separators = { ",", ":" } }))
end

------------------------------------------------------------ what layers say

local function decode(text, place, is_right, expected)
  local v, err = json.decode(text)
  if v == nil then return nil, place .. ": " .. tostring(err) end
  if not is_right(v) then return nil, check.wrong(place, v, expected) end
  return v
end

local CONFIG_TEXTS <const> = { "model_format", "model_family", "model_type", "file_type",
  "renderer", "parser", "requires", "remote_host", "remote_model" }

---A configuration: the texts in it that matter here.
---@param text string
---@param place string   for texts
---@return table<string, string>?
---@return string? text
function M.read_config(text, place)
  local v, err = decode(text, place, check.is_object, "an object")
  if not v then return nil, err end
  local out = {}
  for _, key in ipairs(CONFIG_TEXTS) do
    local field = v[key]
    if field ~= nil and field ~= json.null and type(field) ~= "string" then
      return nil, check.wrong(place .. ": " .. key, field, "a string")
    end
    if type(field) == "string" and field ~= "" then out[key] = field end
  end
  return out
end

-- A value of a parameter as texts of PARAMETER; nil for what none can be.
local function value_texts(v)
  if type(v) == "string" then return { v } end
  if type(v) == "number" or type(v) == "boolean" then return { (assert(json.encode(v))) } end
  if not check.is_array(v) then return nil end
  local out = {}
  for i, item in ipairs(v) do
    if type(item) == "table" or item == json.null then return nil end
    out[i] = type(item) == "string" and item or assert(json.encode(item))
  end
  return out
end

---Parameters: { { name, text }, ... }, a list giving several.
---@param text string
---@param place string
---@return string[][]?
---@return string? text
function M.read_parameters(text, place)
  local v, err = decode(text, place, check.is_object, "an object")
  if not v then return nil, err end
  local out = {}
  for _, key in ipairs(json.keys(v)) do
    local texts = value_texts(v[key])
    if not texts then
      return nil, check.wrong(place .. ": " .. key, v[key], "a number, a text, or a list of them")
    end
    for _, one in ipairs(texts) do out[#out + 1] = { key, one } end
  end
  return out
end

---Messages: { { role, content }, ... }.
---@param text string
---@param place string
---@return string[][]?
---@return string? text
function M.read_messages(text, place)
  local v, err = decode(text, place, check.is_array, "a list of messages")
  if not v then return nil, err end
  local out = {}
  for i, message in ipairs(v) do
    local where = ("%s: [%d]"):format(place, i - 1)
    if not check.is_object(message) or type(message.role) ~= "string"
      or type(message.content) ~= "string" then
      return nil, check.wrong(where, message, "an object with the texts role and content")
    end
    for _, key in ipairs(json.keys(message)) do
      if key ~= "role" and key ~= "content" and message[key] ~= json.null then
        return nil, ("%s: found the key %s, expected role and content only; messages with more are "
          .. "not in this version"):format(where, key)
      end
    end
    out[i] = { message.role:lower(), message.content }
  end
  return out
end

---Instructions of the layer that is ours: { { name, value }, ... }.
---@param text string
---@param place string
---@return string[][]?
---@return string? text
function M.read_instructions(text, place)
  local v, err = decode(text, place, check.is_array, "a list of instructions")
  if not v then return nil, err end
  local out = {}
  for i, one in ipairs(v) do
    local where = ("%s: [%d]"):format(place, i - 1)
    if not check.is_object(one) or type(one.name) ~= "string" or type(one.value) ~= "string" then
      return nil, check.wrong(where, one, "an object with the texts name and value")
    end
    out[i] = { one.name, one.value }
  end
  return out
end

return M
