---@meta perigee.sys.loop
-- SPDX-License-Identifier: MIT
-- Tasks: functions that run beside each other and let each other run where they wait.

local loop = {}

---A function that runs beside the others.
---@class perigee.task
local task = {}

---Wait for the end.
---@return any ...   the function's results; nil and an error when it failed or was cancelled
---@async
function task:wait() end

---End it where it waits; its to-be-closed variables are closed.
function task:cancel() end

---How it stands with it.
---@return "running"|"done"|"failed"|"cancelled"
function task:status() end

---Run a function beside the others, from the next wait on.
---@param fn fun(...): ...
---@param ... any
---@return perigee.task
function loop.spawn(fn, ...) end

---Let the others run for so many seconds.
---@param seconds number
---@async
function loop.sleep(seconds) end

---@param value any
---@return boolean
function loop.is_task(value) end

---Raise a mistake of the script, with file and line of its innermost function.
---@param text string
function loop.blame(text) end

return loop
