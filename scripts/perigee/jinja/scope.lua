-- SPDX-License-Identifier: MIT
-- Where a name lives.  A frame is what a template, a macro call or a recursive loop has at run
-- time: a table of slots, slot 0 being the frame around it.  A scope is a part of the text with
-- names of its own; all that is assigned in it belongs to it from its start, and is looked up
-- outside until it is assigned.
local S = require "perigee.jinja.state"
local V = require "perigee.jinja.value"

local M = {}

---@class perigee.jinja.frame_info
---@field n integer slots handed out

---@class perigee.jinja.scope
---@field parent perigee.jinja.scope?
---@field frame perigee.jinja.frame_info
---@field slots table<string, integer>
---@field list integer[] the slots of the names assigned here
---@field used table<string, boolean> special names that are read
---@field begins_undefined table<string, boolean> names assigned before they are read, in any case:
---  until then they are undefined, even for a macro or loop inside, and even when render was given
--- such a variable
---@field read table<string, boolean> names read here before they are assigned
---@field asked table<string, boolean> names that may be looked up among render's variables; one
---  table for all scopes of a template

---@param parent perigee.jinja.scope?
---@param new_frame boolean?
---@return perigee.jinja.scope
function M.new(parent, new_frame)
  return { parent = parent, frame = (new_frame or not parent) and { n = 0 } or parent.frame,
    slots = {}, list = {},
    used = {}, begins_undefined = {}, read = {}, asked = parent and parent.asked or {} }
end

--- The slot of a name of this scope.
---@return integer
function M.declare(scope, name)
  local slot = scope.slots[name]
  if not slot then
    slot = scope.frame.n + 1
    scope.frame.n = slot
    scope.slots[name] = slot
    scope.list[#scope.list + 1] = slot
  end
  return slot
end

--- Declare the names of a target.
---@param scope perigee.jinja.scope
---@param target table
---@param when string? "always" or "perhaps": an assignment that is, or is not, made in any case
function M.declare_target(scope, target, when)
  if target.t == "tuple" then
    for _, item in ipairs(target.items) do
      M.declare_target(scope, item, when)
    end
  elseif target.t == "ns" then
    scope.read[target.name] = true
  else
    local name = target.name
    if when == "always" and not scope.slots[name] and not scope.read[name] then
      scope.begins_undefined[name] = true
    end
    M.declare(scope, name)
  end
end

-- Note the names an expression reads.
local function note_reads(scope, node)
  if node.t == "name" then
    scope.read[node.name] = true
  end
  for _, child in pairs(node) do
    if type(child) == "table" then
      note_reads(scope, child)
    end
  end
end

--- Declare all that the statements of a body assign in this scope, and note what they read before.
---@param scope perigee.jinja.scope
---@param body table[]?
---@param when string?
function M.declare_body(scope, body, when)
  when = when or "always"
  for _, s in ipairs(body or {}) do
    for _, part in ipairs { s.value or {}, s.iter or {}, s.call or {}, s.items or {}, s.values
      or {}, s.tests or {},
      s.t == "filterblock" and s.filter or {} } do
      note_reads(scope, part)
    end
    if s.t == "set" or s.t == "setblock" then
      M.declare_target(scope, s.target, when)
    elseif s.t == "macro" then
      M.declare_target(scope, s, when)
    elseif s.t == "if" then
      for _, inner in ipairs(s.bodies) do
        M.declare_body(scope, inner, "perhaps")
      end
      M.declare_body(scope, s.other, "perhaps")
    end
  end
end

--- All places a name may be found at, innermost first: frames up and slot.
---@return { up: integer, slot: integer }[] -- .ends: render's variables do not count
function M.resolve(scope, name)
  local found, up = {}, 0
  while scope do
    local slot = scope.slots[name]
    if slot then
      found[#found + 1] = { up = up, slot = slot }
      found.ends = scope.begins_undefined[name]
      scope.used[name] = true
    end
    local parent = scope.parent
    if parent and parent.frame ~= scope.frame then
      up = up + 1
    end
    scope = parent
  end
  return found
end

local function missing(name)
  return V.undefined(("'%s' is undefined"):format(name))
end

local function load_first(places, name)
  local n = #places
  return function(frame)
    local up = 0
    for i = 1, n do
      local place = places[i]
      while up < place.up do
        frame, up = frame[0], up + 1
      end
      local v = frame[place.slot]
      if v ~= nil then
        return v
      end
    end
    return places.ends and missing(name) or S.ctx[name]
  end
end

--- A function of the frame that gives the value of a name.
---@param scope perigee.jinja.scope
---@param name string
function M.loader(scope, name)
  local places = M.resolve(scope, name)
  if not places.ends then
    scope.asked[name] = true
  end
  local first = places[1]
  if not first then
    return function()
      return S.ctx[name]
    end
  elseif #places > 1 or first.up > 1 or places.ends then
    return load_first(places, name)
  end
  local slot = first.slot
  if first.up == 1 then
    return function(frame)
      local v = frame[0][slot]
      if v ~= nil then
        return v
      end
      return S.ctx[name]
    end
  end
  return function(frame)
    local v = frame[slot]
    if v ~= nil then
      return v
    end
    return S.ctx[name]
  end
end

return M
