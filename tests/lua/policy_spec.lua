-- SPDX-License-Identifier: MIT
-- Sampling policies: what they see and may do, what they keep, and how hostile ones end.
local lu = require "luaunit"
local perigee = require "perigee"
local sampler = require "perigee.sampler"

local MODEL <const> = "examples/demo-model/perigee-demo.gguf"
local T = {}

local function policy(text, settings)
  return { policy = "p.lua", text = text, settings = settings }
end

-- A chain with a policy, on made-up logits.
local function measure(text, settings, options)
  return sampler.measure({ sampler = { { "top_k", 40 }, policy(text, settings), "temperature" } },
    options or { vocab = 300, picks = 30 })
end

local plain

function T.setUp()
  plain = assert(sampler.measure({ sampler = { { "top_k", 40 }, "temperature" } },
    { vocab = 300, picks = 30 }))
end

-- The policy raises when what it looks at is not as it should be.
local function holds(text, settings)
  local ok, err = measure(text, settings)
  lu.assertEquals(tostring(err), "nil")
  return ok
end

------------------------------------------------------------ what it sees

function T.test_candidates_come_sorted_with_probabilities()
  local same = holds [[return function(c)
    assert(#c == 40)
    local sum = 0
    for i = 1, #c do
      sum = sum + c:p(i)
      assert(c:id(i) >= 0 and c:id(i) < 300)
      assert(c:find(c:id(i)) == i)
      assert(i == 1 or c:logit(i) <= c:logit(i - 1))
    end
    assert(math.abs(sum - 1) < 1e-5, sum)
    assert(c:find(299) == nil or c:find(299) <= 40)
    assert(c:other(1) == nil)
  end]]
  lu.assertEquals(same.digest, plain.digest) -- looking changes nothing
end

function T.test_history_is_there()
  holds [[return { state = { n = 64 }, choose = function(c, state)
    assert(c:position() == state.n)
    assert(c:token(state.n + 1) == nil and c:token(-state.n - 1) == nil)
    assert(c:token(state.n) == c:token(-1))
    assert(c:token(1) == c:token(-state.n))
    if state.last then assert(c:token(-1) == state.last) end
    c:keep(1)
    state.last, state.n = c:id(1), state.n + 1
  end }]]
end

function T.test_random_numbers_are_its_own_and_the_same_again()
  local text = [[return function(c)
    local a, b = c:random(), c:random()
    assert(a >= 0 and a < 1 and a ~= b)
    c:pick(a < 0.5 and 1 or 2)
  end]]
  local a, b = holds(text), holds(text)
  lu.assertEquals(a.ids, b.ids)
  lu.assertNotEquals(a.ids, measure(text, nil, { vocab = 300, picks = 30, seed = 9 }).ids)
end

function T.test_pairs_goes_by_keys()
  holds([[return { settings = { t = {} }, choose = function(_, _, settings)
    local seen = {}
    for key, value in pairs(settings.t) do seen[#seen + 1] = key .. "=" .. value end
    assert(table.concat(seen, " ") == "1=a 2=b 7=c aa=d b=e", table.concat(seen, " "))
  end }]], { t = { "a", "b", [7] = "c", b = "e", aa = "d" } })
end

------------------------------------------------------------ what it may do

function T.test_the_temperature_written_in_lua_is_the_native_one()
  local a = measure("return function(c) for i = 1, #c do c:set(i, c:logit(i) / 0.5) end end")
  local native = sampler.measure({ sampler = { { "top_k", 40 }, { "temperature", 0.5 } } },
    { vocab = 300, picks = 30 })
  local b = sampler.measure({ sampler = { { "top_k", 40 }, { "temperature", 1 },
    policy "return function(c) for i = 1, #c do c:set(i, c:logit(i) / 0.5) end end" } },
    { vocab = 300, picks = 30 })
  lu.assertEquals(b.digest, native.digest)
  lu.assertNotEquals(a.digest, native.digest) -- behind it comes the default temperature
end

function T.test_pick_ban_keep_and_sort()
  local second = holds "return function(c) c:pick(2) end"
  local banned = sampler.measure({ sampler = { { "top_k", 2 },
    policy "return function(c) c:ban(1) end" } }, { vocab = 300, picks = 30 })
  lu.assertEquals(second.ids[1], banned.ids[1])
  local first = holds "return function(c) c:keep(1) end"
  local greedy = sampler.measure({ temp = 0 }, { vocab = 300, picks = 30 })
  lu.assertEquals(first.ids, greedy.ids)
  holds [[return function(c)
    local id = c:id(40)
    c:set(40, c:logit(1) + 1)
    assert(c:id(40) == id)
    c:sort()
    assert(c:id(1) == id and c:p(1) > c:p(2))
    c:keep(10)
    assert(#c == 10)
  end]]
end

function T.test_it_runs_at_temperature_0_behind_the_temperature_too()
  for _, list in ipairs {
    { { "top_k", 5 }, policy "return function(c) c:pick(#c) end", { "temperature", 0 } },
    { { "top_k", 5 }, { "temperature", 0 }, policy "return function(c) assert(#c == 5) end" },
  } do
    local result, err = sampler.measure({ sampler = list }, { vocab = 300, picks = 5 })
    local greedy = sampler.measure({ temp = 0 }, { vocab = 300, picks = 5 })
    lu.assertNil(err)
    lu.assertEquals(#result.ids, 5)
    lu.assertEquals(table.concat(result.ids, " ") == table.concat(greedy.ids, " "),
      type(list[2][1]) == "string")
  end
end

function T.test_policies_of_one_chain_keep_their_own_states()
  local count = "return function(c, s) s.n = (s.n or 0) + %d "
    .. "if s.n > %d then error('at ' .. s.n) end end"
  local _, err = sampler.measure({ sampler = { { "top_k", 40 }, policy(count:format(1, 100)),
    policy(count:format(10, 60)) } }, { vocab = 300, picks = 30 })
  lu.assertStrContains(tostring(err), "p.lua:1: at 70")
end

function T.test_a_file_beside_the_script_and_one_of_ours()
  local ours = assert(sampler.measure({ sampler = { { "top_k", 40 },
    { policy = "entropy", low = 1, high = 1 } } }, { vocab = 300, picks = 30 }))
  local one = sampler.measure({ sampler = { { "top_k", 40 }, { "temperature", 1 } } },
    { vocab = 300, picks = 30 })
  lu.assertEquals(ours.digest, one.digest) -- a temperature of 1 divides by 1
  local ok, text = pcall(sampler.measure, { sampler = { { policy = "no_such.lua" } } })
  lu.assertFalse(ok)
  lu.assertStrContains(text, "sampler[1]: ")
  lu.assertStrContains(text, "no_such.lua")
end

------------------------------------------------------------ loading

-- text of the policy, what is said of it, settings
local UNFIT <const> = {
  { "return functoin() end", "p.lua:1: " },
  { "return 3", "p.lua: returned a number, expected a function, or a table with choose" },
  { "return { choice = function() end }", "p.lua: has no function choose" },
  { "return { choose = function() end, setings = {} }",
    "p.lua: the key 'setings' is unknown; did you mean 'settings'?" },
  { "return { choose = function() end, state = 3 }",
    "p.lua: state: found a number, expected a table" },
  { "return { choose = function() end, state = { f = print } }",
    "'print' is not available in policies" },
  { "return { choose = function() end, state = { f = type } }",
    "p.lua:1: state.f: found a function" },
  { "local seen = {}\nreturn function(c)\n  seen[1] = c:id(1)\nend",
    "p.lua:2: choose uses the local 'seen' of its chunk, a table" },
  { "local function deep() return function() return deep end end\nlocal t = {}\n"
    .. "local function f() t[1] = 1 end\nreturn function() deep() f() end",
    "p.lua:4: choose uses the local 't' of its chunk, a table" },
  { "local it = string.gmatch('abc', '.')\nreturn function() it() end",
    "choose uses the local 'it' of its chunk, a function" },
  { "n = 1\nreturn function() end", "p.lua:1: assignment to global 'n'" },
  { "while true do end", "p.lua:1: ran 5000000 instructions" },
  { "error 'not today'", "p.lua:1: not today" },
  { "return function() end", "setting 'low': the policy has no settings", { low = 1 } },
  { "return { settings = { low = 1 }, choose = function() end }",
    "unknown setting 'lwo'; did you mean 'low'?", { lwo = 1 } },
  { "return { settings = { low = 1 }, choose = function() end }",
    "setting 'low': found a string, expected a number", { low = "1" } },
}

function T.test_what_does_not_load_says_where()
  for _, case in ipairs(UNFIT) do
    local list = { { policy = "p.lua", text = case[1] } }
    for key, v in pairs(case[3] or {}) do list[1][key] = v end
    local ok, text = pcall(perigee.assistant, { from = "m.gguf", sampler = list })
    lu.assertFalse(ok, case[1])
    lu.assertStrContains(text, "sampler[1]: sampling policy: ")
    lu.assertStrContains(text, case[2])
    lu.assertStrContains(text, "policy_spec.lua:")
  end
end

function T.test_functions_and_constants_of_the_chunk_are_fine()
  holds [[local max <const>, floor = 3, math.floor
local function half(n) return floor(n / 2) end
return function(c) c:keep(half(#c) + max) end]]
end

function T.test_a_function_is_told_to_be_a_file()
  lu.assertErrorMsgContains("sampler[1].policy: found a function; a policy runs on another thread",
    perigee.assistant, { from = "m.gguf", sampler = { { policy = function() end } } })
end

------------------------------------------------------------ hostile ones

-- Body of choose(c, state, settings) from line 2 on; what the error says behind "p.lua:LINE: ".
local HOSTILE <const> = {
  { "while true do end", "2: ran 5000000 instructions for one token" },
  { "local t, s = {}, ('x'):rep(1000):rep(1000)\nfor i = 1, 1e9 do t[i] = s .. i end",
    "3: script used up its 16 MiB of memory" },
  { "local s = 'x'\nwhile true do s = s .. s end", "3: script used up its 16 MiB of memory" },
  { "local s = ('x'):rep(1 << 40)", "2: " },
  { "error 'boom'", "2: boom" },
  { "error({})", "2: " },
  { "error()", "2: " },
  { "local function f() return f() + 1 end\nf()", "2: " },
  { "c:set(1, 0/0)", "2: set: found " },
  { "c:set(1, math.huge)", "2: set: found inf as a logit" },
  { "c:set(1, 1e300)", "2: set: found 1e+300 as a logit" },
  { "c:set(1, 'x')", "2: bad argument" },
  { "c:id(0)", "2: id: found 0, expected a candidate from 1 to 40" },
  { "c:logit(41)", "2: logit: found 41, expected a candidate from 1 to 40" },
  { "c:ban(1.5)", "2: ban: found 1.5, expected a candidate from 1 to 40" },
  { "c:keep(0)", "2: keep: found 0, expected a candidate from 1 to 40" },
  { "c:find(1 << 40)", "2: find: found 1099511627776, expected a token id from 0 to" },
  { "c.id(1)", "2: found number, expected the candidates; call with a colon" },
  { "c.best = 1", "2: attempt to index" },
  { "for i = 1, #c do c:ban(i) end", "1: choose left no candidate: all of the 40 are banned" },
  { "c:pick(1)\nc:pick(1)", "3: pick: a candidate was picked already" },
  { "c:ban(2)\nc:pick(2)", "3: pick: candidate 2 is banned" },
  { "state.c = c", "1: state.c: found a userdata, expected plain data" },
  { "state.t = { f = function() end }", "1: state.t.f: found a function, expected plain data" },
  { "state.t = state", "1: state.t.t" },
  { "state.text = ('x'):rep(5000)", "1: state.text: takes more than 4096 bytes" },
  { "state[1.5] = 1", "1: state: found a key that is a fraction" },
  { "kept = c", "2: assignment to global 'kept'" },
  { "settings.x = 1", "2: assignment to field 'x' of a read-only table" },
  { "math.floor = nil", "2: assignment to field 'floor' of a read-only table" },
  { "coroutine.wrap(function() end)", "2: 'coroutine' is not available in policies" },
  { "pcall(function() while true do end end)", "2: 'pcall' is not available in policies" },
  { "load('x')", "2: 'load' is not available in policies" },
  { "math.random()", "2: math.random is not available in policies; use c:random()" },
  { "setmetatable({}, {})", "2: 'setmetatable' is not available in policies" },
  { "next({})", "2: 'next' is not available in policies; use pairs" },
  { "tabel.sort({})", "2: undeclared global 'tabel'; did you mean 'table'?" },
  { "return 2", "1: choose returned a number; it picks with c:pick(i)" },
  { "table.sort({ 1, 2, 3 }, function() while true do end end)", "2: ran 5000000 instructions" },
  { "local s = ('a'):rep(30)\ns:find(('a*'):rep(20) .. 'b')", "3: script ran 400 ms" },
}

local function chunk(body)
  return "return function(c, state, settings)\n" .. body .. "\nend"
end

function T.test_hostile_policies_end_with_their_line()
  for _, case in ipairs(HOSTILE) do
    local result, err = measure(chunk(case[1]))
    lu.assertNil(result, case[1])
    lu.assertEquals(err.code, "policy_error", case[1])
    lu.assertStrContains(tostring(err), "sampling policy: p.lua:" .. case[2], false, case[1])
  end
end

function T.test_a_local_of_the_chunk_must_not_change()
  local _, err = measure [[local n = 0
return { state = { calls = 0 }, choose = function(c, state)
  state.calls = state.calls + 1
  n = n + 1
end }]]
  lu.assertStrContains(tostring(err), "p.lua:2: choose changed 'n', a local of its chunk")
end

function T.test_what_a_failed_call_changed_is_put_back()
  local model <close> = assert(perigee.model(MODEL, { ctx = 64 }))
  local list <const> = { policy [[local n = 0
return function() n = n + 1 error("n is " .. n) end]] }
  local first <close> = assert(model:session { sampler = list })
  local second <close> = assert(model:session { sampler = list }) -- in the same state
  for _, s in ipairs { first, second, first } do
    local _, err = s:complete("Hi", { max = 2 })
    lu.assertStrContains(tostring(err), "p.lua:2: n is 1")
  end
end

local function text_of(session, max)
  local parts, last = {}, nil
  for ev in session:generate { max = max, ignore_eog = true } do
    parts[#parts + 1] = ev.text
    if ev.done then last = ev end
  end
  return table.concat(parts), last
end

-- A hostile session ends; the ones beside it say what they say alone, one of them with the very
-- same policies in the same state.
function T.test_other_sessions_go_on()
  local model <close> = assert(perigee.model(MODEL, { ctx = 128 }))
  local function session(body)
    local s = assert(model:session { seed = 4,
      sampler = { { "top_k", 40 }, policy(chunk(body)), { "temperature", 1.5 } } })
    assert(s:feed "What is your name?")
    return s
  end
  local harmless <const> = "if state.off then return end state.n = (state.n or 0) + 1"
  local alone = text_of(session(harmless), 24)
  for _, body in ipairs { "while true do end", "error 'x'",
    "local t = {} for i = 1, 1e9 do t[i] = {} end" } do
    local bad <const> = "if c:position() > 20 then " .. body .. " end"
    local tasks = {
      perigee.spawn(function() return { text_of(session(bad), 60) } end),
      perigee.spawn(function() return { text_of(session(harmless), 24) } end),
      perigee.spawn(function() return { text_of(session(bad), 4) } end), -- ends before it fails
    }
    local results = assert(perigee.all(tasks))
    lu.assertEquals(results[1][2].done, "error")
    lu.assertEquals(results[1][2].error.code, "policy_error")
    lu.assertStrContains(tostring(results[1][2].error), "p.lua:2: ")
    lu.assertEquals(results[2][2].done, "length")
    lu.assertEquals(results[2][1], alone)
    lu.assertEquals(results[3][2].done, "length")
  end
end

------------------------------------------------------------ state

-- Depends on all calls before: what it bans is counted in the state, in several kinds of data.
local STATEFUL <const> = [[
return { state = { n = 0, sum = 0.5, seen = {}, last = "" }, choose = function(c, state)
  state.n = state.n + 1
  state.sum = state.sum * 1.25 % 3 + c:p(1)
  state.seen["k" .. state.n % 5] = { c:token(-1), state.n % 2 == 0 }
  state.last = c:text(1)
  if state.sum > 1.5 then c:ban(1) end
  if state.n % 3 == 0 then c:keep(#c // 2 + 1) end
end }]]

function T.test_fork_and_rewind_replay_exactly()
  local model <close> = assert(perigee.model(MODEL, { ctx = 256, sessions = 6 }))
  local s <close> = assert(model:session { seed = 11,
    sampler = { { "top_k", 40 }, policy(STATEFUL), { "temperature", 1.5 } } })
  assert(s:feed "Tell me about the units.")
  text_of(s, 20)
  local mark = assert(s:mark())
  local n = s:n_tok()
  local first = text_of(s, 30)
  assert(s:rewind(mark))
  lu.assertEquals(text_of(s, 30), first)
  assert(s:rewind(n))
  local child <close> = assert(s:fork())
  lu.assertEquals(text_of(s, 30), first)
  local of_child = text_of(child, 30) -- a stream of random numbers of its own
  assert(child:rewind(n))
  lu.assertEquals(text_of(child, 30), of_child)
  assert(s:rewind(n))
  assert(s:feed " no") -- another history: what was kept behind it no longer counts
  local other = text_of(s, 20)
  assert(s:rewind(n))
  lu.assertEquals(text_of(s, 30), first)
  assert(s:rewind(n))
  assert(s:feed " no")
  lu.assertEquals(text_of(s, 20), other)
end

function T.test_other_parameters_are_no_other_beginning()
  local model <close> = assert(perigee.model(MODEL, { ctx = 64 }))
  local function chain(limit)
    return { { "top_k", 9 }, policy([[return { settings = { limit = 0 }, state = { n = 0 },
choose = function(c, s, settings)
  s.n = s.n + 1
  if s.n > settings.limit then error("at " .. s.n) end
end }]], { limit = limit }) }
  end
  local s <close> = assert(model:session { sampler = chain(8) })
  assert(s:feed "Hi")
  text_of(s, 6)
  assert(s:set { temp = 0.3, seed = 2 })
  lu.assertStrContains(tostring(select(2, text_of(s, 6)).error), "p.lua:4: at 9")
  assert(s:set { sampler = chain(3) }) -- another setting is another policy
  lu.assertStrContains(tostring(select(2, text_of(s, 6)).error), "p.lua:4: at 4")
end

------------------------------------------------------------ a session beside

function T.test_a_session_beside_shows_its_prediction_and_gets_the_tokens()
  local model <close> = assert(perigee.model(MODEL, { ctx = 128 }))
  local chain <const> = { { "top_k", 40 }, policy [[return function(c)
    for i = 1, #c do assert(c:other(i) == c:logit(i)) end
  end]], { "temperature", 1.5 } }
  local a <close> = assert(model:session { seed = 2, sampler = chain })
  local b <close> = assert(model:session { seed = 3 })
  assert(a:feed "What is your name?")
  assert(b:feed "What is your name?")
  local last
  for ev in a:generate { beside = b, max = 20, ignore_eog = true } do last = ev end
  lu.assertEquals(last.done, "length", tostring(last.error))
  lu.assertEquals(a:tokens(), b:tokens())
  local c <close> = assert(model:session { seed = 2,
    sampler = { { "top_k", 40 }, { "temperature", 1.5 } } })
  assert(c:feed "What is your name?")
  text_of(c, 20)
  lu.assertEquals(c:tokens(), a:tokens())
end

function T.test_contrast_needs_another_session_and_heeds_it()
  local model <close> = assert(perigee.model(MODEL, { ctx = 128 }))
  local function session(alpha)
    local s = assert(model:session { seed = 2,
      sampler = { { policy = "contrastive", alpha = alpha }, { "temperature", 1 } } })
    assert(s:feed(model:tokenize("<|user|>What is your name?<|end|><|assistant|>",
      { special = true })))
    return s
  end
  local alone = session(0.5)
  for ev in alone:generate { max = 3 } do
    if ev.done then
      lu.assertEquals(ev.error.code, "policy_error")
      lu.assertStrContains(tostring(ev.error), "contrastive needs a second session")
    end
  end
  local function ids(alpha, prompt)
    local s, other = session(alpha), assert(model:session())
    assert(other:feed(prompt))
    for ev in s:generate { beside = other, max = 16, ignore_eog = true } do
      if ev.done then lu.assertNil(ev.error) end
    end
    return table.concat(s:tokens(), " ")
  end
  lu.assertEquals(ids(0, "units"), ids(0, "name")) -- nothing contrasted
  lu.assertNotEquals(ids(1, "units of value"), ids(0, "units of value"))
end

function T.test_what_is_wrong_with_a_session_beside()
  local model <close> = assert(perigee.model(MODEL, { ctx = 64 }))
  local a <close> = assert(model:session())
  local b <close> = assert(model:session())
  assert(a:feed "Hi")
  local function done(options)
    for ev in a:generate(options) do
      if ev.done then return ev end
    end
  end
  lu.assertStrContains(tostring(done { beside = b, max = 2 }.error),
    "nothing was fed to the session beside")
  lu.assertErrorMsgContains("beside: the session itself", a.generate, a, { beside = a })
  lu.assertErrorMsgContains("beside: found no session", a.generate, a, { beside = 3 })
  assert(b:feed "Hi")
  local n, last = 0, nil
  for ev in a:generate { beside = b, ignore_eog = true } do
    n, last = n + 1, ev
    if n == 2 then b:close() end
  end
  lu.assertEquals(last.done, "error")
  lu.assertEquals(last.error.code, "not_found")
  lu.assertStrContains(tostring(last.error), "the session beside was closed")
end

------------------------------------------------------------ the watermark

function T.test_a_watermark_is_found_with_its_key_only()
  local watermark = require "perigee.policy.watermark"
  local options <const> = { vocab = 5000, picks = 400 }
  local chain <const> = { { "temperature", 1.5 } }
  local marked = assert(sampler.measure({ sampler = { { "top_k", 200 },
    { policy = "watermark", key = 99, boost = 3 }, chain[1] } }, options))
  local bare = assert(sampler.measure({ sampler = { { "top_k", 200 }, chain[1] } }, options))
  lu.assertTrue(watermark.detect(marked.ids, { key = 99 }).z > 6)
  lu.assertTrue(math.abs(watermark.detect(marked.ids, { key = 98 }).z) < 4)
  lu.assertTrue(math.abs(watermark.detect(bare.ids, { key = 99 }).z) < 4)
end

------------------------------------------------------------ the temperature by entropy

function T.test_a_sure_model_is_cooled_and_an_unsure_one_is_not()
  local function ids(low, high)
    return sampler.measure({ sampler = { { "top_k", 40 },
      { policy = "entropy", low = low, high = high } } }, { vocab = 300, picks = 30 }).ids
  end
  local greedy = sampler.measure({ temp = 0 }, { vocab = 300, picks = 30 }).ids
  lu.assertEquals(ids(0, 0), greedy)
  lu.assertNotEquals(ids(0.2, 5), greedy)
end

return T
