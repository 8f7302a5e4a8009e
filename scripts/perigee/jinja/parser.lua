-- SPDX-License-Identifier: MIT
-- Parser of statements: tokens to a tree.  Expressions are in expr.lua.
local S = require "perigee.jinja.state"
local P = require "perigee.jinja.expr"

local M = {}
local MAX_BLOCKS <const> = 100
local RESERVED <const> = { ["true"] = true, ["false"] = true, none = true, True = true,
  False = true, None = true }

------------------------------------------------------------ targets

-- A name, a name.attribute, or a tuple of these in parentheses.
function P:target_item()
  local at = self:at()
  if self:skip("(") then
    self:enter()
    local inner = self:tuple { targets = true, parenthesised = true }
    self:leave()
    self:expect(")")
    return inner
  end
  local name = self:expect("name", "a name to assign to")
  if RESERVED[name] then
    S.fail(("found '%s', expected a name that can be assigned to"):format(name), at)
  end
  if self.allow_attribute and self:skip(".") then
    return { t = "ns", name = name, attr = self:expect("name"), at = at, d = 1, w = 1 }
  end
  return { t = "name", name = name, at = at, d = 1, w = 1 }
end

local function target(self, stop, allow_attribute)
  self.allow_attribute = allow_attribute
  local out = self:tuple { targets = true, stop = stop }
  self.allow_attribute = false
  return out
end

------------------------------------------------------------ blocks

-- Statements up to a tag named in `ends` ("endif else"); the name of that tag, which is behind us.
local function block(self, tag, at, ends)
  self:expect("%}")
  self.tags[#self.tags + 1] = { tag = tag, at = at, ends = ends }
  if #self.tags > MAX_BLOCKS then
    S.fail(("found blocks nested more than %d deep, expected a simpler template"):format(
      MAX_BLOCKS), at)
  end
  local body = self:statements(ends)
  table.remove(self.tags)
  local found = self:expect("name")
  return body, found
end

local function signature(self)
  local params, defaults = {}, {}
  self:expect("(")
  while self:type() ~= ")" do
    local name, at = self:expect("name", "the name of a parameter")
    if RESERVED[name] then
      S.fail(("found '%s', expected the name of a parameter"):format(name), at)
    end
    params[#params + 1] = name
    if self:skip("=") then
      defaults[#params] = self:expression()
    elseif next(defaults) then
      S.fail(("found parameter '%s' without a default behind one with a default"):format(name), at)
    end
    if not self:skip(",") and self:type() ~= ")" then
      self:fail("',' or ')'")
    end
  end
  self.i = self.i + 1
  return params, defaults
end

local STATEMENTS <const> = {}

STATEMENTS["for"] = function(self, at)
  local s = { t = "for", at = at, w = 1 }
  s.target = target(self, "in")
  if not self:skip_name("in") then
    self:fail("'in'")
  end
  s.iter = self:tuple { no_condition = true, stop = "recursive" }
  if self:skip_name("if") then
    s.test = self:expression()
  end
  s.recursive = self:skip_name("recursive")
  local ended
  s.body, ended = block(self, "for", at, "endfor else")
  if ended == "else" then
    s.other = block(self, "for", at, "endfor")
  end
  s.w = 1 + s.iter.w
  return s
end

STATEMENTS["if"] = function(self, at)
  local s = { t = "if", at = at, w = 1, tests = {}, bodies = {} }
  local ended = "elif"
  while ended == "elif" do
    local n = #s.tests + 1
    s.tests[n] = self:tuple { no_condition = true }
    s.w = s.w + s.tests[n].w
    s.bodies[n], ended = block(self, "if", at, "endif elif else")
  end
  if ended == "else" then
    s.other = block(self, "if", at, "endif")
  end
  return s
end

STATEMENTS.set = function(self, at)
  local to = target(self, nil, true)
  if self:skip("=") then
    local value = self:tuple {}
    return { t = "set", at = at, target = to, value = value, w = 1 + value.w }
  end
  local filter = self:type() == "|" and self:filters(false) or nil
  return { t = "setblock", at = at, target = to, filter = filter, body = block(self, "set", at,
    "endset"),
    w = 1 + (filter and filter.w or 0) }
end

STATEMENTS.macro = function(self, at)
  local name = self:expect("name", "the name of the macro")
  local params, defaults = signature(self)
  return { t = "macro", at = at, name = name, params = params, defaults = defaults,
    body = block(self, "macro", at, "endmacro"), w = 1 }
end

STATEMENTS.call = function(self, at)
  local params, defaults = {}, {}
  if self:type() == "(" then
    params, defaults = signature(self)
  end
  local call = self:expression()
  if call.t ~= "call" then
    S.fail("found another expression, expected the call of a macro", call.at)
  end
  return { t = "callblock", at = at, params = params, defaults = defaults, call = call,
    body = block(self, "call", at, "endcall"), w = 1 + call.w }
end

STATEMENTS.filter = function(self, at)
  local filter = self:filters(false, true)
  return { t = "filterblock", at = at, filter = filter, body = block(self, "filter", at,
    "endfilter"),
    w = 1 + filter.w }
end

STATEMENTS.with = function(self, at)
  local s = { t = "with", at = at, targets = {}, values = {}, w = 1 }
  while self:type() ~= "%}" do
    local n = #s.targets + 1
    if n > 1 then
      self:expect(",")
    end
    s.targets[n] = self:target_item()
    self:expect("=")
    s.values[n] = self:expression()
    s.w = s.w + s.values[n].w
  end
  s.body = block(self, "with", at, "endwith")
  return s
end

STATEMENTS.generation = function(self, at)
  return { t = "generation", at = at, body = block(self, "generation", at, "endgeneration"), w = 1 }
end

STATEMENTS["break"] = function(_, at)
  return { t = "break", at = at, w = 1 }
end

STATEMENTS["continue"] = function(_, at)
  return { t = "continue", at = at, w = 1 }
end

STATEMENTS.print = function(self, at)
  local items, w = {}, 1
  while self:type() ~= "%}" do
    if #items > 0 then
      self:expect(",")
    end
    items[#items + 1] = self:expression()
    w = w + items[#items].w
  end
  return { t = "output", at = at, items = items, w = w }
end

------------------------------------------------------------ templates

local FORBIDDEN <const> = { include = true, import = true, extends = true, from = true,
  block = true,
  autoescape = true }

-- Fail at a tag that does not belong here.
local function unknown_tag(self, name, at)
  if FORBIDDEN[name] then
    S.fail(("found tag '%s', expected a tag of one template: other files cannot be used"):format(
      name), at)
  end
  local open = self.tags[#self.tags]
  if open then
    S.fail(("found tag '%s', expected %s of the tag '%s'"):format(name,
      "'" .. open.ends:gsub(" ", "' or '") .. "'", open.tag), at)
  end
  S.fail(("found tag '%s', expected a statement such as for, if, set or macro"):format(name), at)
end

local function ends_here(self, ends)
  if ends and self:type() == "name" then
    for name in ends:gmatch("%a+") do
      if name == self:value() then
        return true
      end
    end
  end
  return false
end

--- Statements up to a tag named in `ends`, or the end of the template.
---@param ends string?
function P:statements(ends)
  local body = {}
  while true do
    local type, at = self:type(), self:at()
    if type == "data" then
      body[#body + 1] = { t = "data", at = at, text = self:value(), w = 1 }
      self.i = self.i + 1
    elseif type == "{{" then
      self.i = self.i + 1
      local value = self:tuple {}
      body[#body + 1] = { t = "output", at = value.at, items = { value }, w = 1 + value.w }
      self:expect("}}", "'}}' or an operator")
    elseif type == "{%" then
      self.i = self.i + 1
      if ends_here(self, ends) then
        return body
      end
      local name = self:expect("name", "the name of a statement")
      body[#body + 1] = (STATEMENTS[name] or unknown_tag(self, name, at))(self, at)
      self:expect("%}", "'%}'")
    elseif ends then
      local open = self.tags[#self.tags]
      S.fail(("found the end of the template, expected '%s' of the tag '%s' opened here"):format(
        ends:gsub(" ", "' or '"), open.tag), open.at)
    else
      return body
    end
  end
end

--- The statements of a template.
---@param tokens perigee.jinja.tokens
function M.parse(tokens)
  return P.new(tokens):statements(nil)
end

return M
