-- SPDX-License-Identifier: MIT
-- Formats of replies as grammars: JSON Schemas (random ones against the validator), choices,
-- regular expressions, what is refused, and sessions and chats that use them.
local lu = require "luaunit"
local perigee = require "perigee"
local grammar = require "perigee.grammar"
local validate = require "perigee.validate"
local json = perigee.json

local T = {}

local function gbnf(format)
  local text, wrong = grammar.of(json.decode(json.encode(format)))
  lu.assertNotNil(text, wrong)
  return text
end

local function fits(format, s)
  local result, err = grammar.match(gbnf(format), s)
  lu.assertNotNil(result, tostring(err))
  return result
end

local function assert_whole(format, ...)
  for _, s in ipairs { ... } do lu.assertEquals(fits(format, s), "whole", s) end
end

local function assert_no(format, ...)
  for _, s in ipairs { ... } do lu.assertNotEquals(fits(format, s), "whole", s) end
end

function T.test_types()
  assert_whole({ type = "string" }, '""', '"a\\n\\u00e9é"')
  assert_no({ type = "string" }, '"', '"\\x"', '"\\ud800"', "a", '"a\nb"')
  assert_whole({ type = "integer" }, "0", "-7", "123456789012345678")
  assert_no({ type = "integer" }, "00", "1.0", "-", "+1")
  assert_whole({ type = "number" }, "0", "-1.5", "2e10")
  assert_whole({ type = { "boolean", "null" } }, "true", "false", "null")
  assert_no({ type = { "boolean", "null" } }, "1", '"true"')
  assert_whole("json", "{}", '{"a":[1,{"b":null}],\n  "c": "d"}')
  assert_no("json", "[]", "1", "{,}")
end

function T.test_objects_have_their_properties_in_order()
  local schema = { type = "object", properties = { a = { type = "integer" },
    b = { type = "string" }, c = { type = "null" } }, required = { "b" } }
  assert_whole(schema, '{"a":1,"b":"x","c":null}', '{"b":"x"}', '{ "a": 1, "b": "x" }',
    '{"b":"","c":null}')
  assert_no(schema, "{}", '{"a":1}', '{"b":"x","a":1}', '{"b":"x",}', '{"b":"x","d":1}', '{"a":1,}')
  local open = { type = "object", properties = { ab = { type = "integer" } },
    additionalProperties = { type = "null" } }
  assert_whole(open, "{}", '{"ab":1}', '{"a":null}', '{"ab":1,"abc":null,"x":null}', '{"":null}')
  assert_no(open, '{"ab":null}', '{"a":1}', '{"x":null,"ab":1}', '{"ab":1,"ab":null}')
  local any = { type = "object", additionalProperties = { type = "integer" } }
  assert_whole(any, '{"x":1,"y":2}', "{}")
  assert_no(any, '{"x":"1"}')
  local optional = { type = "object", properties = { a = { const = 1 }, b = { const = 2 },
    c = { const = 3 } } }
  assert_whole(optional, "{}", '{"a":1}', '{"b":2}', '{"c":3}', '{"a":1,"c":3}', '{"b":2,"c":3}',
    '{"a":1,"b":2,"c":3}')
  assert_no(optional, '{"c":3,"a":1}', '{,"c":3}', '{"a":1"c":3}')
end

function T.test_arrays()
  local two = { type = "array", items = { type = "integer" }, minItems = 2, maxItems = 3 }
  assert_whole(two, "[1,2]", "[1, 2, 3]")
  assert_no(two, "[]", "[1]", "[1,2,3,4]", "[1,]")
  assert_whole({ type = "array", items = { type = "null" } }, "[]", "[null]", "[null,null,null]")
  assert_whole({ type = "array", items = { type = "null" }, maxItems = 1 }, "[]", "[null]")
  local pair = { type = "array", prefixItems = { { type = "integer" }, { type = "string" } },
    items = false, minItems = 1 }
  assert_whole(pair, "[1]", '[1,"a"]')
  assert_no(pair, "[]", '["a"]', '[1,"a",2]')
  local more = { type = "array", prefixItems = { { type = "integer" } }, items = { type = "null" } }
  assert_whole(more, "[]", "[1]", "[1,null,null]")
  assert_no(more, "[null]", "[1,2]")
end

function T.test_ranges_of_integers()
  local roll = 7
  for _ = 1, 60 do
    roll = (roll * 1103515245 + 12345) & 0x7fffffff
    local low = (roll >> 8) % 4001 - 2000
    local high = low + (roll >> 16) % 300
    local text = gbnf { type = "integer", minimum = low, maximum = high }
    for _, n in ipairs { low - 1, low, low + 1, (low + high) // 2, high - 1, high, high + 1, -low,
      low * 10, 0 } do
      lu.assertEquals(grammar.match(text, ("%d"):format(n)) == "whole", n >= low and n <= high,
        ("%d in %d..%d"):format(n, low, high))
    end
  end
  assert_whole({ type = "integer", minimum = 5 }, "5", "10", "99999")
  assert_no({ type = "integer", minimum = 5 }, "4", "-7", "0", "05")
  assert_whole({ type = "integer", exclusiveMaximum = 0 }, "-1", "-500")
  assert_no({ type = "integer", exclusiveMaximum = 0 }, "0", "1", "-0")
end

function T.test_values_and_combinations()
  assert_whole({ enum = { "a", 1, true, json.null } }, '"a"', "1", "true", "null")
  assert_no({ enum = { "a", 1 } }, "a", "2", '"1"')
  assert_whole({ const = { "x", 2 } }, '["x",2]')
  assert_whole({ type = "string", enum = { "a", 1 } }, '"a"')
  assert_no({ type = "string", enum = { "a", 1 } }, "1")
  assert_whole({ anyOf = { { type = "integer" }, { type = "null" } } }, "3", "null")
  assert_whole({ oneOf = { { type = "integer" }, { type = "string" } } }, "3", '"x"')
  local both = { allOf = { { type = "object", properties = { a = { type = "integer" } },
    required = { "a" } }, { properties = { b = { type = "null" } } } } }
  assert_whole(both, '{"a":1}', '{"a":1,"b":null}')
  assert_no(both, '{"b":null}', "{}")
end

function T.test_references_may_be_recursive()
  local tree = { ["$ref"] = "#/$defs/node", ["$defs"] = { node = { type = "object",
    properties = { value = { type = "integer" },
      kids = { type = "array", items = { ["$ref"] = "#/$defs/node" } } },
    required = { "value" } } } }
  assert_whole(tree, '{"value":1}', '{"kids":[{"kids":[],"value":2}],"value":1}')
  assert_no(tree, '{"kids":[1],"value":1}')
  local list = { anyOf = { { type = "null" },
    { type = "array", items = { ["$ref"] = "#" }, minItems = 1 } } }
  assert_whole(list, "null", "[[[null]],null]")
end

function T.test_strings_with_lengths_patterns_and_formats()
  assert_whole({ type = "string", minLength = 2, maxLength = 3 }, '"ab"', '"é\\u00e9x"')
  assert_no({ type = "string", minLength = 2, maxLength = 3 }, '"a"', '"abcd"')
  assert_whole({ type = "string", pattern = [[^[A-Z]\d{2,3}(x|"q")?$]] }, '"B12"', '"B123x"',
    '"B12\\"q\\""')
  assert_no({ type = "string", pattern = [[^[A-Z]\d{2}$]] }, '"b12"', '"B1"', '"B123"')
  assert_whole({ type = "string", pattern = "b+" }, '"abbc"', '"b"')
  assert_no({ type = "string", pattern = "b+" }, '"ac"')
  assert_whole({ type = "string", format = "date" }, '"2026-11-25"')
  assert_no({ type = "string", format = "date" }, '"2026-13-25"', '"26-11-25"')
  assert_whole({ type = "string", format = "date-time" }, '"2026-11-25T08:30:00Z"')
  assert_whole({ type = "string", format = "uuid" }, '"01234567-89ab-cdef-0123-456789abcdef"')
  assert_whole({ type = "string", format = "ipv4" }, '"192.168.0.255"')
  assert_no({ type = "string", format = "ipv4" }, '"192.168.0.256"')
end

function T.test_choices_and_expressions()
  assert_whole({ choice = { "yes", 'no "never"' } }, "yes", 'no "never"')
  assert_no({ choice = { "yes", "no" } }, "yesno", "", "Yes")
  assert_whole({ regex = [[(?:[^a-c\s]|\w{2})+\.]] }, "xyab.", "é.", "aa.")
  assert_no({ regex = [[a.c]] }, "a\nc", "ac", "abcd")
end

local REFUSED <const> = {
  { { type = "array", items = true, uniqueItems = true }, "format.uniqueItems: a grammar cannot" },
  { { type = "integer", multipleOf = 3 }, "format.multipleOf: this keyword" },
  { { type = "number", minimum = 1 }, "format.minimum: a grammar keeps ranges of whole" },
  { { type = "object", properties = { a = { ["not"] = {} } } }, "format.properties.a.not" },
  { { type = "strin" }, 'did you mean string?' },
  { { type = "object", properties = {}, required = { "a" } }, 'required[1]: "a" is none' },
  { { ["$ref"] = "#/$defs/x" }, "there is no $defs" },
  { { ["$ref"] = "http://example.org/x" }, "expected a reference inside the schema" },
  { { anyOf = { { type = "null" } }, type = "string" }, "format.type: a grammar cannot keep it" },
  { { oneOf = { { type = "integer" }, { type = "number" } } }, "a value may fit choice 1 and" },
  { { type = "string", format = "hostname" }, 'format.format: "hostname" is not supported' },
  { { type = "string", pattern = "(?<=x)*" }, "look-around and named groups" },
  { { type = "string", pattern = "a", maxLength = 3 }, "format.maxLength: a grammar cannot" },
  { { type = "array", items = { type = "array", items = { type = "null" }, minItems = 1e9 } },
    "format: grammar: line" },
  { { type = "string", minLength = 3, maxLength = 2 }, "minLength 3 is more" },
  { { minimum = 3 }, "add type = \"integer\"" },
  { { regex = [[\bword]] }, "character 2: \\b is not supported" },
  { { regex = "a(b" }, "expected )" },
  { { regex = "a**" }, "doubled repetitions" },
  { { choice = {} }, "found no choices" },
  { "jsn", 'expected "json"' },
  { { ["$ref"] = "#" }, "left recursion" },
}

function T.test_what_cannot_be_kept_is_named()
  for i, row in ipairs(REFUSED) do
    local text, wrong = grammar.of(row[1])
    lu.assertNil(text, "row " .. i)
    lu.assertStrContains(wrong, row[2])
  end
end

-- ---- random schemas against the validator ----

local function dice(seed)
  return function(n)
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return (seed >> 8) % n + 1
  end
end

local WORDS <const> = { "a", "ab", "b\"c", "é", "", "x y", "null" }

local make, value

local MAKE <const> = {
  function(roll)
    local least = roll(4) - 1
    return { type = "string", minLength = roll(2) == 1 and least or nil,
      maxLength = roll(2) == 1 and least + roll(3) or nil }
  end,
  function(roll)
    local least = roll(400) - 200
    return { type = "integer", minimum = roll(2) == 1 and least or nil,
      maximum = roll(2) == 1 and least + roll(150) or nil }
  end,
  function() return { type = "number" } end,
  function() return { type = "boolean" } end,
  function() return { type = "null" } end,
  function(roll) return { enum = { WORDS[roll(#WORDS)], roll(9), roll(2) == 1 } } end,
  function(roll, depth)
    local least = roll(3) - 1
    return { type = "array", items = make(roll, depth - 1), minItems = least,
      maxItems = roll(2) == 1 and least + roll(3) or nil }
  end,
  function(roll, depth)
    local properties, required = {}, json.array {}
    for i = 1, roll(4) do
      local name = WORDS[roll(#WORDS)] .. i
      properties[i] = { name, make(roll, depth - 1) }
      if roll(2) == 1 then required[#required + 1] = name end
    end
    return json.object { { "type", "object" }, { "properties", json.object(properties) },
      { "required", required }, { "additionalProperties", false } }
  end,
}

function make(roll, depth)
  return MAKE[roll(depth > 0 and #MAKE or 6)](roll, depth)
end

local VALUE <const> = {
  string = function(s, roll)
    local least = s.minLength or 0
    local n, out = math.min(least + roll(3) - 1, s.maxLength or 99), {}
    for i = 1, n do out[i] = ({ "a", "é", '"', "\\", "\n", "😀" })[roll(6)] end
    return table.concat(out)
  end,
  integer = function(s, roll)
    if s.minimum then return math.min(s.minimum + roll(20) - 1, s.maximum or 1e6 // 1) // 1 end
    return (s.maximum or 500) - roll(600)
  end,
  number = function(_, roll) return (roll(2000) - 1000) / 8 end,
  boolean = function(_, roll) return roll(2) == 1 end,
  null = function() return json.null end,
  array = function(s, roll)
    local out = json.array {}
    for i = 1, math.min(s.minItems + roll(3) - 1, s.maxItems or 99) do
      out[i] = value(s.items, roll)
    end
    return out
  end,
  object = function(s, roll)
    local needed, out = {}, {}
    for _, name in ipairs(s.required) do needed[name] = true end
    for name, one in pairs(s.properties) do
      if needed[name] or roll(2) == 1 then out[#out + 1] = { name, value(one, roll) } end
    end
    return json.object(out)
  end,
}

function value(s, roll)
  if s.enum then return s.enum[roll(#s.enum)] end
  return VALUE[s.type](s, roll)
end

-- One byte less, more or other.
local function mutated(s, roll)
  local at, other = roll(#s), ('{}[]",:0-9atné\\'):sub(roll(15)):sub(1, 1)
  local how = roll(3)
  if how == 1 then return s:sub(1, at - 1) .. s:sub(at + 1) end
  return s:sub(1, at - 1) .. other .. s:sub(how == 2 and at + 1 or at)
end

local function is_valid(schema, s)
  local v = json.decode(s)
  if v == nil then return false end
  local box = json.object { { "type", "object" },
    { "properties", json.object { { "v", schema } } }, { "required", json.array { "v" } } }
  local ok, notes = validate.arguments("f", box, json.object { { "v", v } }, true)
  return ok ~= nil and #notes == 0
end

function T.test_random_values_of_random_schemas()
  local roll = dice(20261125)
  local n_value, n_refused = 0, 0
  for _ = 1, 60 do
    local schema = make(roll, 2)
    local text = gbnf(schema)
    for _ = 1, 4 do
      local s = json.encode(value(schema, roll))
      lu.assertEquals(grammar.match(text, s), "whole", s .. " of " .. json.encode(schema))
      lu.assertTrue(is_valid(schema, s), s)
      n_value = n_value + 1
      for _ = 1, 8 do
        local other = mutated(s, roll)
        if grammar.match(text, other) == "whole" then
          lu.assertTrue(is_valid(schema, other), other .. " of " .. json.encode(schema))
        elseif not is_valid(schema, other) then
          n_refused = n_refused + 1
        end
      end
    end
  end
  lu.assertTrue(n_value == 240 and n_refused > 500, n_value .. " " .. n_refused)
end

-- ---- replies in a chat ----

local THINKS <const> = { name = "x", thinking = { open = "<think>", close = "</think>" },
  call = { open = "<call>", close = "</call>" } }

function T.test_a_reply_may_think_and_call()
  local text, triggers = grammar.reply({ type = "integer" }, THINKS, "may", true)
  lu.assertEquals(triggers, {})
  local function is(s, expected) lu.assertEquals(grammar.match(text, s), expected, s) end
  is("17", "whole")
  is("<think>hm </thi </think>\n\n17", "whole")
  is("<think></think>17", "whole")
  is("<think>17", "beginning")
  is("<think><</think>x", "no")
  is("<call>{\"name\":\"f\"}</call>", "whole")
  is("<think>a</think> <call>anything", "whole")
  is("well, 17", "no")
  text, triggers = grammar.reply({ type = "integer" }, THINKS, "inside", false)
  lu.assertEquals(triggers, { "</think>" })
  lu.assertEquals(grammar.match(text, "\n17"), "whole")
  lu.assertEquals(grammar.match(text, "<call>"), "no")
  text = grammar.reply({ type = "integer" }, THINKS, "never", false)
  lu.assertEquals(grammar.match(text, "17"), "whole")
  lu.assertEquals(grammar.match(text, "<think>"), "no")
end

local function gather(chat, question)
  for _ in chat:send(question) do end -- luacheck: ignore
end

function T.test_a_chat_gives_the_session_its_grammar()
  local fake = perigee.fake.model { replies = { "1", "2", "3" } }
  local chat <close> = assert(perigee.chat { from = fake, parameters = { format = "json" } })
  local session = fake.sessions[1]
  gather(chat, "one?")
  lu.assertStrContains(session.sampling_used.grammar, "root ::=")
  assert(chat:set { format = json.null })
  gather(chat, "two?")
  lu.assertEquals(session.sampling_used.grammar, "")
  lu.assertErrorMsgContains("uniqueItems", function()
    chat:set { format = { type = "array", uniqueItems = true } }
  end)
  lu.assertErrorMsgContains("grammar_spec.lua:", function()
    return perigee.assistant { from = "m.gguf", parameters = { format = { type = "strin" } } }
  end)
end

return T
