-- SPDX-License-Identifier: MIT
-- Tokens to a tree.  Every node is a table with `kind` and `at` (byte of the source):
--   text { text }, action { pipe }, if/with/range { pipe, list, other }, break, continue,
--   template { name, pipe }; a list is an array of these.
--   pipe { names, assigns, cmds }; a cmd is an array of operands: dot, nil, bool/number/string
--   { value }, field { names }, var { name, names }, func { name }, chain { node, names }, pipe.
local S = require "perigee.jinja.state"

local P = {}
P.__index = P
local M = {}
local MAX_DEPTH <const> = 150

-- How a token is called in an error.
local function describe(self, i)
  local type, value = self.t.type[i], self.t.value[i]
  if type == "eof" then
    return "the end of the template"
  elseif type == "text" then
    return "text"
  elseif type == "right" then
    return "}}"
  elseif type == "string" then
    return "a text"
  elseif type == "space" then
    return "a blank"
  elseif type == "field" then
    return "'." .. value .. "'"
  end
  return "'" .. tostring(value) .. "'"
end

function P:fail(expected, i)
  i = i or self.i
  S.fail(("found %s, expected %s"):format(describe(self, i), expected), self.t.at[i])
end

-- The next token that is no blank, without taking it.
function P:peek()
  local i = self.i
  if self.t.type[i] == "space" then
    i = i + 1
    self.i = i
  end
  return self.t.type[i]
end

function P:take(type, expected)
  if self:peek() ~= type then
    self:fail(expected)
  end
  local i = self.i
  self.i = i + 1
  return self.t.value[i], self.t.at[i]
end

function P:node(kind)
  S.charge(1)
  S.alloc(120)
  return { kind = kind, at = self.t.at[self.i] }
end

function P:nested(f, ...)
  self.depth = self.depth + 1
  if self.depth > MAX_DEPTH then
    S.fail(("found more than %d levels of nesting, expected a simpler template"):format(MAX_DEPTH),
      self.t.at[self.i], "budget")
  end
  local a, b = f(self, ...)
  self.depth = self.depth - 1
  return a, b
end

------------------------------------------------------------ operands

-- The variables that may be used: a stack, and how often each name is on it.
local function new_scope()
  return { names = { "$" }, count = { ["$"] = 1 } }
end

local function declare(scope, name)
  scope.names[#scope.names + 1] = name
  scope.count[name] = (scope.count[name] or 0) + 1
end

-- Forget all but the first n.
local function forget(scope, n)
  for i = #scope.names, n + 1, -1 do
    local name = scope.names[i]
    scope.count[name] = scope.count[name] - 1
    scope.names[i] = nil
  end
end

local TERM <const> = {}
for word in ("dot nil bool number string field var ident ("):gmatch("%S+") do
  TERM[word] = true
end

function P:term()
  local type, value = self:peek(), self.t.value[self.i]
  local node = self:node(type)
  if type == "ident" then
    if not self.funcs[value] then
      S.fail(("found the function '%s', expected one of %s"):format(value, self.func_names),
        node.at)
    end
    node.kind, node.name = "func", value
  elseif type == "field" then
    node.names = { value }
  elseif type == "var" then
    if (self.scope.count[value] or 0) == 0 then
      S.fail(("found the variable %s, expected one that was declared before"):format(value),
        node.at)
    end
    node.name, node.names = value, {}
  elseif type == "(" then
    self.i = self.i + 1
    return self:nested(P.pipeline, "parenthesized pipeline", ")")
  else
    node.value = value
  end
  self.i = self.i + 1
  return node
end

local CHAINS <const> = { field = true, var = true, pipe = true, func = true }

function P:operand()
  local node = self:term()
  local types = self.t.type
  if types[self.i] ~= "field" then
    return node
  elseif not CHAINS[node.kind] then
    self:fail("a blank after a value that has no fields")
  elseif not node.names or node.kind == "pipe" then
    node = { kind = "chain", at = node.at, node = node, names = {} }
  end
  while types[self.i] == "field" do
    node.names[#node.names + 1] = self.t.value[self.i]
    self.i = self.i + 1
  end
  return node
end

function P:command()
  local cmd = { at = self.t.at[self.i] }
  while true do
    if TERM[self:peek()] then
      cmd[#cmd + 1] = self:operand()
    end
    local type = self.t.type[self.i]
    if type == "space" then
      self.i = self.i + 1
    elseif type == "|" then
      self.i = self.i + 1
      break
    elseif type == "right" or type == ")" then
      break
    else
      self:fail("an operand, | or the end of the pipeline")
    end
  end
  if #cmd == 0 then
    self:fail("a command")
  end
  return cmd
end

------------------------------------------------------------ pipelines

-- "$x :=", "$x =", "$i, $x :=" at the start of a pipeline.
function P:declarations(pipe, context)
  while self:peek() == "var" do
    local i = self.i
    local name = self.t.value[i]
    self.i = i + 1
    local type = self:peek()
    if type ~= ":=" and type ~= "=" and type ~= "," then
      self.i = i
      return
    end
    self.i = self.i + 1
    pipe.names[#pipe.names + 1] = name
    declare(self.scope, name)
    if type ~= "," then
      pipe.assigns = type == "="
      return
    elseif context ~= "range" or #pipe.names > 1 then
      S.fail(("found a ',' after %s, expected one variable (two only in range)"):format(name),
        self.t.at[i])
    end
    local following = self:peek()
    if following ~= "var" and following ~= "right" and following ~= ")" then
      self:fail("a second variable of range")
    end
  end
end

local PASSIVE <const> = { bool = true, dot = true, ["nil"] = true, number = true, string = true }

function P:pipeline(context, close)
  local pipe = self:node("pipe")
  pipe.names, pipe.cmds = {}, {}
  self:declarations(pipe, context)
  while self:peek() ~= close do
    if not TERM[self.t.type[self.i]] then
      self:fail(("a value in %s"):format(context))
    end
    pipe.cmds[#pipe.cmds + 1] = self:command()
  end
  if #pipe.cmds == 0 then
    self:fail(("a value for %s"):format(context))
  end
  for i = 2, #pipe.cmds do
    local first = pipe.cmds[i][1]
    if PASSIVE[first.kind] then
      S.fail(("found a value as stage %d of a pipeline, expected a function or a field"):format(i),
        first.at)
    end
  end
  self.i = self.i + 1
  return pipe
end

------------------------------------------------------------ actions

function P:control(kind)
  local node = { kind = kind, at = self.t.at[self.i - 1] }
  local n_vars = #self.scope.names
  node.pipe = self:pipeline(kind, "right")
  self.ranges = self.ranges + (kind == "range" and 1 or 0)
  local ended
  node.list, ended = self:nested(P.list)
  self.ranges = self.ranges - (kind == "range" and 1 or 0)
  if ended == "else" then
    local following = self:peek()
    if following == kind and kind ~= "range" then
      self.i = self.i + 1
      node.other = { self:nested(P.control, kind) }
    else
      self:take("right", "}} after else")
      node.other, ended = self:nested(P.list)
      if ended ~= "end" then
        self:fail("{{end}} after the part of {{else}}", self.i - 1)
      end
      self:take("right", "}} after end")
    end
  else
    self:take("right", "}} after end")
  end
  forget(self.scope, n_vars)
  return node
end

function P:jump(kind)
  local node = { kind = kind, at = self.t.at[self.i - 1] }
  if self.ranges == 0 then
    S.fail(("found {{%s}}, expected it inside {{range}} only"):format(kind), node.at)
  end
  self:take("right", "}} after " .. kind)
  return node
end

local function is_blank(list)
  for _, node in ipairs(list) do
    if node.kind ~= "text" or node.text:find("%S") then
      return false
    end
  end
  return true
end

-- The body of a definition: its own variables, its own loops.
function P:define(name, at)
  local scope, ranges = self.scope, self.ranges
  self.scope, self.ranges = new_scope(), 0
  local list, ended = self:nested(P.list)
  if ended ~= "end" then
    self:fail(("{{end}} for the template %q"):format(name), self.i - 1)
  end
  self:take("right", "}} after end")
  self.scope, self.ranges = scope, ranges
  local old = self.defined[name]
  if old and not is_blank(old) and not is_blank(list) then
    S.fail(("found a second definition of the template %q, expected one"):format(name), at)
  elseif not old or is_blank(old) then
    self.defined[name] = list
  end
end

function P:template()
  local node = { kind = "template", at = self.t.at[self.i - 1] }
  node.name = self:take("string", "the name of a template, a quoted text")
  if self:peek() == "right" then
    self.i = self.i + 1
  else
    node.pipe = self:pipeline("template clause", "right")
  end
  return node
end

function P:block()
  local node = { kind = "template", at = self.t.at[self.i - 1] }
  node.name = self:take("string", "the name of a template, a quoted text")
  node.pipe = self:pipeline("block clause", "right")
  self:define(node.name, node.at)
  return node
end

local ACTIONS <const> = {
  ["if"] = P.control, with = P.control, range = P.control, ["break"] = P.jump,
  continue = P.jump, template = P.template, block = P.block,
}

-- Nodes up to {{end}}, {{else}} or the end; says which (the word is taken).
function P:list()
  local out = {}
  while true do
    local type = self.t.type[self.i]
    if type == "eof" then
      return out, "eof"
    elseif type == "text" then
      local node = self:node("text")
      node.text = self.t.value[self.i]
      self.i = self.i + 1
      out[#out + 1] = node
    else
      self.i = self.i + 1 -- {{
      type = self:peek()
      if type == "end" or type == "else" then
        self.i = self.i + 1
        return out, type
      elseif ACTIONS[type] then
        self.i = self.i + 1
        out[#out + 1] = ACTIONS[type](self, type)
      elseif type == "define" and self.depth == 0 then
        self.i = self.i + 1
        local name, at = self:take("string", "the name of a template, a quoted text")
        self:take("right", "}} after the name")
        self:define(name, at)
      else
        local node = self:node("action")
        node.pipe = self:pipeline("command", "right")
        out[#out + 1] = node
      end
    end
  end
end

--- The tree of a template.
---@param tokens perigee.gotemplate.tokens
---@param funcs table<string, any> functions that may be called
---@return table list, table<string, table> defined lists of the defined templates by name
function M.parse(tokens, funcs)
  local names = {}
  for name in pairs(funcs) do
    names[#names + 1] = name
  end
  table.sort(names)
  local self = setmetatable({ t = tokens, i = 1, funcs = funcs, scope = new_scope(), ranges = 0,
    depth = 0, defined = {}, func_names = table.concat(names, " ") }, P)
  local list, ended = self:list()
  if ended ~= "eof" then
    self:fail("no more of it than were opened", self.i - 1)
  end
  return list, self.defined
end

return M
