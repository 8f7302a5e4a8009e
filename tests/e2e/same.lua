-- SPDX-License-Identifier: MIT
-- The same prompt, seed and options give the same tokens: alone, beside fifteen others, from the
-- prefix cache, after a rewind, after a fork that is made again, and in another process that goes
-- on from a file.  Run twice (STEP "first", then "second"); both print the same lines.
-- What runs it puts in front: local STEP, DIR, N, CHAINS = ...   (CHAINS nil: all)
-- luacheck: read_globals STEP DIR N CHAINS
local p = require "perigee"

local HALF <const> = N // 2
-- Hot, and nothing is cut unless it is what is looked at: a model that is sure has a choice, too.
local ALL <const> = {
  plain = { temp = 3 },
  top_k = { temp = 3, top_k = 60 },
  mirostat_1 = { temp = 3, mirostat = 1, mirostat_tau = 4 },
  mirostat_2 = { temp = 3, mirostat = 2, mirostat_tau = 4, mirostat_eta = 0.3 },
  penalties = { temp = 3, repeat_penalty = 1.4, presence_penalty = 0.5,
    frequency_penalty = 0.2, repeat_last_n = -1 },
  dry = { temp = 3, dry_multiplier = 0.8, dry_allowed_length = 1, dry_penalty_last_n = -1 },
  adaptive_p = { temp = 3, adaptive_target = 0.3,
    samplers = { "penalties", "top_k", "temperature", "adaptive_p" }, repeat_penalty = 1.2 },
  xtc = { temp = 3, xtc_probability = 0.5, xtc_threshold = 0.05 },
  policy = { temp = 3, top_k = 100, samplers = { "top_k", { policy = "p.lua", share = 0.3, text = [[
return { settings = { share = 0.5 }, state = { n = 0, seen = {} }, choose = function(c, s, settings)
  s.n = s.n + 1
  s.seen[s.n % 7 + 1] = c:token(-1) + c:random()
  for i = 1, #c do
    local is_hit = c:random() < settings.share and (c:id(i) + s.n) % 3 ~= 0
    if is_hit then c:set(i, c:logit(i) - #s.seen) end
  end
end }]] }, "temperature" } },
}

-- Prefill in other portions the second time: that must not matter either.
local options = { ctx = 512, sessions = 16, device = "cpu" }
if STEP == "second" then options.batch = 32 end
local model <close> = assert(p.model("model.gguf", options))
local n_vocab <const> = model.info.n_vocab

local names = CHAINS or {}
if not CHAINS then
  for name in pairs(ALL) do names[#names + 1] = name end
  table.sort(names)
end

local function prompt_of(i)
  local ids = {}
  for k = 1, 140 do ids[k] = 10 + (k * k * 7 + k * i) % (n_vocab - 10) end
  return ids
end

local function params_of(i)
  local params = { seed = 100 + i, min_p = 0, top_p = 1 }
  for key, v in pairs(ALL[names[(i - 1) % #names + 1]]) do params[key] = v end
  return params
end

local function go_on(session, n)
  local ids = {}
  for ev in session:generate { max = n, ignore_eog = true } do
    assert(not ev.error, ev.error)
    if ev.id and not ev.done then ids[#ids + 1] = ev.id end
  end
  assert(#ids == n, "too few tokens")
  return table.concat(ids, " ")
end

local function begin(i)
  local session = assert(model:session(params_of(i)))
  assert(session:feed(prompt_of(i)))
  return session
end

local function whole(i)
  local session <close> = begin(i)
  return go_on(session, N), assert(session:stats()).n_cached
end

local function same(found, expected, what)
  if found ~= expected then
    error(("%s: found %s, expected %s"):format(what, found, expected), 2)
  end
end

-- The halves of a text, with everything that may happen in between.
local function check_halves(i, name)
  local session <close> = begin(i)
  local first = go_on(session, HALF)
  local at, mark = #assert(session:tokens()), assert(session:mark())
  local children = {}
  for k = 1, 2 do
    local child <close> = assert(session:fork())
    children[k] = go_on(child, N - HALF)
    assert(child:rewind(at))
    same(go_on(child, N - HALF), children[k], name .. ": a fork, rewound")
  end
  if STEP == "first" then assert(session:save(DIR .. "/" .. name)) end
  local rest = go_on(session, N - HALF)
  assert(children[1] ~= children[2] and children[1] ~= rest and children[2] ~= rest,
    name .. ": forks say the same")
  assert(session:rewind(mark))
  same(go_on(session, N - HALF), rest, name .. ": rewound to a mark")
  assert(session:rewind(at))
  same(go_on(session, N - HALF), rest, name .. ": rewound to a position")
  return first .. " " .. rest, rest, children
end

local alone = {}
for i, name in ipairs(names) do
  local text, n_cached = whole(i)
  alone[i] = text
  assert(n_cached == 0, name .. ": was not cold")
  local again, n_again = whole(i)
  assert(n_again > 0, name .. ": the cache knows nothing")
  same(again, text, name .. ": from the cache")
  local joined, rest, children = check_halves(i, name)
  same(joined, text, name .. ": in two halves")
  local _, _, repeated = check_halves(i, name)
  same(table.concat(repeated, "|"), table.concat(children, "|"), name .. ": forks made again")
  local restored <close> = assert(model:restore(DIR .. "/" .. name))
  local child <close> = assert(restored:fork())
  same(go_on(restored, N - HALF), rest, name .. ": restored")
  print(name, text, go_on(child, N - HALF))
end

for i = #names + 1, 16 do alone[i] = whole(i) end
local tasks = {}
for i = 1, 16 do tasks[i] = p.spawn(whole, i) end
for i = 1, 16 do
  same(assert(tasks[i]:wait()), alone[i], names[(i - 1) % #names + 1] .. ": beside fifteen others")
end
