-- SPDX-License-Identifier: MIT
-- The parser's view of the tokens; expr.lua and parser.lua add how expressions and statements are
-- read.
local S = require "perigee.jinja.state"

local MAX_NESTED <const> = 200 -- brackets, not, minus

---@class perigee.jinja.parser
---@field tokens perigee.jinja.tokens
---@field i integer index of the current token
---@field nested integer
local P = {}
P.__index = P

---@param tokens perigee.jinja.tokens
---@return perigee.jinja.parser
function P.new(tokens)
  return setmetatable({ tokens = tokens, i = 1, nested = 0, tags = {} }, P)
end

function P:type()
  return self.tokens.type[self.i]
end

function P:value()
  return self.tokens.value[self.i]
end

function P:at()
  return self.tokens.at[self.i]
end

--- The current token as error texts call it.
function P:found()
  local type, value = self:type(), self:value()
  if type == "eof" then
    return "the end of the template"
  elseif type == "data" then
    return "text"
  elseif type == "name" then
    return "'" .. value .. "'"
  elseif type == "string" then
    return "a text"
  elseif type == "integer" or type == "float" then
    return "the number " .. tostring(value)
  end
  return "'" .. type .. "'"
end

--- Fail: the current token is not what is expected.
---@param expected string
function P:fail(expected)
  S.fail(("found %s, expected %s"):format(self:found(), expected), self:at())
end

--- Whether the current token is of this type; then go on.
function P:skip(type)
  if self:type() == type then
    self.i = self.i + 1
    return true
  end
  return false
end

function P:is_name(name)
  return self:type() == "name" and self:value() == name
end

function P:skip_name(name)
  if self:is_name(name) then
    self.i = self.i + 1
    return true
  end
  return false
end

--- The current token must be of this type; its value and place.
function P:expect(type, what)
  if self:type() ~= type then
    self:fail(what or (type == "name" and "a name" or "'" .. type .. "'"))
  end
  local i = self.i
  self.i = i + 1
  return self.tokens.value[i], self.tokens.at[i]
end

--- The token behind the current one.
function P:peek()
  return self.tokens.type[self.i + 1], self.tokens.value[self.i + 1]
end

function P:enter()
  self.nested = self.nested + 1
  if self.nested > MAX_NESTED then
    S.fail(("found more than %d levels of nesting, expected a simpler template"):format(MAX_NESTED),
      self:at())
  end
end

function P:leave()
  self.nested = self.nested - 1
end

return P
