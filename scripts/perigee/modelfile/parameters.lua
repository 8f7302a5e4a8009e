-- SPDX-License-Identifier: MIT
-- PARAMETER NAME VALUE: Ollama's names, types and defaults, and every parameter of assistants
-- besides (parameters.lua).  A name given twice counts as given last; those that take lists add up.
-- What means something else here than there, or nothing, is told as a warning.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"
local thinking = require "perigee.thinking"

local M = {}

-- Read by Ollama, and ignored by it with a warning.
local DEPRECATED <const> = { penalize_newline = true, low_vram = true, f16_kv = true,
  logits_all = true, vocab_only = true, use_mlock = true }
-- Ignored by it too, while they work here.
local REVIVED <const> = { mirostat = true, mirostat_tau = true, mirostat_eta = true }

---Ollama's spelling of parameters where it differs from ours.
M.spelling = { temp = "temperature", ctx = "num_ctx", max = "num_predict", batch = "num_batch" }

local FLAGS <const> = { ["1"] = true, t = true, T = true, ["true"] = true, TRUE = true, True = true,
  ["0"] = false, f = false, F = false, ["false"] = false, FALSE = false, False = false }

local READ = {}

function READ.integer(text)
  if text:find("^[+-]?%d+$") then return math.tointeger(tonumber((text:gsub("^%+", "")))) end
end

function READ.number(text)
  local is_decimal = text:find("^[+-]?%.?%d[%d.]*$") or text:find("^[+-]?%.?%d[%d.]*[eE][+-]?%d+$")
  return is_decimal and tonumber((text:gsub("^%+", ""))) or nil
end

function READ.boolean(text)
  return FLAGS[text]
end

function READ.think(text)
  if thinking.is_level(text) then return text end
  return FLAGS[text]
end

function READ.string(text)
  return text
end

-- One more text of a list; `sofar` is the list.
function READ.strings(text, sofar, name)
  local out = table.move(sofar or {}, 1, #(sofar or {}), 1, {})
  if text == "" and name == "stop" then return nil end
  out[#out + 1] = text
  return out
end

-- Rules of placement; a later line adds to them.
function READ.place(text, sofar)
  local ok, err = engine.check_place(text)
  if not ok then return nil, tostring(err) end
  return sofar and sofar .. "; " .. text or text
end

-- Names with ; between; a later line goes on.
function READ.chain(text, sofar)
  local out = table.move(sofar or {}, 1, #(sofar or {}), 1, {})
  for word in text:gmatch("[^;]+") do out[#out + 1] = word end
  return out
end

-- json, or the text of a JSON Schema
function READ.format(text)
  if text == "json" then return text end
  local v, wrong = json.decode(text)
  if type(v) == "table" then return v end
  return nil, v == nil and text:find("^{") and tostring(wrong) or nil
end

-- ID:NUMBER or ID:false
function READ.bias(text, sofar)
  local id, bias = text:match("^(%d+):(.+)$")
  id = id and math.tointeger(tonumber(id))
  if not id or bias ~= "false" and not READ.number(bias) then return nil end
  local out = check.shallow(sofar or {})
  out[id] = READ.number(bias) or false
  return out
end

local EXPECTED <const> = { integer = "an integer", number = "a number", boolean = "true or false",
  think = "true, false, low, medium or high",
  bias = "TOKEN_ID:NUMBER or TOKEN_ID:false", strings = "a text that is not empty",
  chain = "names of samplers", format = "json or the text of a JSON Schema" }

local function wrong(name, text, expected)
  return nil, check.wrong(name, text, expected):gsub("the string ", "", 1)
end

-- A value of a kind, or nil and a text.
local function read(kind, name, text, sofar)
  local v, why = READ[kind](text, sofar, name)
  if v == nil and why then return nil, name .. ": " .. why end
  if v == nil then return wrong(name, text, EXPECTED[kind]) end
  return v
end

-- Names that mean something of their own here: kind, and what becomes of the value: the assistant's
-- parameters and a warning.
local SPECIAL = {}

SPECIAL.num_predict = { "integer", function(n)
  if n == 0 then return nil, nil, "-1 (no limit) or an amount of at least 1" end
  return { max = n > 0 and n or nil }
end }
SPECIAL.seed = { "integer", function(n)
  return { seed = n ~= -1 and n or nil }
end }
SPECIAL.num_keep = { "integer", function()
  return {}, "has no effect: a conversation that no longer fits is an error, it is never cut"
end }
SPECIAL.num_gpu = { "integer", function(n)
  if n == 0 then return { device = "cpu" } end
  return {}, n > 0 and "has no effect: perigee explain tells where layers run; PARAMETER device "
    .. "chooses" or nil
end }
SPECIAL.main_gpu = { "integer", function()
  return {}, "has no effect: PARAMETER device chooses a device"
end }
SPECIAL.use_mmap = { "boolean", function(is_on)
  return { weights = is_on and "map" or "copy" }
end }
SPECIAL.num_thread = { "integer", function(n)
  return {}, n > 0 and "has no effect: give --threads on the command line" or nil
end }
SPECIAL.draft_num_predict = { "integer", function()
  return {}, "has no effect: draft models are not in this version"
end }

local function unknown(name)
  local names = parameters.names()
  for _, more in ipairs { SPECIAL, parameters.aliases } do
    for alias in next, more do names[#names + 1] = alias end
  end
  table.sort(names)
  local near = check.nearest(name, names)
  if near then return ("%s: unknown parameter; did you mean %s?"):format(name, near) end
  return ("%s: unknown parameter; known are %s"):format(name, table.concat(names, ", "))
end

local function read_special(name, text)
  local kind, change = SPECIAL[name][1], SPECIAL[name][2]
  local v, text_of = read(kind, name, text)
  if v == nil then return nil, text_of end
  local changes, warning, expected = change(v)
  if not changes then return wrong(name, text, expected) end
  return changes, warning and name .. " " .. warning
end

-- The keys a special name is about, so that a later one takes an earlier one back.
local CLEARS <const> = { num_predict = "max", seed = "seed", num_gpu = "device",
  use_mmap = "weights" }

---One PARAMETER laid over those before it.
---@param into perigee.parameters   changed
---@param name string
---@param text string
---@return string? canonical        the key of `into`, nil where there is none
---@return string? warning
---@return string? err              what is wrong
function M.add(into, name, text)
  if DEPRECATED[name] then return nil, name .. " is deprecated, and ignored" end
  if SPECIAL[name] then
    local changes, warning = read_special(name, text)
    if not changes then return nil, nil, warning end
    local key = CLEARS[name]
    if key then into[key] = changes[key] end
    return key, warning
  end
  local canonical, kind = parameters.kind(name)
  if not canonical then return nil, nil, unknown(name) end
  local v, text_of = read(kind, name, text, into[canonical])
  if v == nil then return nil, nil, text_of end
  local checked, unfit = parameters.check({ [name] = v }, "")
  if not checked then return nil, nil, unfit end
  into[canonical] = checked[canonical]
  return canonical, REVIVED[name] and name .. " takes effect here, while Ollama ignores it" or nil
end

-- A value of PARAMETER as JSON has it; `sofar` is that of the same name before it.
local function json_value(kind, name, text, sofar)
  local v = read(kind, name, text)
  if v == nil then return sofar end
  if kind == "bias" then v = { text } end
  if type(v) ~= "table" then return v end
  return table.move(v, 1, #v, #(sofar or {}) + 1, sofar or {})
end

---One PARAMETER that M.add has taken, laid over those before it as a store keeps them: Ollama's
---names, numbers as numbers, lists as lists.
---@param into table<string, any>   changed
---@param name string
---@param text string
---@return string? key   under which it is; nil where it means nothing
function M.store(into, name, text)
  if DEPRECATED[name] then return nil end
  local key, kind = name, SPECIAL[name] and SPECIAL[name][1]
  if not kind then
    local canonical
    canonical, kind = parameters.kind(name)
    key = M.spelling[canonical] or canonical
  end
  into[key] = json_value(kind, name, text, into[key])
  return key
end

---A parameter of an assistant as values of PARAMETER.
---@param v any
---@return string[]
function M.texts(v)
  if math.type(v) == "float" then return { ("%.14g"):format(v) } end
  if type(v) ~= "table" then return { tostring(v) } end
  local out = {}
  if #v > 0 or next(v) == nil then return table.move(v, 1, #v, 1, out) end
  for id, bias in next, v do out[#out + 1] = ("%d:%s"):format(id, bias) end
  table.sort(out)
  return out
end

return M
