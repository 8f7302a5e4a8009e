-- SPDX-License-Identifier: MIT
-- perigee bench --sampler: what choosing a token costs.  Three chains take turns over the same
-- made-up logits: one given by parameters alone, the same described as a list of links, and that
-- with a policy behind top_k.  The figure of a chain is the median of its rounds.
-- host.arguments: { model? = path, vocab, picks, rounds, seed = integer, policy = name, json =
-- boolean }.
local engine = require "perigee.sys.engine"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local loop = require "perigee.sys.loop"
local sampler = require "perigee.sampler"

local M = {}

local NATIVE <const> = {
  samplers = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature",
  top_k = 40, top_p = 0.95, min_p = 0.05, temp = 0.8, repeat_penalty = 1.1 }

local function described(policy)
  local list = { "penalties", "dry", "top_n_sigma", { "top_k", 40 }, "typ_p", { "top_p", 0.95 },
    { "min_p", 0.05 }, "xtc", { "temperature", 0.8 } }
  if policy then table.insert(list, 5, policy) end
  local out, text = sampler.prepare { repeat_penalty = 1.1, sampler = list }
  if not out then error({ text = text }, 0) end
  return out
end

local function policy_of(name)
  if not name:find("%.lua$") then return { policy = name } end
  local text, err = host.read_file(name)
  if not text then error({ text = tostring(err) }, 0) end
  return { policy = name, text = text }
end

local function run(params, options, model)
  local result, err = engine.measure(params, options, model)
  if not result then error({ text = tostring(err) }, 0) end
  loop.sleep(0) -- each round is a slice of its own
  return result
end

local function spread(list)
  table.sort(list)
  local mid = #list // 2
  return { min = list[1], max = list[#list],
    median = #list % 2 == 1 and list[mid + 1] or (list[mid] + list[mid + 1]) / 2 }
end

local function measure(arguments)
  local model
  if arguments.model then
    local opened, err = engine.open(arguments.model, { ctx = 64 })
    if not opened then error({ text = tostring(err) }, 0) end
    model = opened
  end
  local chains = { { "native", NATIVE }, { "described in Lua", described() },
    { "with policy " .. arguments.policy, described(policy_of(arguments.policy)) } }
  local options = { vocab = arguments.vocab, picks = arguments.picks, seed = arguments.seed }
  local digest, ns = {}, { {}, {}, {} }
  for i = 1, 2 do
    digest[i] = run(chains[i][2], { vocab = options.vocab, picks = math.min(options.picks, 200),
      seed = options.seed, digest = true }, model).digest
  end
  for round = 0, arguments.rounds do
    for i, one in ipairs(chains) do
      local result = run(one[2], options, model)
      if round > 0 then ns[i][round] = result.ns / 1000 end -- the first one warms up
    end
  end
  local rows = {}
  for i, one in ipairs(chains) do rows[i] = { one[1], spread(ns[i]) } end
  return rows, digest[1] == digest[2], model and model:info().n_vocab or options.vocab
end

local function report(arguments, rows, is_same, n_vocab)
  local extra = rows[3][2].median - rows[2][2].median
  if arguments.json then
    local function figures(s)
      return json.object { { "median_us", s.median }, { "min_us", s.min }, { "max_us", s.max } }
    end
    local document = json.object { { "n_vocab", n_vocab }, { "picks", arguments.picks },
      { "rounds", arguments.rounds }, { "seed", arguments.seed }, { "policy", arguments.policy },
      { "same_tokens", is_same }, { "native", figures(rows[1][2]) },
      { "lua_chain", figures(rows[2][2]) }, { "with_policy", figures(rows[3][2]) },
      { "policy_us", extra } }
    host.write(1, assert(json.encode(document, { indent = 2 })) .. "\n")
    return
  end
  local head = "vocabulary   %d tokens, %d picks a round, %d rounds, seed %d\n\n"
  local lines = {
    head:format(n_vocab, arguments.picks, arguments.rounds, arguments.seed),
    ("%-28s  %12s  %8s  %8s\n"):format("chain", "us per token", "min", "max"),
  }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("%-28s  %12.2f  %8.2f  %8.2f\n"):format(row[1], row[2].median, row[2].min,
      row[2].max)
  end
  lines[#lines + 1] = ("\nthe policy   %.2f us per token, over the top 40\n"):format(extra)
  lines[#lines + 1] = ("the same     %s\n"):format(is_same
    and "native and described chain chose the same tokens, bit for bit"
    or "NO: native and described chain differ")
  host.write(1, table.concat(lines))
end

---The driver's main function.
---@param arguments table
---@return integer   exit status
function M.main(arguments)
  local ok, rows, is_same, n_vocab = pcall(measure, arguments)
  if ok then
    report(arguments, rows, is_same, n_vocab)
    return is_same and 0 or 1
  end
  if type(rows) ~= "table" or not rows.text then error(rows, 0) end
  host.write(2, "perigee: " .. rows.text .. "\n")
  return 1
end

return M
