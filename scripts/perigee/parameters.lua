-- SPDX-License-Identifier: MIT
-- The parameters of an assistant: one canonical name each, the other spellings people know, kind
-- and range, and who takes them: the model when it opens, the session's sampler, or each answer.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local json = require "perigee.sys.json"
local thinking = require "perigee.thinking"

local M = {}

local HUGE <const> = 1 << 30

---Parameters of the model, of sampling and of answers.  Other spellings are known: temperature,
---num_ctx, max_tokens, ...; all those of sampling: perigee run --help.
---@class perigee.parameters
---@field temp? number              0 chooses the likeliest token
---@field top_k? integer
---@field top_p? number
---@field min_p? number
---@field typical_p? number
---@field seed? integer
---@field ctx? integer              tokens of context
---@field device? string
---@field place? string|string[]    what must be where: "layers 0-9 on cuda:0; experts on cpu", as
---                                 perigee explain --help says
---@field weights? "auto"|"map"|"copy"   whether processors read weights from a copy in large pages
---@field max? integer              tokens of one reply at most
---@field stop? string|string[]     texts that end a reply
---@field format? perigee.format_of_reply   what a reply must look like: "json", a JSON Schema, ...
---@field grammar? string           the same as GBNF
---@field grammar_trigger? string|string[]   the grammar holds only behind one of these texts
---@field think? boolean|"low"|"medium"|"high"   whether the model may think first, or how much; a
---                                 warning tells what the chat template knows nothing of

---@alias perigee.parameter_kind "integer"|"number"|"boolean"|"string"|"strings"|"bias"|"chain"
---|"format"|"think"|"place"

-- name = { who, kind, least, most }.  Those of sampling have their ranges from the engine, which
-- lists them; one that is missing here is a number.
local ROWS <const> = {
  ctx = { "model", "integer", 1 },
  sessions = { "model", "integer", 1, 4096 },
  batch = { "model", "integer", 1, 65536 },
  kv = { "model", "string" },
  device = { "model", "string" },
  place = { "model", "place" },
  weights = { "model", "string" },
  max = { "answer", "integer", 1 },
  stop = { "answer", "strings" },
  think = { "answer", "think" },
  seed = { "sampling", "integer" },
  dry_sequence_breakers = { "sampling", "strings" },
  logit_bias = { "sampling", "bias" },
  samplers = { "sampling", "chain" },
  grammar = { "sampling", "string" },
  grammar_trigger = { "sampling", "strings" },
  format = { "answer", "format" },
}
local INTEGERS <const> = { top_k = true, repeat_last_n = true, dry_allowed_length = true,
  dry_penalty_last_n = true, mirostat = true, min_keep = true }
local FLAGS <const> = { ignore_eos = true, heal = true }

-- Spellings of Ollama, llama.cpp and the OpenAI API for the same things.
M.aliases = {
  temperature = "temp",
  num_ctx = "ctx",
  n_ctx = "ctx",
  num_predict = "max",
  n_predict = "max",
  max_tokens = "max",
  num_batch = "batch",
  typ_p = "typical_p",
  repetition_penalty = "repeat_penalty",
  penalty_last_n = "repeat_last_n",
}

local function expected_number(kind, least, most)
  local text = kind == "integer" and "an integer" or "a number"
  if least and most then return ("%s from %g to %g"):format(text, least, most) end
  if least then return ("%s of at least %g"):format(text, least) end
  return text
end

local function number_field(kind, least, most)
  local expected = expected_number(kind, least, most)
  return {
    kind = "number",
    expected = expected,
    check = function(v, path)
      if kind == "integer" then v = math.tointeger(v) or v end
      local is_right = v == v and (kind == "number" or math.type(v) == "integer")
      is_right = is_right and (not least or v >= least) and (not most or v <= most)
      if not is_right then return nil, check.wrong(path, v, expected) end
      return v
    end,
  }
end

-- { [token id] = number, or false for never }
local function read_bias(v, path)
  local out = {}
  for id, bias in next, v do
    local where = check.join(path, id)
    if math.type(id) ~= "integer" then return nil, check.wrong(where, id, "a token id as key") end
    if type(bias) ~= "number" and bias ~= false then
      return nil, check.wrong(where, bias, "a number, or false for never")
    end
    out[id] = bias
  end
  return out
end

-- Rules of placement become one text.
local function read_place(v, path)
  local list, text = check.strings(v, path)
  if not list then return nil, text end
  for i, rules in ipairs(list) do
    local ok, err = engine.check_place(rules)
    local where = type(v) == "table" and check.join(path, i) or path
    if not ok then return nil, where .. ": " .. tostring(err) end
  end
  return table.concat(list, "; ")
end

local KINDS <const> = {
  place = { expected = "rules of placement, a string or a list of strings", check = read_place },
  strings = { expected = "a string or a list of strings", check = check.strings },
  bias = { kind = "table", expected = "{ [token id] = number or false }", check = read_bias },
  boolean = { kind = "boolean", expected = "true or false" },
  string = { kind = "string" },
  think = thinking.field,
  format = { expected = '"json" or a schema', check = function(v, path)
    return require("perigee.grammar").check(v, path)
  end },
  chain = { expected = "a list of names of samplers and policies", check = function(v, path)
    return require("perigee.sampler").read_order(v, path)
  end },
}

local fields, defaults

-- The fields are made when they are first needed: the engine knows its parameters.
local function all_fields()
  if fields then return fields end
  local all, default = {}, {}
  for _, p in ipairs(engine.parameters()) do
    local kind = FLAGS[p.name] and "boolean" or INTEGERS[p.name] and "integer" or "number"
    ROWS[p.name] = ROWS[p.name] or { "sampling", kind, p.lo, p.hi < HUGE and p.hi or nil }
    default[p.name] = p.default
    if kind == "boolean" then default[p.name] = p.default ~= 0 end
  end
  for name, row in next, ROWS do
    all[name] = KINDS[row[2]] or number_field(row[2], row[3], row[4])
  end
  all.grammar = { kind = "string", expected = "a grammar in GBNF", check = function(v, path)
    if v == "" then return v end
    local ok, err = engine.grammar(v)
    if not ok then return nil, (path .. tostring(err):gsub("^grammar", "")) end
    return v
  end }
  default.samplers = assert(engine.order "")
  default.grammar, default.grammar_trigger = "", {}
  fields, defaults = all, default
  return fields
end

---The names there are, sorted.
---@return string[]
function M.names()
  return check.keys(all_fields())
end

---What a parameter takes.
---@param name string
---@return string? canonical   nil where there is no such parameter
---@return perigee.parameter_kind? kind
function M.kind(name)
  all_fields()
  local canonical = ROWS[name] and name or M.aliases[name]
  if canonical then return canonical, ROWS[canonical][2] end
end

---The default of a parameter of sampling.
---@param name string
---@return any
function M.default(name)
  all_fields()
  return defaults[name]
end

---The defaults of Ollama for sampling, which hold in Modelfiles.
---@return perigee.parameters
function M.of_ollama()
  local out = {}
  for _, p in ipairs(engine.parameters()) do
    local is_integer = ROWS[p.name] and ROWS[p.name][2] == "integer" or INTEGERS[p.name]
    local v = is_integer and math.tointeger(p.ollama) or p.ollama
    if FLAGS[p.name] then v = p.ollama ~= 0 end
    out[p.name] = v
  end
  return out
end

---Check parameters; returns a copy under canonical names.  A chain of samplers with values
---(sampler.lua) becomes parameters.
---@param t any
---@param path string
---@return perigee.parameters?
---@return string? text
function M.check(t, path)
  local chain = type(t) == "table" and rawget(t, "sampler")
  if chain == nil or chain == false then return check.table(t, all_fields(), path, M.aliases) end
  t = check.shallow(t)
  t.sampler = nil
  local out, text = check.table(t, all_fields(), path, M.aliases)
  if not out then return nil, text end
  return require("perigee.sampler").merge(out, chain, check.join(path, "sampler"))
end

---Check changes of parameters, where json.null stands for the default.
---@param t any
---@param path string
---@param from_file table<string, any>   what the model file recommends
---@return perigee.parameters? changes   defaults filled in where the engine must be told
---@return string|string[] text          or the names that are to be forgotten
function M.changes(t, path, from_file)
  if type(t) ~= "table" then return nil, check.wrong(path, t, "a table") end
  local values, forgotten = {}, {}
  for key, v in next, t do
    if v == json.null then
      local name = M.aliases[key] or key
      if not all_fields()[name] then return nil, select(2, M.check({ [key] = 0 }, path)) end
      forgotten[#forgotten + 1] = name
    else
      values[key] = v
    end
  end
  local out, text = M.check(values, path)
  if not out then return nil, text end
  for _, name in ipairs(forgotten) do
    if ROWS[name][1] == "sampling" then
      out[name] = from_file and from_file[name]
      if out[name] == nil then out[name] = defaults[name] end
      if out[name] == nil then
        return nil, check.join(path, name) .. " has no default to go back to; give a value"
      end
    end
  end
  return out, forgotten
end

---The checked parameters that one taker wants: "model", "sampling" or "answer".
---@param parameters perigee.parameters
---@param who string
---@return table
function M.pick(parameters, who)
  local out = {}
  for name, v in next, parameters do
    if ROWS[name][1] == who then out[name] = v end
  end
  return out
end

return M
