-- SPDX-License-Identifier: MIT
-- For every family of formats: a call is written as the family's table says, with its arguments in
-- every order, and read back as the same call - whole, byte by byte, and in two pieces (cut
-- everywhere in the first order, at every seventh place in the others).  What real templates write
-- is read back by format_templates.lua, where those are at hand.
local events = require "format_events"
local format = require "perigee.format"
local lu = require "luaunit"
local perigee = require "perigee"

local json = perigee.json
local T = {}

local TOOLS <const> = { look_up = assert(json.decode [[{"type": "object", "properties": {
  "count": {"type": "integer"}, "name": {"type": "string"}, "is_on": {"type": "boolean"},
  "list": {"type": "array", "items": {"type": "integer"}}}}]]) }
local VALUES <const> = { count = -17, name = "two words, a } and a )", is_on = true,
  list = json.array { 1, 2 } }
local NAMES <const> = { "count", "name", "is_on", "list" }

-- All orders of a list.
local function orders(list)
  if #list <= 1 then return { list } end
  local out = {}
  for i, first in ipairs(list) do
    local rest = table.move(list, 1, #list, 1, {})
    table.remove(rest, i)
    for _, order in ipairs(orders(rest)) do out[#out + 1] = { first, table.unpack(order) } end
  end
  return out
end

local function object_of(order)
  local pairs_of = {}
  for i, name in ipairs(order) do pairs_of[i] = { name, VALUES[name] } end
  return json.object(pairs_of)
end

------------------------------------------------------------ writers, by syntax

local WRITE = {}

function WRITE.json(call, order)
  local object = json.object { { "look_up", object_of(order) } }
  if not call.name_is_key then
    object = json.object { { call.name, "look_up" }, { call.arguments, object_of(order) } }
  end
  local text = json.encode(json.array { object })
  return call.open .. (call.prefix and text:sub(#call.prefix + 1) or text) .. (call.close or "")
end

function WRITE.named(call, order)
  local name = (call.name_prefix or "") .. "look_up"
  if call.name_is_id then name = name .. ":0" end
  if call.kind_separator then name = "function" .. call.kind_separator .. name .. "\n" end
  local frame = call.tail and "\n" or ""
  return call.open .. name .. call.separator .. frame .. json.encode(object_of(order)) .. frame
    .. (call.tail or "") .. (call.close or "")
end

function WRITE.tags(call, order)
  local out = { call.open, "look_up", call.name_close or "\n" }
  for _, name in ipairs(order) do
    local v = VALUES[name]
    local text = type(v) == "string" and v or json.encode(v)
    if call.value.has_newlines then text = "\n" .. text .. "\n" end
    out[#out + 1] = call.key.open .. name .. call.key.close .. (call.value.open or "") .. text
      .. call.value.close
  end
  return table.concat(out) .. call.close
end

local PYTHON <const> = { count = "-17", name = ("%q"):format(VALUES.name), is_on = "True",
  list = "[1, 2]" }

function WRITE.python(call, order)
  if call.bare == "{" then
    return json.encode(json.object { { call.name, "look_up" },
      { call.arguments, object_of(order) } })
  end
  local words = {}
  for i, name in ipairs(order) do words[i] = name .. "=" .. PYTHON[name] end
  return call.open .. "[look_up(" .. table.concat(words, ", ") .. ")]" .. call.close
end

function WRITE.gemma(call, order)
  local words = {}
  for i, name in ipairs(order) do
    local v = VALUES[name]
    local text = type(v) == "string" and call.quote .. v .. call.quote or json.encode(v)
    words[i] = name .. ":" .. text
  end
  return call.open .. "call:look_up{" .. table.concat(words, ",") .. "}" .. call.close
end

local function write(fmt, order)
  local call = fmt.call
  if fmt.channels then
    return "<|channel|>commentary to=" .. call.name_prefix .. "look_up <|constrain|>json"
      .. call.separator .. json.encode(object_of(order)) .. "<|call|>"
  end
  local text = WRITE[call.syntax or "json"](call, order)
  local section = fmt.section
  return section and section.open .. text .. section.close or text
end

------------------------------------------------------------ reading back

local function check_order(fmt, order, step)
  local reply, label = write(fmt, order), fmt.name .. ": " .. table.concat(order, " ")
  local list = events.events(fmt, { reply }, { tools = TOOLS })
  lu.assertEquals(#list, 1, label .. ": " .. reply)
  lu.assertEquals(list[1].type, "call", label .. ": " .. reply)
  lu.assertEquals(list[1].name, "look_up", label)
  lu.assertEquals(json.encode(list[1].arguments), json.encode(object_of(order)), label)
  lu.assertNil(events.split_difference(fmt, reply, { tools = TOOLS }, step), label)
end

for _, family in ipairs(format.families()) do
  if family.call then
    T["test_" .. family.name] = function()
      local fmt = format.choose(family, "")
      for i, order in ipairs(orders(NAMES)) do
        check_order(fmt, order, i == 1 and 1 or 7)
      end
    end
  end
end

function T.test_all_families_but_the_plain_one_have_calls()
  local n = 0
  for _, family in ipairs(format.families()) do
    if not family.call then lu.assertEquals(family.name, "plain") end
    n = n + 1
  end
  lu.assertTrue(n >= 26)
end

return T
