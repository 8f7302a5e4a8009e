-- SPDX-License-Identifier: MIT
-- Strings of a JSON Schema as GBNF: lengths, pattern, format.
local check = require "perigee.check"
local json = require "perigee.sys.json"
local pieces = require "perigee.grammar.json"
local problem = require "perigee.grammar.problem"
local regex = require "perigee.grammar.regex"
local text = require "perigee.grammar.text"

local M = {}

local FORMATS <const> = {
  date = "year2 [0-9]{2} \"-\" month \"-\" day",
  time = "clock",
  ["date-time"] = "year2 [0-9]{2} \"-\" month \"-\" day \"T\" clock",
  uuid = [[hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}]],
  ipv4 = [[octet "." octet "." octet "." octet]],
}

local function format_rule(state, schema, path)
  local body = FORMATS[schema.format]
  if not body then
    problem.fail(check.join(path, "format"), "%s is not supported in a grammar; there are %s",
      json.encode(schema.format), table.concat(check.keys(FORMATS), ", "))
  end
  local rules = state.rules
  rules:once("hex", "[0-9a-fA-F]")
  rules:once("year2", "[12] [0-9]")
  rules:once("month", [=["0" [1-9] | "1" [0-2]]=])
  rules:once("day", [=["0" [1-9] | "1" [0-9] | "2" [0-8]]=])
  rules:once("hour", [=[[01] [0-9] | "2" [0-3]]=])
  rules:once("clock", [[hour ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,9})? ]]
    .. [[("Z" | [-+] hour ":" [0-5] [0-9])]])
  rules:once("octet", [=["25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9]]=])
  return ([["\"" %s "\""]]):format(body)
end

-- One character of these ranges as it stands in a JSON string.
local SHORT <const> = { [8] = "b", [9] = "t", [10] = "n", [12] = "f", [13] = "r", [34] = '"',
  [92] = "\\" }
local function in_string(ranges)
  local plain, out = {}, {}
  for _, r in ipairs(text.normal(ranges)) do
    local from = r[1]
    for cp = r[1], math.min(r[2], 127) do
      if cp < 32 or cp == 127 or cp == 34 or cp == 92 then
        if cp > from then plain[#plain + 1] = { from, cp - 1 } end
        from = cp + 1
        out[#out + 1] = text.literal(SHORT[cp] and "\\" .. SHORT[cp] or ("\\u%04x"):format(cp))
      end
    end
    if from <= r[2] then plain[#plain + 1] = { from, r[2] } end
  end
  if #plain > 0 then table.insert(out, 1, text.class(plain)) end
  return #out == 1 and out[1] or "(" .. table.concat(out, " | ") .. ")"
end

local function pattern_rule(state, schema, path)
  local where = check.join(path, "pattern")
  if type(schema.pattern) ~= "string" then
    problem.fail(where, "found %s, expected a string", check.describe(schema.pattern))
  end
  for _, key in ipairs { "minLength", "maxLength", "format" } do
    if schema[key] ~= nil then
      problem.fail(check.join(path, key), "a grammar cannot keep it together with pattern")
    end
  end
  local around = pieces.char(state.rules) .. "*"
  local body, wrong = regex.read(schema.pattern, in_string, around)
  if not body then problem.fail(where, "%s: %s", schema.pattern, wrong) end
  return ([["\"" (%s) "\""]]):format(body)
end

---The rule of a schema's strings.
---@param state perigee.grammar.state
---@param schema table
---@param path string
---@return string body
function M.body(state, schema, path)
  if schema.pattern ~= nil then return pattern_rule(state, schema, path) end
  local least = problem.count(schema, "minLength", path)
  local most = problem.count(schema, "maxLength", path)
  if least and most and least > most then
    problem.fail(path, "minLength %d is more than maxLength %d", least, most)
  end
  if schema.format == nil then return pieces.string(state.rules, least, most) end
  if least or most then
    problem.fail(check.join(path, "format"), "a grammar cannot keep it together with a length")
  end
  return format_rule(state, schema, path)
end

return M
