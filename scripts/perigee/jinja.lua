-- SPDX-License-Identifier: MIT
-- Jinja for chat templates, as transformers runs them.  Parsed once, rendered every turn:
--   local t, err = jinja.parse(source, "llama3.jinja")
--   local segments, err = t:render({ messages = messages, add_generation_prompt = true })
-- Segments are { text =, input = }; strings marked with jinja.input stay marked through every
-- operator and filter. Templates are hostile code: no host objects, bounded steps, bytes and depth;
-- every error names its line and column.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.jinja.value"
local chars = require "perigee.jinja.chars"
local compile = require "perigee.jinja.compile"
local globals = require "perigee.jinja.globals"
local guard = require "perigee.jinja.guard"
local lexer = require "perigee.jinja.lexer"
local parser = require "perigee.jinja.parser"

local M = {}
local MAX_SOURCE <const> = 128 << 10

---@class perigee.jinja.Template
---@field name string
---@field source string
---@field reads table<string, boolean> names it may take from the variables it is given
---@field private run fun(frame: table)
local Template = {}
Template.__index = Template

--- Parse a template.  The name is for error texts.
---@param source string
---@param name string?
---@return perigee.jinja.Template?
---@return perigee.jinja.error? err
function M.parse(source, name)
  if type(source) ~= "string" then
    error(("found a %s as template, expected text"):format(type(source)), 2)
  end
  local self = setmetatable({ name = name or "template" }, Template)
  self.source = source:gsub("\r\n?", "\n"):gsub("\n$", "", 1)
  local limit = guard.limits(nil)
  limit.memory, limit.steps = 256 << 20, 100 * limit.steps
  local ok, err = guard.run(self, limit, function()
    if #source > MAX_SOURCE then
      S.fail(("found a template of %d bytes, at most %d"):format(#source, MAX_SOURCE), 1, "budget")
    end
    local _, bad = utf8.len(self.source)
    if bad then
      S.fail("found a byte that is not UTF-8, expected UTF-8 text", bad)
    end
    self.run, self.reads = compile.template(parser.parse(lexer.lex(self.source)))
    return true
  end)
  if not ok then
    return nil, err
  end
  return self
end

-- The variables a template sees: those given, converted when first named, then the globals.
local function context(vars)
  return setmetatable({}, { __index = function(ctx, name)
    local v = vars[name]
    if v ~= nil then
      v = V.from(v)
    else
      v = globals[name]
      if v == nil then
        v = V.undefined(("'%s' is undefined"):format(name))
      end
    end
    rawset(ctx, name, v)
    return v
  end })
end

---@class perigee.jinja.options
---@field budget perigee.jinja.budget? limits that differ from the defaults
---@field now number|table|function|nil the time for strftime_now: seconds since 1970 (UTC), a table
---  of year, month, day, hour, min and sec, or a function that gives one of these

--- Render the template.
---@param vars table<string, any> decoded JSON or plain tables; what jinja.input marked is input
---@param options perigee.jinja.options?
---@return { text: string, input: boolean }[]? segments
---@return perigee.jinja.error? err
function Template:render(vars, options)
  options = options or {}
  return guard.run(self, guard.limits(options.budget), function()
    S.ctx, S.now = context(vars or {}), options.now
    self.run({})
    return T.segments(T.concat(S.out, S.n_out))
  end)
end

--- Mark a string as coming from a message; of a table, all strings and keys inside (a copy is
--- returned).
---@param value any
---@return any
function M.input(value)
  if type(value) == "string" then
    return T.input(chars.valid(value))
  elseif type(value) ~= "table" then
    return value
  end
  local limit = guard.limits { steps = math.maxinteger, memory = 1 << 60, string = 1 << 40 }
  local marked, err = guard.run({ source = "", name = "input" }, limit, function()
    return V.from(value, 0, true)
  end)
  if not marked then
    error(err.message, 2)
  end
  return marked
end

--- The text of segments.
---@param segments { text: string, input: boolean }[]
---@return string
function M.text(segments)
  local parts = {}
  for i, segment in ipairs(segments) do
    parts[i] = segment.text
  end
  return table.concat(parts)
end

return M
