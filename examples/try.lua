-- SPDX-License-Identifier: MIT
-- The assistant of ./try: a model, a word to it, and five tools.  Change it, and run it again with
--   perigee run examples/try.lua
local perigee = require "perigee"

local read_file = perigee.tool {
  name = "read_file",
  description = "Read a text file.",
  parameters = { path = "string" },
  run = function(args)
    local text, err = perigee.fs.read(args.path)
    if not text then return nil, err end
    return #text <= 400 and text or text:sub(1, 400) .. " ..." -- a small model, a short memory
  end,
}

local list_files = perigee.tool {
  name = "list_files",
  description = "List the files in a folder.",
  parameters = { path = "string" },
  run = function(args)
    local names, err = perigee.fs.list(args.path)
    return names and table.concat(names, "\n", 1, math.min(#names, 30)), err
  end,
}

local calculator = perigee.tool {
  name = "calculator",
  description = "Calculate the value of an expression.",
  parameters = { expression = "string" },
  run = function(args)
    if args.expression:find "[^%d%s.()*/+-]" then return nil, "only numbers and + - * / ( )" end
    local value, err = load("return " .. args.expression)
    return value and ("%.10g"):format(value()), err
  end,
}

local get_time = perigee.tool {
  name = "get_time",
  description = "Return the date and time of now.",
  run = function() return perigee.date "%A, %Y-%m-%d, %H:%M" end,
}

local convert_units = perigee.tool {
  name = "convert_units",
  description = "Convert a value from one unit to another.",
  parameters = { { "value", "number" }, { "from", "string" }, { "to", "string" } },
  run = function(args)
    for _, units in ipairs {
      { meters = 1, m = 1, km = 1000, cm = 0.01, miles = 1609.344, feet = 0.3048, inches = 0.0254 },
      { grams = 1, kg = 1000, pounds = 453.59237, ounces = 28.349523125 },
      { seconds = 1, minutes = 60, hours = 3600, days = 86400, weeks = 604800 },
    } do
      local from, to = units[args.from], units[args.to]
      if from and to then return ("%.6g %s"):format(args.value * from / to, args.to) end
    end
    return nil, ("%s and %s are no units of the same thing"):format(args.from, args.to)
  end,
}

return {
  from = "demo-model/perigee-demo.gguf", -- beside this file; any GGUF file with a chat template
  system = "You are a helpful assistant.",
  parameters = { temp = 0 },
  tools = { read_file, list_files, calculator, get_time, convert_units },
  capabilities = { fs = { read = { "." } } }, -- asked for; --allow fs.read=DIR gives it
}
