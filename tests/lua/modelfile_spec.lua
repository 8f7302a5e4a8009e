-- SPDX-License-Identifier: MIT
-- Modelfiles: the cases of tests/cases/modelfile (README there), printing that reads back, damaged
-- files.  Run from the top folder of the source, with --allow fs.read=tests.
local luaunit = require "luaunit"
local modelfile = require "perigee.modelfile"
local mutate = require "mutate"
local perigee = require "perigee"

local json = perigee.json
local T = {}

local FILES <const> = { "grammar", "quoting", "encoding", "printing", "instructions", "parameters",
  "superset" }

------------------------------------------------------------ cases

local ESCAPES <const> = { n = "\n", r = "\r", t = "\t", ["\\"] = "\\" }

local function unescape(text)
  text = text:gsub("\\x(%x%x)", function(hex)
    return hex:lower() == "5c" and "\\\\" or string.char(tonumber(hex, 16))
  end)
  return (text:gsub("\\([nrt\\])", ESCAPES))
end

-- The cases of a file: { name =, [part] = lines }.
local function cases_of(text)
  local cases, part = {}, nil
  for line in text:gmatch("([^\n]*)\n") do
    local case = cases[#cases]
    if line:find("^== ") then
      cases[#cases + 1], part = { name = line:sub(4) }, nil
    elseif line:find("^%-%- ") and case then
      part = line:sub(4)
      case[part] = {}
    elseif part and (line ~= "" or part == "input") then
      table.insert(case[part], line)
    end
  end
  return cases
end

-- Blank lines before the next case belong to nobody.
local function input_of(case)
  if case.bytes then return unescape(table.concat(case.bytes)) end
  local lines = case.input
  while lines[#lines] == "" do lines[#lines] = nil end
  return table.concat(lines, "\n") .. "\n"
end

-- Files that exist in the options only: { "path": "text" }; "GGUF..." is a model.
local function missing(path)
  local err = { code = "not_found", message = path .. ": no such file or folder" }
  return nil, setmetatable(err, { __tostring = function(self) return self.message end })
end

-- A model of a store, as store/find.lua has it.
local function base_of(files, word)
  local name = word:lower()
  local list = files["store:" .. name] and assert(modelfile.parse(files["store:" .. name], name))
  for _, one in ipairs(list or {}) do one.place = name .. ":latest" end
  local place = { shown = "the store" }
  return list and { name = name .. ":latest", instructions = list, entry = { place = place } }
end

local function reader_of(files)
  local reader = { find = function(word) return base_of(files, word) end }
  function reader.look(path)
    local names = {}
    for name in pairs(files) do
      if name == path then
        return { kind = "file", path = "/at/" .. path, is_gguf = files[name]:find("^GGUF") ~= nil }
      end
      if name:sub(1, #path + 1) == path .. "/" then names[#names + 1] = name:sub(#path + 2) end
    end
    if #names > 0 then return { kind = "folder", path = "/at/" .. path, names = names } end
    return missing(path)
  end
  function reader.read(path)
    if files[path] then return files[path] end
    return missing(path)
  end
  function reader.load(path)
    local text, err = reader.read(path)
    if not text then return nil, err end
    return load(text, path)
  end
  return reader
end

local function instruction_line(one)
  local value = json.encode(one.value)
  return one.key and ("%s %s %s"):format(one.name, one.key, value) or one.name .. " " .. value
end

local function lines_of(list, fn)
  local out = {}
  for i, v in ipairs(list) do out[i] = fn and fn(v) or tostring(v) end
  return table.concat(out, "\n")
end

-- Values by the keys that the case names, both as JSON.
local function compare(expected, found, what)
  for _, key in ipairs(json.keys(expected)) do
    local wanted = json.encode(expected[key], { sort = true })
    local got = found[key] == nil and "null" or json.encode(found[key], { sort = true })
    if wanted ~= got then return ("%s.%s: found %s, expected %s"):format(what, key, got, wanted) end
  end
end

-- What a case's parts say against what was found; nil where they agree.
local function differs(case, found)
  for _, part in ipairs { "instructions", "printed", "error", "warnings", "problems" } do
    local expected = case[part] and table.concat(case[part], "\n")
    if part == "error" and not expected then expected = "" end
    if expected and expected ~= (found[part] or "") then
      return ("%s:\n  found    %s\n  expected %s"):format(part, found[part], expected)
    end
  end
  for _, part in ipairs { "assistant", "parameters", "origins" } do
    local expected = case[part] and assert(json.decode(table.concat(case[part], "\n")))
    local text = expected and compare(expected, found[part] or {}, part)
    if text then return text end
  end
end

local BUILT <const> = { "assistant", "parameters", "origins", "problems" }

local function needs_build(case)
  if case.options then return true end
  for _, part in ipairs(BUILT) do
    if case[part] then return true end
  end
end

local function check_case(case)
  local input, found = input_of(case), {}
  local list, more = modelfile.parse(input, "M")
  found.error = not list and more or nil
  found.warnings = list and lines_of(more)
  found.instructions = list and lines_of(list, instruction_line)
  found.printed = list and modelfile.print(list):gsub("\n$", "")
  if list and needs_build(case) then
    local options = case.options and assert(json.decode(table.concat(case.options, "\n"))) or {}
    local files = { M = input }
    for _, name in ipairs(json.keys(options)) do files[name] = options[name] end
    local result, err = modelfile.load("M", reader_of(files))
    found.error = not result and tostring(err.message or err) or nil
    if result then
      found.assistant, found.origins = result.assistant, result.origins
      found.parameters = result.assistant.parameters
      found.warnings, found.problems = lines_of(result.warnings), lines_of(result.problems)
      found.instructions = lines_of(result.instructions, instruction_line)
    end
  end
  return differs(case, found)
end

for _, file in ipairs(FILES) do
  T["test_cases_of_" .. file] = function()
    local text = assert(perigee.fs.read("tests/cases/modelfile/" .. file .. ".case"))
    local bad, cases = {}, cases_of(text)
    luaunit.assertTrue(#cases > 5)
    for _, case in ipairs(cases) do
      local problem = check_case(case)
      if problem then bad[#bad + 1] = case.name .. ": " .. problem end
    end
    luaunit.assertEquals(table.concat(bad, "\n"), "")
  end
end

------------------------------------------------------------ printing reads back

local PIECES <const> = { "a", "b c", " ", "  ", "\t", "\n", "\r", "\r\n", '"', '""', '"""', "'",
  "#", "# x", "\\", "{{ .Prompt }}", "é", "日本", "\u{200b}", "\u{a0}", "\u{1F600}", "FROM", "\0" }
local NAMES <const> = { "FROM", "from", "SYSTEM", "System", "TEMPLATE", "LICENSE", "PARAMETER stop",
  "parameter x_1", "MESSAGE user", "MESSAGE assistant", "ADAPTER", "# no", "REQUIRES", "TOOL" }

local function pieces(n)
  local out = {}
  for i = 1, math.random(0, n) do out[i] = PIECES[math.random(#PIECES)] end
  return table.concat(out)
end

-- Text that often is a Modelfile.
local function generate()
  local parts = {}
  for i = 1, math.random(1, 4) do
    local quote = ({ "", "", '"', '"""' })[math.random(4)]
    parts[i] = NAMES[math.random(#NAMES)] .. " " .. quote .. pieces(6) .. quote
  end
  return table.concat(parts, "\n") .. (math.random(2) == 1 and "\n" or "")
end

function T.test_what_is_printed_reads_back()
  local n = 0
  for _ = 1, 2000 do
    local text = generate()
    local list = modelfile.parse(text)
    if list then
      n = n + 1
      local printed, lost = modelfile.print(list)
      luaunit.assertEquals(lost, {}, text)
      local again, warnings = modelfile.parse(printed)
      luaunit.assertNotNil(again, text)
      luaunit.assertEquals(warnings, {}, text)
      luaunit.assertEquals(lines_of(again, instruction_line), lines_of(list, instruction_line))
      luaunit.assertEquals(modelfile.print(again), printed)
    end
  end
  luaunit.assertTrue(n > 700)
end

-- Values of any shape: what is printed reads back, or is said to be lost.
function T.test_any_value_is_printed_or_lost()
  local n_lost = 0
  for _ = 1, 2000 do
    local value = pieces(8)
    local text, lost = modelfile.print { { name = "SYSTEM", value = value } }
    local list = assert(modelfile.parse(text))
    if #lost > 0 then
      n_lost = n_lost + 1
      luaunit.assertEquals(#list, 0)
    else
      luaunit.assertEquals(list[1].value, value)
    end
  end
  luaunit.assertTrue(n_lost > 0 and n_lost < 1800)
end

------------------------------------------------------------ hostile files

local BASE <const> = [[
# a comment
FROM m.gguf
PARAMETER temperature 0.7
PARAMETER stop "### User: "
SYSTEM """You are "it".
Second line."""
MESSAGE user hello
INCLUDE other
REQUIRES 0.14.0
]]

function T.test_damaged_files_give_placed_errors()
  local n_wrong = 0
  for _ = 1, 1500 do
    local files = { ["m.gguf"] = "GGUF", other = "SYSTEM Hi\n", M = mutate(BASE, PIECES, 4, 8) }
    local result, err = modelfile.load("M", reader_of(files))
    if not result then
      n_wrong = n_wrong + 1
      local is_placed = err.message:find("^M:%d+:%d+: ") ~= nil
        or err.message == "M: found no FROM line; add FROM model.gguf"
      luaunit.assertTrue(is_placed, err.message)
      luaunit.assertEquals(err.code, "modelfile")
    end
  end
  luaunit.assertTrue(n_wrong > 200)
end

-- Time grows with the size: what grew faster would be ended, as a test has so many seconds.
function T.test_large_files()
  local half = 1 << 19
  local worst = {
    'SYSTEM "' .. ("\n"):rep(2 * half - 16) .. '"',
    'SYSTEM """' .. ('x"\n'):rep(half // 2) .. '"""',
    ("#\n"):rep(half - 8) .. "FROM a\n", "SYSTEM " .. (" "):rep(2 * half - 64) .. "x",
    'SYSTEM "' .. (" \n"):rep(half - 16), "SYSTEM " .. ("\u{200b}"):rep(half // 2),
    ("\xff"):rep(half // 2), "\xff\xfe" .. ("x\0"):rep(half - 8), ("SYSTEM \n"):rep(half // 8),
  }
  for _, text in ipairs(worst) do
    local list, more = modelfile.parse(text, "M")
    luaunit.assertTrue(list ~= nil or more:find("^M:%d+:%d+: ") ~= nil, more)
    perigee.sleep(0)
  end
  local result, err = modelfile.load("M", reader_of { M = ("#\n"):rep(half + 1) })
  luaunit.assertNil(result)
  luaunit.assertStrContains(err.message, "M: found 1048578 bytes, expected at most 1048576")
end

return T
