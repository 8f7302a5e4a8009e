-- SPDX-License-Identifier: MIT
-- The driver behind `perigee test SPEC.lua...`.  A spec is a script, in the sandbox like any other,
-- that returns a table of functions whose names begin with "test"; setUp and tearDown run around
-- each.
--   local lu = require "luaunit"
--   local T = {}
--   function T.test_sum() lu.assertEquals(1 + 1, 2) end
--   return T
-- luaunit is the distribution's (Debian package lua-unit), run with the little of io, os and debug
-- that it needs.  Tests may wait; between two of them the others go on.
-- host.arguments: { files = { path, ... }, pattern? = text }.
local clock = require "perigee.sys.time"
local host = require "perigee.sys.host"
local loop = require "perigee.sys.loop"

local M = {}

local FAILED <const>, NONE_RAN <const> = 1, 77

local function say(text)
  host.write(1, text)
end

-- What luaunit finds in place of the libraries that scripts do not have.
local function library_env()
  local out = { write = function(self, ...) say(table.concat({ ... })) return self end,
    flush = function(self) return self end }
  local env = { assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs,
    pcall = pcall, print = print, rawequal = rawequal, rawget = rawget, rawset = rawset,
    select = select, setmetatable = setmetatable, getmetatable = getmetatable, tonumber = tonumber,
    tostring = tostring, type = type, xpcall = xpcall, string = string, table = table,
    coroutine = coroutine, _VERSION = "Lua 5.4" }
  env.math = setmetatable({ randomseed = function() end }, { __index = math })
  env._G = env
  env.io = { stdout = out, stderr = out, write = function(...) out:write(...) end }
  env.os = { getenv = function() end, clock = clock.monotonic, time = clock.now, date = clock.date,
    exit = function(status) error("os.exit(" .. tostring(status) .. ")", 2) end }
  env.debug = { traceback = function(text) return text end }
  env.require = function(name) return env[name] end
  return env
end

local function load_luaunit()
  local chunk, err = host.library("luaunit", library_env())
  if not chunk then
    return nil, "luaunit is missing: install the Debian package lua-unit (" .. tostring(err) .. ")"
  end
  return chunk()
end

local function class_name(path)
  local name = path:match("([^/]+)%.lua$") or path
  return (name:gsub("[^%w_]", "_"))
end

-- Each test begins with a wait: it has a slice of its own, and other tasks their turn.
local function in_turn(fn)
  return function(...)
    loop.sleep(0)
    return fn(...)
  end
end

-- The tests of a spec as luaunit takes them: { { "class.test", { test = fn, setUp = fn } }, ... }
local function instances_of(path)
  local script, err = host.load(path)
  if not script then return nil, tostring(err) end
  local class = script()
  if type(class) ~= "table" then
    return nil, path .. ": returned " .. type(class) .. ", expected a table of tests"
  end
  local name, list, instance = class_name(path), {}, {}
  for key, fn in pairs(class) do
    if type(key) == "string" and type(fn) == "function" then
      local is_test = key:find("^[tT]est") ~= nil
      instance[key] = is_test and in_turn(fn) or fn
      if is_test then list[#list + 1] = { name .. "." .. key, instance } end
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local function pick(list, pattern)
  local out = {}
  for _, test in ipairs(list) do
    if not pattern or test[1]:find(pattern) then out[#out + 1] = test end
  end
  return out
end

---@param arguments { files: string[], pattern?: string }
---@return integer   exit status: 1 when a test failed, 77 when none ran
function M.main(arguments)
  local lu, missing = load_luaunit()
  if not lu then
    host.write(2, "perigee: " .. missing .. "\n")
    return FAILED
  end
  host.provide("luaunit", lu)
  local all = {}
  for _, path in ipairs(arguments.files) do
    local list, err = instances_of(path)
    if not list then
      host.write(2, "perigee: " .. err .. "\n")
      return FAILED
    end
    local chosen = pick(list, arguments.pattern)
    table.move(chosen, 1, #chosen, #all + 1, all)
  end
  if #all == 0 then
    say("no test ran\n")
    return NONE_RAN
  end
  local runner = lu.LuaUnit.new()
  runner:setOutputType("text")
  local failed = runner:runSuiteByInstances(all)
  return failed > 0 and FAILED or 0
end

return M
