-- SPDX-License-Identifier: MIT
-- The root of what scripts see: local perigee = require "perigee".
-- Models and sessions are in model.lua; chat, assistant and tool are loaded when first asked for.
-- Whatever can fail returns nil and an error, a table { code =, message = } that prints as its
-- message; a caller's mistake raises at the caller's line.
local clock = require "perigee.sys.time"
local fs = require "perigee.sys.fs"
local grants = require "perigee.sys.grants"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local loop = require "perigee.sys.loop"
local model = require "perigee.model"

local M = {}

M.version = host.version
M.json = json
M.null = json.null
M.fs = fs
M.time = clock.now
M.date = clock.date
-- request { fs = { read = { "." } } } -> true, or nil and an error that shows the option to add
M.request = grants.request

---Open a model file; waits while it loads.  The same file with the same options is opened once.
---@param path string                  relative to the script, or to the current folder; or a name
---                                    that perigee list shows
---@param options? perigee.model.options
---@return perigee.model?
---@return perigee.error? err
---@async
function M.model(path, options)
  return model.open(path, options)
end

---Run a function beside the others.  An error in it is reported unless somebody waits for it.
---@param fn fun(...): ...
---@param ... any   its arguments
---@return perigee.task
function M.spawn(fn, ...)
  return loop.spawn(fn, ...)
end

---Let the others run for so long.
---@param seconds number
---@async
function M.sleep(seconds)
  loop.sleep(seconds)
end

---Wait for several tasks.  When one fails, the others are cancelled.
---@param tasks perigee.task[]
---@return any[]? results       the first result of each, in their order
---@return perigee.error? err   of the first one, in their order, that failed
---@async
function M.all(tasks)
  if type(tasks) ~= "table" then loop.blame("all: found " .. type(tasks) .. ", expected a list") end
  for i, task in ipairs(tasks) do
    if not loop.is_task(task) then
      loop.blame(("all: entry %d is a %s, expected a task"):format(i, type(task)))
    end
  end
  local results = { n = #tasks }
  for i, task in ipairs(tasks) do
    local result, err = task:wait()
    if task:status() ~= "done" then
      for _, other in ipairs(tasks) do other:cancel() end
      return nil, err
    end
    results[i] = result
  end
  return results
end

local LAZY <const> = {
  chat = "perigee.chat", assistant = "perigee.assistant", tool = "perigee.tool",
  fake = "perigee.fake", grammar = "perigee.grammar", backtrack = "perigee.policy.backtrack",
}

return setmetatable(M, {
  __index = function(_, key)
    return LAZY[key] and require(LAZY[key])
  end,
})
