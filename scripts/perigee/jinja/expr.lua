-- SPDX-License-Identifier: MIT
-- Parser of expressions.  A node is a table { t = type, at = byte, d = depth, w = number of nodes,
-- ... }.
local S = require "perigee.jinja.state"
local P = require "perigee.jinja.stream"

local MAX_DEPTH <const> = 600 -- of a tree, long chains of operators included

------------------------------------------------------------ nodes

-- A node with these children (false where one is left out).
local function node(t, at, fields, ...)
  local depth, weight = 0, 1
  for i = 1, select("#", ...) do
    local child = select(i, ...)
    if child then
      depth = child.d > depth and child.d or depth
      weight = weight + child.w
    end
  end
  if depth >= MAX_DEPTH then
    S.fail(("found an expression of more than %d levels, expected a shorter one"):format(MAX_DEPTH),
      at)
  end
  fields.t, fields.at, fields.d, fields.w = t, at, depth + 1, weight
  return fields
end

-- A node with a list of children, which may be long.
local function list_node(t, at, fields, list)
  local depth, weight = 0, 1
  for i = 1, #list do
    depth = list[i].d > depth and list[i].d or depth
    weight = weight + list[i].w
  end
  return node(t, at, fields, { d = depth, w = weight })
end

local CONSTANTS <const> = { ["true"] = true, ["True"] = true, ["false"] = false, ["False"] = false }

local function name_node(name, at)
  if CONSTANTS[name] ~= nil then
    return node("const", at, { value = CONSTANTS[name] })
  elseif name == "none" or name == "None" then
    return node("none", at, {})
  end
  return node("name", at, { name = name })
end

function P:list()
  local at = self:at()
  local items = {}
  self:expect("[")
  while self:type() ~= "]" do
    items[#items + 1] = self:expression()
    if not self:skip(",") and self:type() ~= "]" then
      self:fail("',' or ']'")
    end
  end
  self.i = self.i + 1
  return list_node("list", at, { items = items }, items)
end

function P:dict()
  local at = self:at()
  local keys, values, all = {}, {}, {}
  self:expect("{")
  while self:type() ~= "}" do
    local n = #keys + 1
    keys[n] = self:expression()
    self:expect(":")
    values[n] = self:expression()
    all[2 * n - 1], all[2 * n] = keys[n], values[n]
    if not self:skip(",") and self:type() ~= "}" then
      self:fail("',' or '}'")
    end
  end
  self.i = self.i + 1
  return list_node("dict", at, { keys = keys, values = values }, all)
end

function P:strings()
  local value, at = self:expect("string")
  local parts = { value }
  while self:type() == "string" do
    parts[#parts + 1] = self:value()
    self.i = self.i + 1
  end
  return node("const", at, { value = table.concat(parts) })
end

function P:primary()
  local type, at = self:type(), self:at()
  if type == "name" then
    return name_node(self:expect("name"), at)
  elseif type == "string" then
    return self:strings()
  elseif type == "integer" or type == "float" then
    local value = self:expect(type)
    if _G.type(value) == "string" then
      return node("big", at, { digits = value })
    end
    return node("const", at, { value = value })
  elseif type == "(" then
    self.i = self.i + 1
    self:enter()
    local inner = self:tuple { parenthesised = true }
    self:leave()
    self:expect(")")
    return inner
  elseif type == "[" or type == "{" then
    self:enter()
    local inner = type == "[" and self:list() or self:dict()
    self:leave()
    return inner
  end
  self:fail("an expression")
end

------------------------------------------------------------ postfix

function P:slice_part()
  local type = self:type()
  if type == ":" or type == "]" or type == "," then
    return false
  end
  return self:expression()
end

-- The part between brackets: a node, or the bounds of a slice.
function P:subscript(object, at)
  local from = self:slice_part()
  if self:skip(":") then
    local to = self:slice_part()
    local step = self:skip(":") and self:slice_part()
    self:expect("]")
    return node("slice", at, { object = object, from = from, to = to, step = step }, object, from,
      to, step)
  elseif not from then
    self:fail("an index or a slice")
  end
  if self:type() == "," then
    local items = { from }
    while self:skip(",") do
      items[#items + 1] = self:expression()
    end
    from = list_node("tuple", at, { items = items }, items)
  end
  self:expect("]")
  return node("item", at, { object = object, key = from }, object, from)
end

-- Arguments in parentheses: { list..., names = {...}, values = {...}, star =, star_star = }.
function P:arguments()
  local args = { names = {}, values = {} }
  self:expect("(")
  self:enter()
  while self:type() ~= ")" do
    if self:type() == "*" and not (args.star or args.star_star) then
      self.i = self.i + 1
      args.star = self:expression()
    elseif self:type() == "**" and not args.star_star then
      self.i = self.i + 1
      args.star_star = self:expression()
    elseif self:type() == "name" and self:peek() == "=" and not args.star_star then
      local n = #args.names + 1
      args.names[n] = self:expect("name")
      self.i = self.i + 1
      args.values[n] = self:expression()
    elseif args.star or args.star_star or #args.names > 0 then
      self:fail("no further argument without a name")
    else
      args[#args + 1] = self:expression()
    end
    if not self:skip(",") and self:type() ~= ")" then
      self:fail("',' or ')'")
    end
  end
  self:leave()
  self.i = self.i + 1
  return args
end

-- A node that takes arguments.
local function with_arguments(t, at, fields, object, args)
  local all = { object or nil }
  for _, list in ipairs { args, args.values, { args.star or args.star_star, args.star
    and args.star_star } } do
    for i = 1, #list do
      all[#all + 1] = list[i]
    end
  end
  fields.args = args
  return list_node(t, at, fields, all)
end

function P:dot(object, at)
  self.i = self.i + 1
  if self:type() == "integer" then
    local value, value_at = self:expect("integer")
    return node("item", at, { object = object, key = node("const", value_at, { value = value }) },
      object)
  end
  local name = self:expect("name", "the name of an attribute or a number")
  return node("attr", at, { object = object, name = name }, object)
end

function P:postfix(object)
  while true do
    local type, at = self:type(), self:at()
    if type == "." then
      object = self:dot(object, at)
    elseif type == "[" then
      self.i = self.i + 1
      self:enter()
      object = self:subscript(object, at)
      self:leave()
    elseif type == "(" then
      object = with_arguments("call", at, { f = object }, object, self:arguments())
    else
      return object
    end
  end
end

function P:dotted_name(what)
  local name, at = self:expect("name", what)
  while self:skip(".") do
    name = name .. "." .. self:expect("name", what)
  end
  return name, at
end

--- Filters applied to object (false: the body of a block); inline: the first | is left out.
function P:filters(object, inline)
  while inline or self:type() == "|" do
    self.i = self.i + (inline and 0 or 1)
    local name, at = self:dotted_name("the name of a filter")
    local args = self:type() == "(" and self:arguments() or { names = {}, values = {} }
    object = with_arguments("filter", at, { object = object, name = name }, object, args)
    inline = false
  end
  return object
end

local ARGUMENT <const> = { name = true, string = true, integer = true, float = true, ["["] = true,
  ["{"] = true }
local NO_ARGUMENT <const> = { ["else"] = true, ["or"] = true, ["and"] = true }

function P:test(object)
  self.i = self.i + 1
  local negated = self:skip_name("not")
  local name, at = self:dotted_name("the name of a test")
  local args = { names = {}, values = {} }
  if self:type() == "(" then
    args = self:arguments()
  elseif ARGUMENT[self:type()] and not (self:type() == "name" and NO_ARGUMENT[self:value()]) then
    if self:is_name("is") then
      self:fail("one test only (tests cannot be chained)")
    end
    args[1] = self:postfix(self:primary())
  end
  local out = with_arguments("test", at, { object = object, name = name }, object, args)
  return negated and node("not", at, { a = out }, out) or out
end

function P:filter_expression(object)
  while true do
    local type = self:type()
    if type == "|" then
      object = self:filters(object)
    elseif type == "name" and self:value() == "is" then
      object = self:test(object)
    elseif type == "(" then
      local at = self:at()
      object = with_arguments("call", at, { f = object }, object, self:arguments())
    else
      return object
    end
  end
end

------------------------------------------------------------ operators

function P:unary(no_filter)
  local type, at = self:type(), self:at()
  local object
  if type == "-" or type == "+" then
    self.i = self.i + 1
    self:enter()
    object = self:unary(true)
    self:leave()
    object = node(type == "-" and "neg" or "pos", at, { a = object }, object)
  else
    object = self:primary()
  end
  object = self:postfix(object)
  return no_filter and object or self:filter_expression(object)
end

-- A level of operators that group to the left.
local function binary(operators, below)
  return function(self)
    local left = below(self)
    while operators[self:type()] do
      local op, at = self:type(), self:at()
      self.i = self.i + 1
      local right = below(self)
      left = node("binary", at, { op = op, a = left, b = right }, left, right)
    end
    return left
  end
end

local power = binary({ ["**"] = true }, P.unary)
local product = binary({ ["*"] = true, ["/"] = true, ["//"] = true, ["%"] = true }, function(self)
  return power(self)
end)

local function concat(self)
  local first = product(self)
  if self:type() ~= "~" then
    return first
  end
  local at, items = self:at(), { first }
  while self:skip("~") do
    items[#items + 1] = product(self)
  end
  return list_node("concat", at, { items = items }, items)
end

local sum = binary({ ["+"] = true, ["-"] = true }, concat)
local COMPARE <const> = { ["=="] = true, ["!="] = true, ["<"] = true, ["<="] = true, [">"] = true,
  [">="] = true }

function P:comparison()
  local first, at = sum(self), self:at()
  local all, operators = { first }, {}
  while true do
    local op = self:type()
    if op == "name" then
      op = self:value()
      local _, following = self:peek()
      if op == "not" and following == "in" then
        op = "not in"
        self.i = self.i + 1
      elseif op ~= "in" then
        break
      end
    elseif not COMPARE[op] then
      break
    end
    self.i = self.i + 1
    operators[#operators + 1] = op
    all[#all + 1] = sum(self)
  end
  return #operators == 0 and first or list_node("compare", at, { items = all,
    operators = operators }, all)
end

function P:negation()
  if self:is_name("not") then
    local at = self:at()
    self.i = self.i + 1
    self:enter()
    local inner = self:negation()
    self:leave()
    return node("not", at, { a = inner }, inner)
  end
  return self:comparison()
end

local function logical(word, below)
  return function(self)
    local left = below(self)
    while self:is_name(word) do
      local at = self:at()
      self.i = self.i + 1
      local right = below(self)
      left = node(word, at, { a = left, b = right }, left, right)
    end
    return left
  end
end

local conjunction = logical("and", P.negation)
P.disjunction = logical("or", conjunction)

--- An expression; no_condition: without `a if b else c`.
function P:expression(no_condition)
  local value = self:disjunction()
  while not no_condition and self:is_name("if") do
    local at = self:at()
    self.i = self.i + 1
    local test = self:disjunction()
    local other = false
    if self:skip_name("else") then
      self:enter()
      other = self:expression()
      self:leave()
    end
    value = node("cond", at, { test = test, a = value, b = other }, test, value, other)
  end
  return value
end

---@class perigee.jinja.tuple_options
---@field parenthesised boolean? () is an empty tuple
---@field no_condition boolean?
---@field stop string? a name that ends the tuple
---@field targets boolean? only what can be assigned to

function P:ends_tuple(options)
  local type = self:type()
  return type == "}}" or type == "%}" or type == ")" or options.stop ~= nil
    and self:is_name(options.stop)
end

--- Expressions between commas: one of them as itself, more as a tuple.
---@param options perigee.jinja.tuple_options
function P:tuple(options)
  local at, items, is_tuple = self:at(), {}, false
  while not self:ends_tuple(options) do
    items[#items + 1] = options.targets and self:target_item()
      or self:expression(options.no_condition)
    if not self:skip(",") then
      break
    end
    is_tuple = true
  end
  if not is_tuple then
    if items[1] then
      return items[1]
    elseif not options.parenthesised then
      self:fail("an expression")
    end
  end
  return list_node("tuple", at, { items = items }, items)
end

return P
