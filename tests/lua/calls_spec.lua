-- SPDX-License-Identifier: MIT
-- The tool loop: a model's calls are run, and what goes wrong is told to the model.
local json = require("perigee").json
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

local function call(name, arguments)
  return ('<tool_call>{"name": "%s", "arguments": %s}</tool_call>'):format(name, arguments or "{}")
end

local function new(replies, tools, more, options)
  local assistant = { from = perigee.fake.model { replies = replies }, tools = tools }
  for key, v in pairs(more or {}) do assistant[key] = v end
  local chat, err = perigee.chat(assistant, options)
  lu.assertNil(err)
  return chat
end

-- The results as { text, ... }, warnings by code, and the last event.
local function run(chat, question)
  local results, warnings, last = {}, {}, nil
  for ev in chat:send(question or "Go.") do
    if ev.type == "result" then results[#results + 1] = ev end
    if ev.type == "warning" then warnings[ev.code] = ev end
    last = ev
  end
  return results, last, warnings
end

local function echo(args)
  return "got " .. args.v
end

local ECHO <const> = { name = "echo", description = "Says it back.", parameters = { v = "string" },
  run = echo }

function T.test_a_call_and_its_answer()
  local chat = new({ "Let me see.\n" .. call("echo", '{"v": "x"}'), "It is x." }, { ECHO })
  local types = {}
  for ev in chat:send("Go.") do
    if types[#types] ~= ev.type then types[#types + 1] = ev.type end
  end
  lu.assertEquals(types, { "text", "call", "result", "text", "done" })
  local messages = chat:messages()
  lu.assertEquals(#messages, 4)
  lu.assertEquals(messages[2].content, "Let me see.")
  lu.assertEquals(messages[2].tool_calls[1]["function"].name, "echo")
  lu.assertEquals(messages[3].role, "tool")
  lu.assertEquals(messages[3].content, "got x")
  lu.assertEquals(messages[3].tool_call_id, messages[2].tool_calls[1].id)
end

function T.test_ask_gives_the_final_text()
  local chat = new({ "Hm. " .. call("echo", '{"v": "x"}'), "It is x." }, { ECHO })
  local text, info = chat:ask("Go.")
  lu.assertEquals(text, "It is x.")
  lu.assertEquals(info.calls, 1)
  lu.assertEquals(info.usage.rounds, 2)
end

function T.test_the_call_is_not_fed_again()
  local chat = new({ call("echo", '{"v": "x"}'), "Done." }, { ECHO })
  local _, info = chat:ask("Go.")
  local _, last = run(new({ "Done." }, { ECHO }))
  -- the first prompt, then <|end|> <|tool|> got x <|end|> <|assistant|>
  lu.assertEquals(info.usage.new, last.usage.new + 6)
end

function T.test_two_calls_run_in_order()
  local order = {}
  local function note(args)
    order[#order + 1] = args.v
    return args.v
  end
  local chat = new({ call("echo", '{"v": "a"}') .. "\n" .. call("echo", '{"v": "b"}'), "Done." },
    { { name = "echo", parameters = { v = "string" }, run = note } })
  local results = run(chat)
  lu.assertEquals(order, { "a", "b" })
  lu.assertEquals(results[1].text, "a")
  lu.assertEquals(results[2].text, "b")
  lu.assertNotEquals(results[1].id, results[2].id)
end

function T.test_parallel_calls_keep_the_order_of_results()
  local function wait(args)
    perigee.sleep(tonumber(args.v))
    return "slept " .. args.v
  end
  local chat = new({ call("nap", '{"v": "0.02"}') .. call("nap", '{"v": "0"}'), "Done." },
    { { name = "nap", parameters = { v = "string" }, run = wait, parallel = true } })
  local results = run(chat)
  lu.assertEquals(results[1].text, "slept 0.02")
  lu.assertEquals(results[2].text, "slept 0")
end

function T.test_what_tools_may_return()
  local values = { t = { b = 1, a = { 1, 2 } }, n = 42, f = false }
  local function give(args) return values[args.v] end
  local tool = { name = "give", parameters = { v = "string" }, run = give }
  local function text_of(v)
    return run(new({ call("give", '{"v": "' .. v .. '"}'), "Done." }, { tool }))[1].text
  end
  lu.assertEquals(text_of("t"), '{"a":[1,2],"b":1}')
  lu.assertEquals(text_of("n"), "42")
  lu.assertEquals(text_of("f"), "false")
  lu.assertEquals(text_of("nothing"), "ok")
end

local function one_result(tool, arguments, more, options)
  local chat = new({ call(tool.name, arguments), "Done." }, { tool }, more, options)
  local results, last, warnings = run(chat)
  lu.assertEquals(#results, 1)
  lu.assertEquals(last.why, "eog")
  lu.assertEquals(last.text, "Done.")
  return results[1], warnings
end

function T.test_failures_are_results()
  local result = one_result({ name = "f", run = function() return nil, "no such file" end })
  lu.assertTrue(result.error)
  lu.assertEquals(result.text, "Error: no such file")
  result = one_result({ name = "f", run = function() return perigee.fs.read("/no/such/file") end })
  lu.assertTrue(result.error)
  local warnings
  local function deep() error("boom") end
  local function run_deep()
    deep()
    return "not here"
  end
  result, warnings = one_result({ name = "f", run = run_deep })
  lu.assertStrMatches(warnings.exception.traceback,
    "  [^\n]*calls_spec.lua:%d+\n  [^\n]*calls_spec.lua:%d+.*")
  lu.assertTrue(result.error)
  lu.assertStrContains(result.text, "boom")
  lu.assertStrContains(warnings.exception.text, "calls_spec.lua:")
  result = one_result({ name = "f", run = function() return { print } end })
  lu.assertTrue(result.error)
  lu.assertStrContains(result.text, "result[1]: found a function")
end

function T.test_wrong_arguments_do_not_run()
  local n = 0
  local tool = { name = "f", parameters = { path = "string" }, run = function()
    n = n + 1
    return "ran"
  end }
  local result, warnings = one_result(tool, '{"pth": "x"}')
  lu.assertEquals(n, 0)
  lu.assertStrContains(result.text, "pth is not a parameter; did you mean path?")
  lu.assertNotNil(warnings.arguments)
  result, warnings = one_result(tool, '{"path": 7}')
  lu.assertEquals(n, 1)
  lu.assertNil(result.error)
  lu.assertStrContains(warnings.coerced.text, "f: path: the number 7 was taken as a string")
end

function T.test_an_unknown_tool_names_the_known_ones()
  local chat = new({ call("ehco"), "Done." }, { ECHO })
  local results = run(chat)
  lu.assertEquals(results[1].text,
    'There is no tool "ehco"; did you mean echo? The tools are echo.')
end

function T.test_a_call_that_cannot_be_read_is_told_and_kept()
  local chat = new({ "<tool_call>{name: echo}</tool_call>", "Done." }, { ECHO })
  local results, last, warnings = run(chat)
  lu.assertStrContains(results[1].text, "The call could not be read: the call is no JSON")
  lu.assertEquals(warnings.broken_call.raw, "<tool_call>{name: echo}</tool_call>")
  lu.assertEquals(last.text, "Done.")
  lu.assertEquals(chat:messages()[2].content, "<tool_call>{name: echo}</tool_call>")
end

function T.test_a_call_cut_off_is_never_run()
  local n = 0
  local tool = { name = "echo", parameters = { v = "string" }, run = function()
    n = n + 1
    return "ran"
  end }
  local chat = new({ 'x <tool_call>{"name": "echo", "arguments": {"v": "x"}}' }, { tool },
    { parameters = { max = 4 } })
  local results, last, warnings = run(chat)
  lu.assertEquals(n, 0)
  lu.assertEquals(#results, 0)
  lu.assertEquals(last.why, "length")
  lu.assertStrContains(warnings.broken_call.text, "the reply ended inside the call")
  chat = new({ '<tool_call>{"name": "echo", "arguments": {"v": "x"}}', "Done." }, { tool })
  results, last = run(chat)
  lu.assertEquals(n, 0)
  lu.assertStrContains(results[1].text, "the reply ended inside the call")
  lu.assertEquals(last.text, "Done.")
end

function T.test_the_budget_of_calls()
  local n = 0
  local chat = new(function()
    n = n + 1
    return call("echo", json.encode { v = "n" .. n })
  end, { ECHO }, { budget = { calls = 2 } })
  local results, last, warnings = run(chat)
  lu.assertEquals(#results, 4)
  lu.assertNil(results[2].error)
  lu.assertStrContains(results[3].text, "the budget of 2 calls is used up")
  lu.assertEquals(last.why, "calls")
  lu.assertNotNil(warnings.budget)
  local text, err = chat:ask("And?")
  lu.assertNil(text)
  lu.assertEquals(err.code, "calls")
end

function T.test_eight_calls_unless_told_otherwise()
  local n = 0
  local chat = new(function()
    n = n + 1
    if n > 9 then return "Done." end
    return call("echo", json.encode { v = "n" .. n })
  end, { ECHO })
  local results, last = run(chat)
  lu.assertNil(results[8].error)
  lu.assertTrue(results[9].error)
  lu.assertEquals(last.text, "Done.")
end

function T.test_rounds()
  local chat = new(function(_, n) return call("echo", json.encode { v = "n" .. n }) end, { ECHO },
    { budget = { rounds = 3, calls = 99 } })
  local results, last = run(chat)
  lu.assertEquals(#results, 3)
  lu.assertEquals(last.why, "rounds")
end

-- The budget leaves a slow machine time for the first call, and none for what follows it.
function T.test_seconds()
  local nap = { name = "nap", parameters = { v = "int" }, run = function() perigee.sleep(2.2) end }
  local asking = perigee.spawn(function()
    return new({ call("nap", '{"v": 1}') }, { nap }, { budget = { seconds = 2 } }):ask("Go.")
  end)
  local chat = new({ call("nap", '{"v": 1}') .. call("nap", '{"v": 2}'), "Fine." }, { nap },
    { budget = { seconds = 2 } })
  local results, last = run(chat)
  lu.assertEquals(#results, 1)
  lu.assertEquals(last.why, "seconds")
  lu.assertStrContains(chat:messages()[4].content, "The call was not run")
  local text, err = asking:wait()
  lu.assertNil(text)
  lu.assertEquals(err.code, "seconds")
end

function T.test_the_same_call_again_and_again()
  local n = 0
  local tool = { name = "f", run = function()
    n = n + 1
    return "same"
  end }
  local chat = new(function() return call("f") end, { tool })
  local results, last = run(chat)
  lu.assertEquals(n, 2)
  lu.assertStrContains(results[3].text, "This is call 3 with the same arguments")
  lu.assertEquals(#results, 5)
  lu.assertEquals(last.why, "loop")
  local messages = chat:messages()
  lu.assertEquals(messages[#messages].role, "tool")
end

function T.test_approval()
  local n = 0
  local function tool(need)
    return { name = "rm", needs_approval = need, parameters = { path = "string" }, run = function()
      n = n + 1
      return "gone"
    end }
  end
  local args = '{"path": "x"}'
  local result = one_result(tool(true), args)
  lu.assertStrContains(result.text, "it needs approval, and there is nobody to ask")
  local asked
  result = one_result(tool(true), args, nil, { approve = function(question)
    asked = question
    return false, "Not today."
  end })
  lu.assertEquals(asked.name, "rm")
  lu.assertEquals(asked.arguments.path, "x")
  lu.assertStrContains(result.text, "the user refused it. Not today.")
  result = one_result(tool(true), args, nil, { approve = function() error("no terminal") end })
  lu.assertTrue(result.error)
  result = one_result(tool(true), args, nil, { approve = function() return "yes" end })
  lu.assertTrue(result.error)
  result = one_result(tool(function() error("?") end), args)
  lu.assertTrue(result.error)
  lu.assertEquals(n, 0)
  result = one_result(tool(true), args, nil, { approve = function() return true end })
  lu.assertEquals(result.text, "gone")
  result = one_result(tool(function(a) return a.path ~= "x" end), args)
  lu.assertEquals(result.text, "gone")
  lu.assertEquals(n, 2)
end

function T.test_wrong_arguments_are_not_asked_about()
  local asked = false
  local tool = { name = "rm", needs_approval = true, parameters = { path = "string" },
    run = function() return "" end }
  one_result(tool, "{}", nil, { approve = function()
    asked = true
    return true
  end })
  lu.assertFalse(asked)
end

function T.test_leaving_the_loop_at_a_call_leaves_no_call_without_result()
  local chat = new({ call("echo", '{"v": "a"}') .. call("echo", '{"v": "b"}'), "Fine." }, { ECHO })
  for ev in chat:send("Go.") do
    if ev.type == "result" then break end
  end
  local messages = chat:messages()
  lu.assertEquals(#messages, 4)
  lu.assertEquals(messages[3].content, "got a")
  lu.assertStrContains(messages[4].content, "The call was not run")
  lu.assertEquals(chat:ask("And?"), "Fine.")
end

function T.test_cancel_while_a_tool_runs()
  local chat
  local n = 0
  local tool = { name = "f", parameters = { v = "int" }, run = function()
    n = n + 1
    chat:cancel()
    return "ran"
  end }
  chat = new({ call("f", '{"v": 1}') .. call("f", '{"v": 2}'), "Fine." }, { tool })
  local results, last = run(chat)
  lu.assertEquals(n, 1)
  lu.assertEquals(#results, 1)
  lu.assertEquals(last.why, "cancelled")
  local messages = chat:messages()
  lu.assertEquals(messages[3].content, "ran")
  lu.assertStrContains(messages[4].content, "The call was not run")
  lu.assertEquals(chat:ask("And?"), "Fine.")
end

function T.test_a_task_that_is_ended_in_a_tool_leaves_a_chat_in_order()
  local has_begun = false
  local chat = new({ call("nap"), "Fine." }, { { name = "nap", run = function()
    has_begun = true
    perigee.sleep(60)
    return "slept"
  end } })
  local task = perigee.spawn(function() return chat:ask("Go.") end)
  while not has_begun do perigee.sleep(0.001) end
  task:cancel()
  lu.assertNil((task:wait()))
  local messages = chat:messages()
  lu.assertEquals(#messages, 3)
  lu.assertStrContains(messages[3].content, "The call was not run")
  lu.assertEquals(chat:ask("And?"), "Fine.")
end

function T.test_leaving_the_loop_at_a_call_runs_nothing()
  local n = 0
  local tool = { name = "f", run = function() n = n + 1 end }
  local chat = new({ call("f") .. " and so on", "Fine." }, { tool })
  for ev in chat:send("Go.") do
    if ev.type == "call" then break end
  end
  lu.assertEquals(n, 0)
  lu.assertEquals(chat:ask("And?"), "Fine.")
end

function T.test_tools_are_shown_in_their_order()
  local chat = new({ "x" }, { { name = "z", run = echo }, { name = "a", run = echo } })
  chat:ask("Hi")
  local prompt = chat:prompt()
  lu.assertTrue(prompt:find('"z"', 1, true) < prompt:find('"a"', 1, true))
  lu.assertEquals(chat:tools()[1].signature, "z()")
end

-- A chat of a format; its calls and results as events.
local function new_in(name, replies, tools)
  return new(replies, tools, { format = name })
end

local TYPED <const> = { name = "put", parameters = { s = "string?", n = "int?" },
  run = function(args) return json.encode(args) end }

function T.test_raw_arguments_get_the_type_of_the_schema()
  local reply = "<tool_call><function=put><parameter=s>2</parameter><parameter=n>2</parameter>"
    .. "</function></tool_call>"
  local results = run(new_in("qwen_coder", { reply, "Done." }, { TYPED }))
  lu.assertEquals(results[1].text, '{"s":"2","n":2}')
end

function T.test_ids_of_the_reply_are_kept_and_made_once()
  local one = "<|tool_call_begin|>functions.put:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
  local results = run(new_in("kimi_k2", { one .. one, one, "Done." }, { TYPED }))
  lu.assertEquals(results[1].id, "functions.put:0")
  lu.assertEquals({ results[2].id, results[3].id }, { "call_1", "call_2" })
end

function T.test_ids_as_the_template_wants_them()
  local reply = '[TOOL_CALLS][{"name": "put", "arguments": {}, "id": "%s"}]'
  local results = run(new_in("mistral", { reply:format("abcdefgh1"), reply:format("short"),
    "Done." }, { TYPED }))
  lu.assertEquals({ results[1].id, results[2].id }, { "abcdefgh1", "call00001" })
end

function T.test_a_broken_list_is_kept_once()
  local reply = '[TOOL_CALLS][{"x": 1}, {"y": 2}]'
  local chat = new_in("mistral", { reply, "Done." }, { TYPED })
  local results = run(chat)
  lu.assertEquals(#results, 2)
  lu.assertEquals(chat:messages()[2].content, reply)
end

return T
