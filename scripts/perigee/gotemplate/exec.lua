-- SPDX-License-Identifier: MIT
-- Runs the tree of a template: pipelines, variables, control structures.  Variables are found by
-- name at run time, the last declared first, as Go does.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.gotemplate.value"
local builtins = require "perigee.gotemplate.builtins"
local format = require "perigee.gotemplate.format"

local M = {}
local NIL <const>, NONE <const> = V.NIL, V.NONE
local FUNCTIONS <const> = builtins.functions
local MISSING <const> = {} -- there is no argument from the pipeline

---@class perigee.gotemplate.run
---@field defined table<string, table> lists of the defined templates
---@field names string[] variables, the last declared last
---@field values any[]
---@field n integer

local function emit(v)
  if v ~= "" then
    S.output(#T.raw(v))
    S.alloc(16)
    local n = S.n_out + 1
    S.n_out, S.out[n] = n, v
  end
end

local function push(run, name, value)
  S.alloc(32)
  local n = run.n + 1
  run.n, run.names[n], run.values[n] = n, name, value
end

local function variable_at(run, name)
  for i = run.n, 1, -1 do
    if run.names[i] == name then
      S.charge(run.n - i >> 2)
      return i
    end
  end
  S.fail(("found the variable %s, expected one that was declared in this part"):format(name))
end

------------------------------------------------------------ operands

local pipeline, func_value

local function no_arguments(args, final, what)
  if args and #args > 1 or final ~= MISSING then
    S.fail(("found arguments for %s, expected them for a function only"):format(what))
  end
end

-- Field `name` of a value.
local function field(v, name, args, final)
  if v == NONE then
    return NONE
  elseif v == NIL then
    S.fail(("found nil, expected a value that has the field '%s'"):format(name))
  end
  local found = V.field(v, name)
  if found == nil then
    S.fail(("found %s, expected a value that has the field '%s'"):format(V.type_name(v), name))
  end
  no_arguments(args, final, "the field '" .. name .. "'")
  return found
end

local function fields(v, names, args, final)
  local n = #names
  for i = 1, n do
    S.charge(1)
    if i == n then
      v = field(v, names[i], args, final)
    else
      v = field(v, names[i], nil, MISSING)
    end
  end
  return v
end

local VALUE
VALUE = {
  field = function(_, dot, node, args, final)
    return fields(dot, node.names, args, final)
  end,
  var = function(run, _, node, args, final)
    local v = run.values[variable_at(run, node.name)]
    if #node.names == 0 then
      no_arguments(args, final, node.name)
      return v
    end
    return fields(v, node.names, args, final)
  end,
  chain = function(run, dot, node, args, final)
    local v = VALUE[node.node.kind](run, dot, node.node, nil, MISSING)
    return fields(v == NIL and NONE or v, node.names, args, final)
  end,
  func = function(run, dot, node, args, final)
    return func_value(run, dot, node, args, final)
  end,
  pipe = function(run, dot, node, args, final)
    no_arguments(args, final, "a pipeline")
    return pipeline(run, dot, node)
  end,
  dot = function(_, dot, _, args, final)
    no_arguments(args, final, ".")
    return dot
  end,
  ["nil"] = function(_, _, _, args, final)
    no_arguments(args, final, "nil")
    S.fail("found nil as a command, expected a value")
  end,
}
for _, kind in ipairs { "bool", "number", "string" } do
  VALUE[kind] = function(_, _, node, args, final)
    no_arguments(args, final, "a constant")
    return node.value
  end
end

------------------------------------------------------------ functions

-- v as a parameter of this kind takes it.
local function accept(v, kind, name)
  if kind == "any" then
    return v == NONE and NIL or v
  elseif kind == "string" and not T.is(v) then
    S.fail(("%s: found %s, expected text"):format(name,
      V.is_nothing(v) and "nil" or V.type_name(v)))
  end
  return v
end

local function argument(run, dot, node, kind, name)
  S.at = node.at
  S.charge(1)
  if node.kind == "nil" then
    if kind == "string" then
      S.fail(("%s: found nil, expected text"):format(name))
    end
    return kind == "any" and NIL or NONE
  end
  return accept(VALUE[node.kind](run, dot, node, nil, MISSING), kind, name)
end

local function check_count(func, name, n)
  if n < func.fixed or not func.more and n > func.fixed then
    S.fail(("%s: found %d arguments, expected %s%d"):format(name, n,
      func.more and "at least " or "", func.fixed))
  end
end

-- "and", "or": the first argument that decides, or the last.
local function logic(run, dot, node, args, final)
  local v = NONE
  for i = 2, args and #args or 1 do
    v = argument(run, dot, args[i], "value", node.name)
    if V.truth(v) == (node.name == "or") then
      return v
    end
  end
  if final ~= MISSING then
    return final
  end
  return v
end

func_value = function(run, dot, node, args, final)
  local name = node.name
  local func = FUNCTIONS[name]
  local n = (args and #args or 1) - 1
  local total = final ~= MISSING and n + 1 or n
  check_count(func, name, total)
  if not func.f then
    return logic(run, dot, node, args, final)
  end
  local values = {}
  S.alloc(40 + 16 * total)
  for i = 1, n do
    values[i] = argument(run, dot, args[i + 1], func.kinds[i] or func.more, name)
  end
  if final ~= MISSING then
    values[total] = accept(final, func.kinds[total] or func.more, name)
  end
  S.at = node.at
  return func.f(values, total)
end

------------------------------------------------------------ pipelines

local function command(run, dot, cmd, final)
  local first = cmd[1]
  S.at = first.at
  S.charge(1)
  return VALUE[first.kind](run, dot, first, cmd, final)
end

-- The value of a pipeline; its variables are declared or set.
pipeline = function(run, dot, pipe)
  local v = MISSING
  for _, cmd in ipairs(pipe.cmds) do
    v = command(run, dot, cmd, v)
    v = v == NIL and NONE or v
  end
  for _, name in ipairs(pipe.names) do
    if pipe.assigns then
      S.at = pipe.at
      run.values[variable_at(run, name)] = v
    else
      push(run, name, v)
    end
  end
  return v
end

------------------------------------------------------------ statements

local walk

local function print(v)
  if v == NONE then
    emit("<no value>")
  elseif T.is(v) then
    emit(v)
  else
    emit(format.sprint({ v }, 1))
  end
end

-- The elements of what is ranged over: keys, values, number.
local function elements(v)
  local kind = V.kind(v)
  if kind == "slice" then
    return nil, v, v.n
  elseif kind == "map" then
    local values = {}
    S.alloc(16 * v.n)
    for i, k in ipairs(v.keys) do
      values[i] = v.map[T.raw(k)]
    end
    return v.keys, values, v.n
  elseif kind == "int" then
    return nil, nil, v > 0 and v or 0
  elseif kind == "nil" then
    return nil, nil, 0
  end
  S.fail(("found %s, expected a list, a map or an int to range over"):format(V.type_name(v)))
end

-- Give the variables of a range their values: index and element, or the element alone.
local function set_range_variables(run, pipe, mark, key, value)
  local n = #pipe.names
  for i, name in ipairs(pipe.names) do
    local v = key
    if i == n then
      v = value
    end
    if pipe.assigns then
      run.values[variable_at(run, name)] = v
    else
      run.values[mark - n + i] = v
    end
  end
end

local function range(run, dot, node)
  local v = pipeline(run, dot, node.pipe)
  S.at = node.at
  local keys, values, n = elements(v)
  local mark = run.n
  for i = 1, n do
    S.charge(1)
    local key, value = i - 1, i - 1
    if values then
      key, value = keys and keys[i] or key, values[i]
    end
    set_range_variables(run, node.pipe, mark, key, value)
    local jump = walk(run, value, node.list)
    run.n = mark
    if jump == "break" then
      break
    end
  end
  if n == 0 and node.other then
    return walk(run, dot, node.other)
  end
end

local function branch(run, dot, node)
  local v = pipeline(run, dot, node.pipe)
  if V.truth(v) then
    return walk(run, node.kind == "with" and v or dot, node.list)
  elseif node.other then
    return walk(run, dot, node.other)
  end
end

local function template(run, dot, node)
  local list = run.defined[node.name]
  if not list then
    S.at = node.at
    S.fail(("found the template %q, expected one that is defined"):format(node.name))
  end
  local v = NONE
  if node.pipe then
    v = pipeline(run, dot, node.pipe)
  end
  local inner = { defined = run.defined, names = { "$" }, values = { v }, n = 1 }
  S.alloc(200)
  S.enter()
  walk(inner, v, list)
  S.depth = S.depth - 1
end

local function scoped(f)
  return function(run, dot, node)
    local mark = run.n
    local jump = f(run, dot, node)
    run.n = mark
    return jump
  end
end

local STATEMENT <const> = {
  text = function(_, _, node) emit(node.text) end,
  action = function(run, dot, node)
    local v = pipeline(run, dot, node.pipe)
    if #node.pipe.names == 0 then
      print(v)
    end
  end,
  ["if"] = scoped(branch), with = scoped(branch), range = scoped(range), template = template,
  ["break"] = function() return "break" end,
  continue = function() return "continue" end,
}

-- Run a list; "break" or "continue" when one was met.
walk = function(run, dot, list)
  for _, node in ipairs(list) do
    S.charge(1)
    S.at = node.at
    local jump = STATEMENT[node.kind](run, dot, node)
    if jump then
      return jump
    end
  end
end

--- Run a tree over data; the output is in the state.
---@param list table
---@param defined table<string, table>
---@param data any
function M.run(list, defined, data)
  walk({ defined = defined, names = { "$" }, values = { data }, n = 1 }, data, list)
end

return M
