-- SPDX-License-Identifier: MIT
-- Hooks: what they see, what they change, in which order, and what their errors do.
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

local function chat_of(assistant, replies, options)
  local model = perigee.fake.model { replies = replies or { "one two", "three", "four", "five" } }
  assistant.from = assistant.from or model
  return assert(perigee.chat(assistant, options)), model
end

-- All that a session was fed or said.
local function text_of(model, i)
  return model:detokenize(model.sessions[i or 1].ids, true)
end

local function events_of(chat, text)
  local list, by_type = {}, {}
  for ev in chat:send(text) do
    list[#list + 1] = ev
    by_type[ev.type] = (by_type[ev.type] or "") .. (ev.text or ev.to or "")
  end
  return by_type, list[#list], list
end

local function call(name, arguments)
  return ('<tool_call>{"name": "%s", "arguments": %s}</tool_call>'):format(name, arguments)
end

local function double(ran)
  return perigee.tool { name = "double", parameters = { n = "int" }, run = function(args)
    ran[#ran + 1] = args.n
    return tostring(2 * args.n)
  end }
end

------------------------------------------------------------ on_request

function T.test_on_request_changes_what_is_asked_and_not_the_conversation()
  local chat, model = chat_of { system = "Be kind.", on_request = function(request, ctx)
    request.system = request.system .. " Round " .. ctx.round .. "."
    request.messages[#request.messages].content = ctx.question:upper()
  end }
  lu.assertEquals(chat:ask("hello"), "one two")
  lu.assertStrContains(text_of(model), "Be kind. Round 1.")
  lu.assertStrContains(text_of(model), "<|user|>HELLO")
  lu.assertEquals(chat:messages()[1].content, "hello")
  lu.assertEquals(chat:system(), "Be kind.")
end

function T.test_on_request_can_return_another_request_or_answer()
  local chat, model = chat_of { on_request = function(request)
    if #request.messages > 1 then return "I know that one." end
    return { messages = { { role = "user", content = "other" } }, parameters = {}, system = "s" }
  end }
  lu.assertEquals(chat:ask("hello"), "one two")
  lu.assertStrContains(text_of(model), "<|system|>s<|end|><|user|>other")
  local text, info = chat:ask("again")
  lu.assertEquals(text, "I know that one.")
  lu.assertEquals(info.why, "hook")
  lu.assertEquals(info.usage.rounds, 0)
  lu.assertEquals(#chat:messages(), 4)
end

function T.test_parameters_of_a_request_hold_for_that_reply()
  local temp, max = 0.5, 1
  local chat, model = chat_of { parameters = { temp = 1 }, on_request = function(request)
    request.parameters.temp, request.parameters.max = temp, max
    request.parameters.top_k = temp and 7
  end }
  lu.assertEquals(chat:ask("a"), "one")
  lu.assertEquals(model.sessions[1].sampling_used.temp, 0.5)
  lu.assertEquals(model.sessions[1].sampling_used.top_k, 7)
  lu.assertEquals(chat:set(), { temp = 1 })
  temp, max = 1, nil
  chat:ask("b")
  lu.assertEquals(model.sessions[1].sampling_used.temp, 1)
  temp = nil                                           -- the default
  chat:ask("c")
  lu.assertEquals(model.sessions[1].sampling_used.top_k, 40)
  lu.assertEquals(model.sessions[1].sampling_used.temp, 0.8)
end

function T.test_what_a_request_may_not_be()
  local request
  local chat = chat_of { on_request = function(given)
    for key, v in pairs(request) do given[key] = v end
  end }
  local function fails(t, text)
    request = t
    local answer, err = chat:ask("x")
    lu.assertNil(answer)
    lu.assertStrContains(tostring(err), text)
    lu.assertEquals(err.code, "hook")
    lu.assertEquals(#chat:messages(), 0)
  end
  fails({ sytem = "x" }, "on_request of the assistant: sytem is unknown; did you mean system?")
  fails({ messages = { { role = "usr", content = "x" } } }, "did you mean user?")
  fails({ parameters = { temprature = 1 } }, "did you mean temp?")
  fails({ parameters = { ctx = 100 } }, "parameters.ctx cannot change: the model is open")
  fails({ parameters = { seed = 5 } }, "parameters.seed has no default to go back to")
end

------------------------------------------------------------ on_token, on_message

function T.test_on_token_replaces_hides_and_ends()
  local chat, model = chat_of({ on_token = function(text)
    if text:find "stop" then return false end
    if text:find "secret" then return "" end
    return (text:gsub("a", "o"))
  end }, { "a cat secret stop here", "more" })
  local seen, done = events_of(chat, "x")
  lu.assertEquals(seen.text, "o cot")
  lu.assertEquals(done.text, "o cot")
  lu.assertEquals(done.why, "stop")
  lu.assertEquals(chat:messages()[2].content, "o cot")
  chat:ask("again")
  lu.assertStrContains(text_of(model), "<|assistant|>o cot<|end|>")
end

function T.test_on_message_is_seen_before_it_is_shown()
  local chat = chat_of { on_message = function(message)
    lu.assertEquals(message.role, "assistant")
    return message.content:upper()
  end }
  local seen, done, list = events_of(chat, "x")
  lu.assertEquals(seen.text, "ONE TWO")
  lu.assertEquals(#list, 2)
  lu.assertEquals(done.text, "ONE TWO")
  lu.assertEquals(chat:messages()[2].content, "ONE TWO")
end

function T.test_on_message_can_have_the_model_try_again()
  local chat, model = chat_of { on_message = function(message)
    if not message.content:find "four" then return false, "Say four." end
  end }
  local seen, done = events_of(chat, "x")
  lu.assertEquals(seen.text, "four")
  lu.assertEquals(seen.warning, ("the model tries again: Say four."):rep(2))
  lu.assertEquals(done.usage.rounds, 3)
  lu.assertStrContains(text_of(model), "three<|end|><|user|>Say four.<|end|>")
  lu.assertEquals(#chat:messages(), 2)                       -- what was refused is gone
  chat = chat_of { on_message = function() return false, "Never." end }
  local text, err = chat:ask("x")
  lu.assertNil(text)
  lu.assertEquals(err.code, "refused")
  lu.assertStrContains(tostring(err), "on_message refused 4 replies; the last because: Never.")
  lu.assertEquals(#chat:messages(), 0)
end

------------------------------------------------------------ on_tool_call

function T.test_on_tool_call_sees_changes_refuses_and_answers()
  local verdict, ran = nil, {}
  local function new()
    return chat_of({ tools = { double(ran) }, on_tool_call = function(one)
      lu.assertEquals(one.name, "double")
      if verdict == "in place" then one.arguments.n = 10 return end
      if type(verdict) == "table" then return table.unpack(verdict) end
      return verdict
    end }, { call("double", '{"n": 4}'), "done" })
  end
  local function result_of(v)
    verdict, ran = v, {}
    local _, _, list = events_of(new(), "x")
    for _, ev in ipairs(list) do
      if ev.type == "result" then return ev, ran end
    end
  end
  local result = result_of(nil)
  lu.assertEquals(result.text, "8")
  lu.assertEquals(result_of("in place").text, "20")
  lu.assertEquals(result_of({ { name = "double", arguments = { n = 5 } } }).text, "10")
  result = result_of({ false, "Not today." })
  lu.assertEquals(result.code, "refused")
  lu.assertStrContains(result.text, "Not today.")
  result = result_of("eight")
  lu.assertEquals(result.text, "eight")
  lu.assertNil(result.error)
  result = result_of({ { name = "doble", arguments = { n = 5 } } })
  lu.assertStrContains(result.text, "did you mean double?")
  result = result_of({ { name = "double", arguments = { n = "x" } } })
  lu.assertEquals(result.code, "arguments")
end

function T.test_on_tool_call_can_approve_and_a_later_one_can_still_refuse()
  local ran = {}
  local function ask(last)
    local tool = double(ran)
    tool.needs_approval = true
    local chat = chat_of({ from = { from = perigee.fake.model {
      replies = { call("double", '{"n": 4}'), "done" } }, tools = { tool },
      on_tool_call = function() return true end }, on_tool_call = last })
    local _, _, list = events_of(chat, "x")
    return list
  end
  ask(nil)
  lu.assertEquals(ran, { 4 })
  ask(function() return false end)
  lu.assertEquals(ran, { 4 })
end

------------------------------------------------------------ errors, order, context

function T.test_an_error_ends_the_answer_and_names_the_place()
  local fail = true
  local cases = {
    on_request = { on_request = function() if fail then error("no") end end },
    on_token = { on_token = function() if fail then local t = nil; return t.x end end },
    on_message = { on_message = function()
      if fail then error({ code = "mine", message = "m" }) end
    end },
    route = { route = function() if fail then return 5 end end },
  }
  for name, assistant in pairs(cases) do
    fail = true
    local chat = chat_of(assistant, { "a", "b", "c" })
    local text, err = chat:ask("x")
    lu.assertNil(text)
    lu.assertEquals(err.code, "hook")
    if name == "on_request" or name == "on_token" then
      lu.assertStrMatches(tostring(err),
        ".*hooks_spec.lua:%d+: .* %(in " .. name .. " of the assistant%)")
      lu.assertStrMatches(err.data.traceback, ".*hooks_spec.lua:%d+.*")
    end
    lu.assertEquals(#chat:messages(), 0)
    fail = false
    lu.assertNotNil(chat:ask("y"))
    lu.assertEquals(#chat:messages(), 2)
  end
end

function T.test_order_is_base_then_parts_then_itself()
  local order = {}
  local function note(name) return function() order[#order + 1] = name end end
  local chat = chat_of { from = { from = perigee.fake.model { replies = { "a" } },
    on_message = note "base" },
    with = { { on_message = note "part 1" }, { on_message = note "part 2" } },
    on_message = note "itself" }
  chat:ask("x")
  lu.assertEquals(order, { "base", "part 1", "part 2", "itself" })
end

function T.test_the_context()
  local seen
  local chat = chat_of { name = "Ada", on_request = function(_, ctx)
    ctx.state.n = (ctx.state.n or 0) + 1
    seen = ctx
    ctx:warn("careful")
    perigee.sleep(0)                                         -- hooks may wait
  end }
  local by_type = events_of(chat, "one")
  lu.assertEquals(by_type.warning, "careful")
  lu.assertEquals(seen.question, "one")
  lu.assertEquals(seen.round, 1)
  lu.assertEquals(seen.model.n_ctx, 4096)
  chat:ask("two")
  lu.assertEquals(seen.state.n, 2)
  local other = chat:fork()
  other:ask("three")
  lu.assertEquals(seen.state.n, 3)
  chat:ask("three")
  lu.assertEquals(seen.state.n, 3)
end

function T.test_fork_of_the_context_votes()
  local n = 0
  local model = perigee.fake.model { replies = function()
    n = n + 1
    return n == 2 and "blue" or "red"
  end }
  local chat = chat_of { from = model, on_request = function(_, ctx)
    local count, best = {}, nil
    for _ = 1, 3 do
      local try <close> = assert(ctx:fork())
      local text = assert(try:ask(ctx.question))
      count[text] = (count[text] or 0) + 1
      if not best or count[text] > count[best] then best = text end
    end
    return best
  end }
  lu.assertEquals(chat:ask("Which colour?"), "red")
  lu.assertEquals(n, 3)
  lu.assertEquals(#chat:messages(), 2)
  for i = 2, 4 do lu.assertTrue(model.sessions[i].is_closed) end
end

------------------------------------------------------------ route

function T.test_route_lets_another_assistant_answer()
  local small, big = perigee.fake.model { replies = { "small", "small again" } },
    perigee.fake.model { replies = { "big" } }
  local other = { name = "Big", from = big, system = "You are big.",
    on_message = function(message) return message.content .. "!" end }
  local chat = chat_of { from = small, system = "You are small.", route = function(_, ctx)
    if ctx.question:find "hard" then return other end
  end }
  lu.assertEquals(chat:ask("easy"), "small")
  local seen, done = events_of(chat, "hard")
  lu.assertEquals(seen.route, "Big")
  lu.assertEquals(done.text, "big!")
  lu.assertStrContains(text_of(big), "<|system|>You are big.<|end|><|user|>easy<|end|><|assistant|>"
    .. "small<|end|><|user|>hard")
  lu.assertEquals(chat:ask("easy"), "small again")
  lu.assertStrContains(text_of(small), "<|user|>hard<|end|><|assistant|>big!<|end|><|user|>easy")
  lu.assertEquals(#chat:messages(), 6)
  chat:close()
  lu.assertTrue(big.sessions[1].is_closed)
end

function T.test_parameters_from_outside_hold_for_whoever_answers()
  local far = perigee.fake.model { replies = { "far", "far again", "far once more" } }
  local other = { from = far, parameters = { temp = 0.1 } }
  local chat = chat_of({ route = function() return other end }, nil,
    { over = { parameters = { top_k = 4 } } })
  chat:ask("x")
  lu.assertEquals(far.sessions[1].sampling_used, { temp = 0.1, top_k = 4 })
  chat:set { temp = 0.9 }
  chat:ask("y")
  lu.assertEquals(far.sessions[2].sampling_used, { temp = 0.9, top_k = 4 })
  lu.assertTrue(far.sessions[1].is_closed)
end

function T.test_route_to_a_file_is_watched()
  local chat = chat_of { route = function() return "family/parts/answers.lua" end }
  local text, err = chat:ask("x")
  lu.assertEquals(text, "by rule", tostring(err))
  lu.assertStrContains(table.concat(chat:assistant().files, " "), "family/parts/answers.lua")
end

function T.test_route_without_from_and_in_a_circle()
  local chat, model = chat_of { route = function() return { system = "Another word." } end }
  local text, err = chat:ask("x")
  lu.assertEquals(text, "one two", tostring(err))
  lu.assertStrContains(text_of(model, 2), "<|system|>Another word.")
  local a, b = { from = model }, { from = model }
  a.route = function() return b end
  b.route = function() return a end
  chat = chat_of(a)
  text, err = chat:ask("x")
  lu.assertNil(text)
  lu.assertStrContains(tostring(err), "more than 4 times")
  chat = chat_of { route = function() return "nowhere.lua" end }
  text, err = chat:ask("x")
  lu.assertNil(text)
  lu.assertStrContains(tostring(err), "nowhere.lua")
  lu.assertEquals(#chat:messages(), 0)
end

function T.test_budgets_hold_in_hooks()
  local chat = chat_of { budget = { seconds = 0.02 }, on_request = function()
    perigee.sleep(0.05)
  end }
  local text, err = chat:ask("x")
  lu.assertNil(text)
  lu.assertEquals(err.code, "seconds")
end

function T.test_a_task_that_is_cancelled_in_a_hook_leaves_the_chat_usable()
  local chat = chat_of { on_request = function(_, ctx)
    if ctx.question == "x" then perigee.sleep(600) end
  end }
  local task = perigee.spawn(function() return chat:ask("x") end)
  perigee.sleep(0.01)
  task:cancel()
  task:wait()
  lu.assertEquals(chat:ask("y"), "one two")
  lu.assertEquals(#chat:messages(), 2)
end

return T
