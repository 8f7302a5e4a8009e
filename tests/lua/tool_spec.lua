-- SPDX-License-Identifier: MIT
-- Definitions of tools become JSON Schemas, or texts that say what to write instead.
local json = require("perigee").json
local lu = require "luaunit"
local perigee = require "perigee"
local validate = require "perigee.validate"

local T = {}

local function tool(parameters)
  return perigee.tool { name = "f", parameters = parameters, run = function() return "" end }
end

local function schema_text(parameters)
  return json.encode(tool(parameters).parameters)
end

local function wrong(definition)
  local ok, text = pcall(function() return (perigee.tool(definition)) end)
  lu.assertFalse(ok)
  return text
end

function T.test_short_form()
  lu.assertEquals(schema_text { path = "string" },
    '{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}')
  lu.assertEquals(schema_text { b = "int?", a = "number?", z = "bool: on or off" },
    '{"type":"object","properties":{"z":{"type":"boolean","description":"on or off"},'
    .. '"a":{"type":"number"},"b":{"type":"integer"}},"required":["z"]}')
  lu.assertEquals(schema_text { { "b", "string[]" }, { "a", { "x", "y" } } },
    '{"type":"object","properties":{"b":{"type":"array","items":{"type":"string"}},'
    .. '"a":{"type":"string","enum":["x","y"]}},"required":["b","a"]}')
  lu.assertEquals(schema_text { a = { type = "int", min = 1, max = 3, optional = true } },
    '{"type":"object","properties":{"a":{"type":"integer","minimum":1,"maximum":3}},'
    .. '"required":[]}')
  lu.assertEquals(schema_text { at = { fields = { x = "number" } } },
    '{"type":"object","properties":{"at":{"type":"object","properties":'
    .. '{"x":{"type":"number"}},"required":["x"]}},"required":["at"]}')
  lu.assertEquals(schema_text(nil), '{"type":"object","properties":{},"required":[]}')
end

function T.test_json_schema_passes_through_in_its_order()
  local text = '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":["integer",'
    .. '"null"],"description":"n"}},"required":["z"],"additionalProperties":false}'
  lu.assertEquals(schema_text(json.decode(text)), text)
end

function T.test_a_tool_can_be_checked_again()
  local one = tool { a = "string" }
  local two = perigee.tool(one)
  lu.assertEquals(json.encode(two.parameters), json.encode(one.parameters))
  lu.assertTrue(two.strict)
end

function T.test_wrong_tools_say_what_to_write()
  local function run() return "" end
  lu.assertStrContains(wrong { run = run }, 'tool has no name; add name = "read_file"')
  lu.assertStrContains(wrong { name = "f" }, "tool (f) has no run; add run = function(args)")
  lu.assertStrContains(wrong { name = "a b", run = run }, 'tool.name: found the string "a b"')
  lu.assertStrContains(wrong { name = "f", run = "x" }, 'tool.run: found the string "x"')
  lu.assertStrContains(wrong { name = "f", run = run, paramters = {} },
    "tool.paramters is unknown; did you mean parameters?")
  lu.assertStrContains(wrong { name = "f", run = run, parameters = { a = "strng" } },
    'tool (f).parameters.a: the type "strng" is unknown; did you mean string?')
  lu.assertStrContains(wrong { name = "f", run = run, parameters = { a = 1 } },
    "tool (f).parameters.a: found the number 1, expected a type")
  lu.assertStrContains(wrong { name = "f", run = run, parameters = { a = { tpe = "int" } } },
    "tool (f).parameters.a.tpe is unknown; did you mean type?")
  lu.assertStrContains(wrong(run), "tool: found a function, expected { name =")
end

function T.test_wrong_json_schemas_say_where()
  local function text_of(properties, required)
    return wrong { name = "f", run = print, parameters = { type = "object",
      properties = properties, required = required } }
  end
  lu.assertStrContains(text_of { a = "string" }, 'write { type = "string" }')
  lu.assertStrContains(text_of { a = { type = "int" } },
    'properties.a.type: found the string "int", expected one of string, integer')
  lu.assertStrContains(text_of { a = { type = "string", descripton = "x" } },
    "properties.a.descripton is no keyword of JSON Schema; did you mean description?")
  lu.assertStrContains(text_of({ path = { type = "string" } }, { "pth" }),
    'required[1]: "pth" is none of the properties; did you mean path?')
  lu.assertStrContains(text_of { a = { type = "integer", minimum = 3, maximum = 1 } },
    "properties.a: minimum 3 is more than maximum 1")
  lu.assertStrContains(text_of { a = { ["$ref"] = "#/x" } }, "references are not resolved here")
  lu.assertStrContains(text_of { a = { enum = {} } }, "properties.a.enum: found no values")
end

function T.test_errors_name_the_callers_line()
  lu.assertStrMatches(wrong { name = "f" }, "^.-tool_spec.lua:%d+: tool .*")
end

local function check_call(parameters, text)
  local one = tool(parameters)
  return validate.arguments("f", one.parameters, json.decode(text), one.strict)
end

function T.test_right_arguments()
  local args, notes = check_call({ path = "string", line = "int?" }, '{"path":"a","line":2.0}')
  lu.assertEquals(args.path, "a")
  lu.assertEquals(math.type(args.line), "integer")
  lu.assertEquals(#notes, 0)
end

function T.test_values_that_can_only_mean_one_thing_are_taken()
  local args, notes = check_call({ a = "int", b = "bool", c = "number", d = "string" },
    '{"a":"2","b":"true","c":"-1.5e2","d":7}')
  lu.assertEquals(args.a, 2)
  lu.assertEquals(math.type(args.a), "integer")
  lu.assertTrue(args.b)
  lu.assertEquals(args.c, -150.0)
  lu.assertEquals(args.d, "7")
  lu.assertEquals(#notes, 4)
  lu.assertStrContains(notes[1], 'a: the string "2" was taken as an integer')
end

local WRONG_CALLS <const> = {
  { { path = "string" }, "{}", "path is missing, expected a string" },
  { { path = "string" }, '{"path":[1]}', "path: found an array, expected a string" },
  { { path = "string" }, '{"path":null}', "path: found null, expected a string" },
  { { path = "string" }, '{"path":"a","pth":"b"}', "pth is not a parameter; did you mean path?" },
  { { n = "int" }, '{"n":"two"}', 'n: found the string "two", expected an integer' },
  { { n = "int" }, '{"n":1.5}', "n: found the number 1.5, expected an integer" },
  { { n = { type = "int", min = 1 } }, '{"n":0}', "n: found 0, expected at least 1" },
  { { u = { "c", "f" } }, '{"u":"k"}', 'u: found the string "k", expected one of "c", "f"' },
  { { t = "string[]" }, '{"t":["a",{}]}', "t[2]: found an object, expected a string" },
  { { at = { fields = { x = "number" } } }, '{"at":{}}', "at.x is missing, expected a number" },
  { {}, '{"a":1}', "a is not a parameter" },
}

function T.test_wrong_arguments_are_told_to_the_model()
  for _, case in ipairs(WRONG_CALLS) do
    local args, text = check_call(case[1], case[2])
    lu.assertNil(args, case[2])
    lu.assertStrContains(text, case[3])
  end
  local _, text = check_call({ path = "string", line = "int?" }, "{}")
  lu.assertEquals(text, "The arguments of f are wrong: path is missing, expected a string. "
    .. "The call is f(path: string, line?: integer).")
end

function T.test_keywords_of_json_schema()
  local function text_of(schema, text)
    local parameters = { type = "object", properties = { v = json.decode(schema) } }
    local args, why = check_call(parameters, '{"v":' .. text .. "}")
    return args and "" or why
  end
  lu.assertEquals(text_of('{"anyOf":[{"type":"integer"},{"type":"null"}]}', "null"), "")
  lu.assertStrContains(text_of('{"anyOf":[{"type":"integer"},{"type":"null"}]}', "[]"), "none of")
  lu.assertStrContains(text_of('{"oneOf":[{"minimum":1},{"minimum":2}]}', "3"), "fits 2 of")
  lu.assertStrContains(text_of('{"allOf":[{"minimum":1},{"maximum":2}]}', "3"), "at most 2")
  lu.assertStrContains(text_of('{"not":{"const":3}}', "3"), "ruled out")
  lu.assertStrContains(text_of('{"maxLength":2}', '"äöü"'), "found 3 characters")
  lu.assertEquals(text_of('{"maxLength":3}', '"äöü"'), "")
  lu.assertStrContains(text_of('{"minItems":2}', "[1]"), "found 1 items, expected at least 2")
  lu.assertStrContains(text_of('{"multipleOf":2}', "3"), "a multiple of 2")
  lu.assertStrContains(text_of('{"exclusiveMinimum":3}', "3"), "more than 3")
  lu.assertEquals(text_of('{"enum":[{"b":1,"a":2}]}', '{"a":2,"b":1}'), "")
end

return T
