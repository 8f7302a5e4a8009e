-- SPDX-License-Identifier: MIT
-- Tasks from the outside: what a script sees of spawn, wait, cancel, sleep and all.
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

local function after(seconds, ...)
  perigee.sleep(seconds)
  return ...
end

function T.test_wait_gives_all_results()
  local task = perigee.spawn(after, 0, 1, nil, 3)
  lu.assertEquals(table.pack(task:wait()), { n = 3, 1, nil, 3 })
  lu.assertEquals(task:status(), "done")
end

function T.test_a_task_can_be_waited_for_by_several_and_again()
  local slow = perigee.spawn(after, 0.01, "x")
  local first = perigee.spawn(function() return slow:wait() end)
  local second = perigee.spawn(function() return slow:wait() end)
  lu.assertEquals({ first:wait(), second:wait(), slow:wait() }, { "x", "x", "x" })
end

function T.test_errors_keep_their_values()
  local mine = setmetatable({}, { __tostring = function() return "mine" end })
  local ok, err = perigee.spawn(error, mine):wait()
  lu.assertNil(ok)
  lu.assertIs(err, mine)
end

function T.test_cancel_ends_where_it_waits()
  local steps = {}
  local task = perigee.spawn(function()
    steps[#steps + 1] = "begin"
    perigee.sleep(60)
    steps[#steps + 1] = "never"
  end)
  perigee.sleep(0)
  task:cancel()
  local ok, err = task:wait()
  lu.assertNil(ok)
  lu.assertEquals(err.code, "cancelled")
  lu.assertEquals(steps, { "begin" })
end

function T.test_a_task_may_cancel_itself()
  local task
  task = perigee.spawn(function()
    task:cancel()
    error "not reached"
  end)
  local _, err = task:wait()
  lu.assertEquals(err.code, "cancelled")
end

function T.test_cancelling_what_has_ended_changes_nothing()
  local task = perigee.spawn(after, 0, 5)
  task:wait()
  task:cancel()
  lu.assertEquals(task:wait(), 5)
end

function T.test_waiting_works_through_coroutines_and_pcall()
  local values = coroutine.wrap(function()
    for i = 1, 3 do
      perigee.sleep(0.001)
      coroutine.yield(i)
    end
  end)
  local ok, a, b = pcall(function()
    perigee.sleep(0)
    return values(), values()
  end)
  lu.assertEquals({ ok, a, b }, { true, 1, 2 })
end

function T.test_generators_of_two_tasks_do_not_mix()
  local function numbers(from)
    return coroutine.wrap(function()
      for i = from, from + 2 do
        perigee.sleep(0.002)
        coroutine.yield(i)
      end
    end)
  end
  local function sum(from)
    local n = 0
    for i in numbers(from) do n = n + i end
    return n
  end
  local results = assert(perigee.all { perigee.spawn(sum, 1), perigee.spawn(sum, 10) })
  lu.assertEquals({ results[1], results[2] }, { 6, 33 })
end

function T.test_all_of_nothing()
  lu.assertEquals(perigee.all {}, { n = 0 })
end

function T.test_mistakes_are_the_callers()
  lu.assertErrorMsgContains("tasks_spec.lua:", perigee.spawn, 5)
  lu.assertErrorMsgContains("expected seconds", perigee.sleep, 0 / 0)
  lu.assertErrorMsgContains("entry 1 is a number", perigee.all, { 1 })
end

return T
