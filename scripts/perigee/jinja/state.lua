-- SPDX-License-Identifier: MIT
-- The state of the render in progress: its budget, the place that is being evaluated, and how
-- errors leave. One render runs at a time per Lua state; render() saves and restores these fields,
-- so it may nest.

---@class perigee.jinja.state
---@field steps integer steps left
---@field bytes_left integer bytes of text and of values that may still be made
---@field output_left integer bytes of output left
---@field depth integer macro calls and recursive loops now open
---@field captured integer outputs now kept back for a variable, a macro or a filter
---@field at integer byte offset in the source of what is being evaluated
local S = {
  steps = 0, bytes_left = 0, output_left = 0, depth = 0, at = 1,
  limit = {}, ctx = {}, out = nil, n_out = 0, now = nil, captured = 0,
}

local Fault = { __name = "perigee.jinja.fault" }

--- Defaults: a second of patience is far away; all of it is used up in less than 250 ms and 64 MB.
---@class perigee.jinja.budget
---@field steps integer evaluated nodes, list elements, and one for every 256 bytes of text made
---@field output integer bytes of output
---@field string integer bytes of one string
---@field memory integer bytes of text and values made while rendering, whether still in use or not
---@field depth integer nested macro calls
S.defaults = { steps = 1000000, output = 8 << 20, string = 8 << 20, memory = 60 << 20, depth = 200 }

--- Raise an error at the place being evaluated (or at byte offset `at`); code is "template" or
--- "budget".
---@param text string
---@param at integer?
---@param code string?
function S.fail(text, at, code)
  error(setmetatable({ text = text, at = at or S.at, code = code or "template" }, Fault), 0)
end

--- Whether e was raised by fail.
---@param e any
---@return boolean
function S.is_fault(e)
  return type(e) == "table" and getmetatable(e) == Fault
end

local function over(what, found, limit)
  S.fail(("%s: found %s, at most %d"):format(what, found, limit), nil, "budget")
end

local function out_of_steps()
  over("template does too much work", "more steps than the budget", S.limit.steps)
end

--- Use up n steps.
---@param n integer
function S.charge(n)
  local left = S.steps - n
  S.steps = left
  if left < 0 then
    out_of_steps()
  end
end

--- Account for n bytes about to be made; n is checked against the limit of one string first.
---@param n integer
function S.alloc(n)
  if n > S.limit.string then
    over("text or list too large", ("%.0f bytes"):format(n), S.limit.string)
  end
  local bytes = S.bytes_left - n
  S.bytes_left = bytes
  local left = S.steps - (n >> 8)
  S.steps = left
  if left < 0 then
    out_of_steps()
  end
  if bytes < 0 then
    over("template uses too much memory", "more bytes made", S.limit.memory)
  end
end

--- Account for n bytes of output.
---@param n integer
function S.output(n)
  local left = S.output_left - n
  S.output_left = left
  if left < 0 then
    over("output too large", "more bytes", S.limit.output)
  end
end

--- One more macro call or recursive loop is open.
function S.enter()
  S.depth = S.depth + 1
  if S.depth > S.limit.depth then
    over("macros nested too deep", ("%d calls"):format(S.depth), S.limit.depth)
  end
end

--- Fields a render replaces; begin returns the old values for restore.
local FIELDS <const> = {
  "steps", "bytes_left", "output_left", "depth", "at", "limit", "ctx", "out",
  "n_out", "now", "captured",
}

--- Begin a render with these limits; returns what finish needs.
---@param limit perigee.jinja.budget
---@return table saved
function S.begin(limit)
  local saved = {}
  for _, name in ipairs(FIELDS) do
    saved[name] = S[name]
  end
  S.limit, S.steps, S.output_left = limit, limit.steps, limit.output
  S.bytes_left, S.depth, S.at = limit.memory, 0, 1
  S.out, S.n_out, S.captured = {}, 0, 0
  return saved
end

---@param saved table
function S.finish(saved)
  for _, name in ipairs(FIELDS) do
    S[name] = saved[name]
  end
end

return S
