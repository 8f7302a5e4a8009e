-- SPDX-License-Identifier: MIT
-- The parameters of an assistant: one canonical name each, the other spellings people know, kind
-- and range, and who takes them: the model when it opens, the session's sampler, or each answer.
-- Names and ranges of sampling parameters are those of core/run/sampling.def.
local check = require "perigee.check"
local json = require "perigee.sys.json"

local M = {}

---@class perigee.parameters
---@field temp? number              0 chooses the likeliest token
---@field top_k? integer
---@field top_p? number
---@field min_p? number
---@field typical_p? number
---@field seed? integer
---@field ctx? integer              tokens of context
---@field device? string
---@field max? integer              tokens of one reply at most
---@field stop? string|string[]     texts that end a reply
---@field think? boolean            whether the model may think first, where its template asks

-- name = { who, kind, least, most }
local ROWS <const> = {
  ctx = { "model", "integer", 1 },
  device = { "model", "string" },
  sessions = { "model", "integer", 1, 4096 },
  batch = { "model", "integer", 1, 65536 },
  kv = { "model", "string" },
  max = { "answer", "integer", 1 },
  stop = { "answer", "strings" },
  think = { "answer", "boolean" },
  seed = { "sampling", "integer", 0 },
  temp = { "sampling", "number", 0 },
  dynatemp_range = { "sampling", "number", 0 },
  dynatemp_exponent = { "sampling", "number", 0 },
  top_k = { "sampling", "integer", -1 },
  top_p = { "sampling", "number", 0, 1 },
  min_p = { "sampling", "number", 0, 1 },
  typical_p = { "sampling", "number", 0, 1 },
  top_n_sigma = { "sampling", "number" },
  min_keep = { "sampling", "integer", 0 },
  xtc_probability = { "sampling", "number", 0, 1 },
  xtc_threshold = { "sampling", "number", 0, 1 },
  repeat_last_n = { "sampling", "integer", -1 },
  repeat_penalty = { "sampling", "number", 0 },
  presence_penalty = { "sampling", "number" },
  frequency_penalty = { "sampling", "number" },
  dry_multiplier = { "sampling", "number", 0 },
  dry_base = { "sampling", "number", 0 },
  dry_allowed_length = { "sampling", "integer", 0 },
  dry_penalty_last_n = { "sampling", "integer", -1 },
  dry_sequence_breakers = { "sampling", "strings" },
  mirostat = { "sampling", "integer", 0, 2 },
  mirostat_tau = { "sampling", "number", 0 },
  mirostat_eta = { "sampling", "number", 0 },
  adaptive_target = { "sampling", "number" },
  adaptive_decay = { "sampling", "number", 0, 0.99 },
  ignore_eos = { "sampling", "boolean" },
  heal = { "sampling", "boolean" },
  logit_bias = { "sampling", "data" },
  samplers = { "sampling", "data" },
}

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
  if least and most then return ("%s from %s to %s"):format(text, least, most) end
  if least then return ("%s of at least %s"):format(text, least) end
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

local function data_field()
  return { kind = "table", expected = "a table", check = check.copy }
end

local function strings_field()
  return { expected = "a string or a list of strings", check = check.strings }
end

local fields = {}
for name, row in next, ROWS do
  local kind = row[2]
  if kind == "strings" then
    fields[name] = strings_field()
  elseif kind == "data" then
    fields[name] = data_field()
  elseif kind == "number" or kind == "integer" then
    fields[name] = number_field(kind, row[3], row[4])
  else
    fields[name] = { kind = kind }
  end
end

---Check parameters; returns a copy under canonical names.
---@param t any
---@param path string
---@return perigee.parameters?
---@return string? text
function M.check(t, path)
  return check.table(t, fields, path, M.aliases)
end

---The checked parameters that one taker wants: "model", "sampling" or "answer".
---@param parameters perigee.parameters
---@param who string
---@return table
function M.pick(parameters, who)
  local out = {}
  for name, v in next, parameters do
    if ROWS[name][1] == who and v ~= json.null then out[name] = v end
  end
  return out
end

return M
