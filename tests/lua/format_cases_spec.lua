-- SPDX-License-Identifier: MIT
-- The families of formats: tests/cases/formats/NAME.case holds replies and their events.  Each is
-- read whole, byte by byte and in every two pieces; mutants of all replies end without an error
-- and lose nothing.  A case:
--   == what it shows
--   -- thinking            the prompt ended inside thinking (optional)
--   -- tools
--   {"f": {"type": "object", "properties": {...}}}      (optional)
--   -- reply
--   any lines; the last line break is no part of it
--   -- events
--   text "..." | thinking "..." | moved | call ID NAME ARGUMENTS | broken ID "RAW": WHY
local events = require "format_events"
local format = require "perigee.format"
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}
local FOLDER <const> = "tests/cases/formats"
local N_MUTANT <const> = 25 -- of each reply

local function cases_of(name)
  local cases, part = {}, nil
  for line in assert(perigee.fs.read(FOLDER .. "/" .. name)):gmatch("([^\n]*)\n") do
    local case = cases[#cases]
    local part_name = line:match("^%-%- (%l+)$")
    if line:sub(1, 3) == "== " then
      cases[#cases + 1], part = { name = name .. ": " .. line:sub(4) }, nil
    elseif part_name and case then
      part = {}
      case[part_name] = part
    elseif part then
      part[#part + 1] = line
    end
  end
  for _, case in ipairs(cases) do
    for _, key in ipairs { "reply", "events", "tools" } do
      case[key] = case[key] and table.concat(case[key], "\n") or nil
    end
    lu.assertNotNil(case.reply, case.name .. " has no reply")
    lu.assertNotNil(case.events, case.name .. " has no events")
    case.options = { is_thinking = case.thinking ~= nil,
      tools = case.tools and assert(perigee.json.decode(case.tools)) }
  end
  return cases
end

local function each_case(run)
  local n = 0
  for _, name in ipairs(assert(perigee.fs.list(FOLDER))) do
    local family = assert(format.check(name:match("^(.+)%.case$"), name))
    for _, case in ipairs(cases_of(name)) do
      run(case, format.choose(family, ""))
      n = n + 1
    end
    perigee.sleep(0)
  end
  return n
end

function T.test_events()
  local n = each_case(function(case, fmt)
    lu.assertEquals(events.text(fmt, { case.reply }, case.options), case.events, case.name)
    lu.assertNil(events.lost(fmt, case.reply, case.options), case.name)
  end)
  lu.assertTrue(n > 60, n)
end

function T.test_every_split()
  each_case(function(case, fmt)
    lu.assertNil(events.split_difference(fmt, case.reply, case.options), case.name)
    perigee.sleep(0)
  end)
end

function T.test_every_family_has_cases()
  local names = {}
  for _, name in ipairs(assert(perigee.fs.list(FOLDER))) do names[name] = true end
  for _, fmt in ipairs(format.families()) do
    lu.assertTrue(names[fmt.name .. ".case"], fmt.name)
  end
end

-- A mutant of a reply: bytes dropped, doubled or moved, or a piece of another reply put in.
local function mutate(random, s, other)
  for _ = 1, random(3) do
    local a, b = random(#s + 1), random(#s + 1)
    if a > b then a, b = b, a end
    local kind = random(4)
    if kind == 1 then
      s = s:sub(1, a - 1) .. s:sub(math.min(b, a + random(8)))
    elseif kind == 2 then
      s = s:sub(1, b) .. s:sub(a)
    elseif kind == 3 then
      s = s:sub(1, a)
    else
      local from = random(#other)
      s = s:sub(1, a) .. other:sub(from, from + random(40)) .. s:sub(a + 1)
    end
    if s == "" then return "x" end
  end
  return s
end

function T.test_mutants_lose_nothing()
  local last = "<think> {} [f(a=1)] x"
  each_case(function(case, fmt)
    if case.reply == "" then return end
    for _ = 1, N_MUTANT do
      local s = mutate(math.random, case.reply, last)
      lu.assertNil(events.lost(fmt, s, case.options), ("%s: %q"):format(case.name, s))
    end
    local s = mutate(math.random, case.reply, last)
    lu.assertNil(events.split_difference(fmt, s, case.options, 7),
      ("%s: %q"):format(case.name, s))
    last = case.reply
    perigee.sleep(0)
  end)
end

return T
