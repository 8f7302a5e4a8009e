-- SPDX-License-Identifier: MIT
-- Chains of samplers as lists of links: what they become, that they are the native chain bit for
-- bit, and what is said of mistakes in them.
local lu = require "luaunit"
local perigee = require "perigee"
local sampler = require "perigee.sampler"

local T = {}

-- Values for each link that make it do something, and the parameters they are.
local LINKS <const> = {
  penalties = { { "penalties", 1.3, repeat_last_n = 40, presence_penalty = 0.5 },
    { repeat_penalty = 1.3, repeat_last_n = 40, presence_penalty = 0.5 } },
  dry = { { "dry", 0.8, dry_allowed_length = 1 },
    { dry_multiplier = 0.8, dry_allowed_length = 1 } },
  top_n_sigma = { { "top_n_sigma", 2.5 }, { top_n_sigma = 2.5 } },
  top_k = { { "top_k", 37 }, { top_k = 37 } },
  typ_p = { { "typ_p", 0.8 }, { typical_p = 0.8 } },
  top_p = { { "top_p", 0.9, min_keep = 3 }, { top_p = 0.9, min_keep = 3 } },
  min_p = { { "min_p", 0.02 }, { min_p = 0.02 } },
  xtc = { { "xtc", 0.5, xtc_threshold = 0.05 }, { xtc_probability = 0.5, xtc_threshold = 0.05 } },
  temperature = { { "temperature", 1.7, dynatemp_range = 0.5 },
    { temp = 1.7, dynatemp_range = 0.5 } },
  adaptive_p = { { "adaptive_p", 0.4 }, { adaptive_target = 0.4 } },
}

-- Numbers that are the same in every run.
local function dice(seed)
  return function(n)
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return (seed >> 8) % n + 1
  end
end

local function random_chain(roll)
  local names, list, values, order = {}, {}, {}, {}
  for name in pairs(LINKS) do names[#names + 1] = name end
  table.sort(names)
  for i = 1, roll(#names) do
    local name = table.remove(names, roll(#names))
    list[i], order[i] = LINKS[name][1], name
    for key, v in pairs(LINKS[name][2]) do values[key] = v end
  end
  values.samplers = table.concat(order, ";")
  return list, values
end

function T.test_a_list_is_the_native_chain_bit_for_bit()
  local roll, seen = dice(7), {}
  for i = 1, 60 do
    local list, native = random_chain(roll)
    local options = { vocab = 300 + 37 * i, picks = 40, seed = i }
    local a = assert(sampler.measure({ sampler = list }, options))
    local b = assert(sampler.measure(native, options))
    lu.assertEquals(a.digest, b.digest, native.samplers)
    lu.assertEquals(a.ids, b.ids, native.samplers)
    seen[a.digest] = true
  end
  local n = 0
  for _ in pairs(seen) do n = n + 1 end
  lu.assertTrue(n > 50) -- they are different chains
end

function T.test_values_become_parameters()
  local a = perigee.assistant { from = "m.gguf", sampler = {
    "penalties", { "top_k", 30 }, { "temperature", 0.7, dynatemp_range = 0.2 }, "typical" } }
  lu.assertEquals(a.parameters, { top_k = 30, temp = 0.7, dynatemp_range = 0.2,
    samplers = { "penalties", "top_k", "temperature", "typ_p" } })
  lu.assertNil(a.sampler)
end

function T.test_an_empty_chain_has_no_links()
  local function digest(params) return sampler.measure(params, { vocab = 300 }).digest end
  local none = digest { sampler = {}, top_k = 1 }
  lu.assertEquals(none, digest { samplers = "none", top_k = 1 })
  lu.assertNotEquals(none, digest { top_k = 1 })
end

function T.test_letters_and_texts_still_name_an_order()
  local options = { vocab = 300, picks = 20 }
  local want = sampler.measure({ sampler = { "top_k", "temperature" } }, options).digest
  for _, samplers in ipairs { "kt", "top_k;temp", { "kt" }, { "top_k", "temp" } } do
    lu.assertEquals(sampler.measure({ samplers = samplers }, options).digest, want)
  end
end

------------------------------------------------------------ precedence

function T.test_with_replaces_single_values_and_the_chain()
  local base = perigee.assistant { from = "m.gguf",
    sampler = { { "top_k", 30 }, { "temperature", 0.7 } } }
  local assistant = require "perigee.assistant"
  local cooler = assistant.with(base, { parameters = { temp = 0.1 } })
  lu.assertEquals(cooler.parameters,
    { temp = 0.1, top_k = 30, samplers = { "top_k", "temperature" } })
  local other = assistant.with(base, { sampler = { { "min_p", 0.2 } } })
  lu.assertEquals(other.parameters, { temp = 0.7, top_k = 30, min_p = 0.2, samplers = { "min_p" } })
  local reordered = assistant.with(base, { parameters = { samplers = "temperature" } })
  lu.assertEquals(reordered.parameters.samplers, { "temperature" })
end

function T.test_a_chat_can_change_its_chain()
  local model = perigee.fake.model { replies = { "a", "b" } }
  local chat <close> = assert(perigee.chat { from = model, sampler = { { "top_k", 30 } } })
  lu.assertEquals(model.sessions[1].sampling_used, { top_k = 30, samplers = { "top_k" } })
  assert(chat:set { sampler = { { "top_p", 0.5 }, { "temperature", 0.9 } } })
  lu.assertEquals(model.sessions[1].sampling_used,
    { top_k = 30, top_p = 0.5, temp = 0.9, samplers = { "top_p", "temperature" } })
end

------------------------------------------------------------ mistakes

local function refuses(fragment, t)
  t.from = "m.gguf"
  lu.assertErrorMsgContains(fragment, perigee.assistant, t)
  lu.assertErrorMsgContains("sampler_spec.lua:", perigee.assistant, t)
end

function T.test_mistakes_name_the_link_and_the_nearest()
  refuses("sampler[2]: no sampler is called top_kk; did you mean top_k?",
    { sampler = { "penalties", "top_kk" } })
  refuses("sampler[1].top_k: found the number -40, expected an integer of at least -1",
    { sampler = { { "top_k", -40 } } })
  refuses("sampler[1].xtc_treshold is no parameter of xtc; did you mean xtc_threshold?",
    { sampler = { { "xtc", 0.5, xtc_treshold = 0.1 } } })
  refuses("sampler[1].xtc_threshold is no parameter of top_k; it has top_k",
    { sampler = { { "top_k", 4, xtc_threshold = 1 } } })
  refuses("sampler[1]: found the number 3, expected a name", { sampler = { 3 } })
  refuses("sampler[1][1]: found nothing, expected the name of a sampler",
    { sampler = { { top_k = 3 } } })
  refuses("sampler[1][2]: found the number 3, expected nothing", { sampler = { { "infill", 3 } } })
  refuses("found keys that are no list", { sampler = { top_k = 3 } })
end

function T.test_a_value_is_given_once()
  refuses("sampler[3]: top_k is 3 here and 40 in sampler[1]; a parameter has one value",
    { sampler = { { "top_k", 40 }, "temperature", { "top_k", 3 } } })
  refuses("sampler: temp is 0.7 here and 0.5 among the parameters; give it once",
    { sampler = { { "temperature", 0.7 } }, parameters = { temp = 0.5 } })
  refuses("samplers is given too", { sampler = { "top_k" }, parameters = { samplers = "top_k" } })
  perigee.assistant { from = "m.gguf", sampler = { { "top_k", 40 }, { "top_k", 40 } } }
end

function T.test_samplers_has_no_values()
  refuses("parameters.samplers: gives top_k a value; a chain with values is called sampler",
    { parameters = { samplers = { { "top_k", 40 } } } })
end

function T.test_mirostat_takes_no_policies()
  local ok, text = pcall(sampler.measure,
    { mirostat = 2, sampler = { { policy = "p", text = "return function() end" } } },
    { vocab = 300 })
  lu.assertFalse(ok)
  lu.assertStrContains(text, "mirostat takes the place of the chain")
end

return T
