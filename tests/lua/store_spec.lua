-- SPDX-License-Identifier: MIT
-- Names and manifests of the model store: the cases of tests/cases/store (README there), damaged
-- manifests, and what no script may reach.  Run from the top folder of the source, with --allow
-- fs.read=tests.
local luaunit = require "luaunit"
local manifest = require "perigee.store.manifest"
local mutate = require "mutate"
local names = require "perigee.store.name"
local perigee = require "perigee"

local json = perigee.json
local T = {}

------------------------------------------------------------ names

local function unescape(word)
  word = word:gsub("x(%d+)%*$", function(n) return ("x"):rep(tonumber(n)) end)
  return (word:gsub("\\x(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- What a line says against what is so; nil where they agree.
local function check_name(word, expected, short)
  local name, text = names.parse(word)
  if expected:sub(1, 2) == "! " then
    if not name and text:find(expected:sub(3), 1, true) then return nil end
    return ("%q: found %s, expected %s"):format(word, text or "a name", expected)
  elseif not name then
    return text
  end
  local found = table.concat({ name.host, name.namespace, name.model, name.tag }, " ")
  if found ~= expected or names.short(name) ~= short then
    return ("%q: found %s, %s"):format(word, found, names.short(name))
  end
  local again = names.parse(names.short(name))
  if names.key(again) ~= names.key(name) then return names.short(name) .. " is another name" end
  if names.path(name):find("..", 1, true) or names.path(name):find("//", 1, true) then
    return names.path(name)
  end
end

function T.test_cases_of_names()
  local text, bad, n = assert(perigee.fs.read("tests/cases/store/names.case")), {}, 0
  for line in text:gmatch("([^\n]*)\n") do
    local word, rest = line:match("^(.-) ?=> (.*)$")
    if word and line:sub(1, 1) ~= "#" then
      local expected, short = rest:match("^(.-) => (.*)$")
      bad[#bad + 1], n = check_name(unescape(word), expected or rest, short), n + 1
    end
  end
  luaunit.assertEquals(table.concat(bad, "\n"), "")
  luaunit.assertTrue(n > 30)
end

function T.test_words_with_the_look_of_a_path_are_no_names()
  for _, word in ipairs { "./x", "../x", "/x", "~/x", "x.gguf", "x.lua", ".x", "", "a/b/c/d" } do
    luaunit.assertFalse(names.is_possible(word), word)
  end
  for _, word in ipairs { "x", "x:y", "a/x", "x.gguf:q4", "Modelfile", "hf.co/a/b" } do
    luaunit.assertTrue(names.is_possible(word), word)
  end
end

------------------------------------------------------------ manifests

local READERS <const> = { manifest = manifest.read, config = manifest.read_config,
  params = manifest.read_parameters, messages = manifest.read_messages,
  instructions = manifest.read_instructions }

local function cases_of(text)
  local cases, part = {}, nil
  for line in text:gmatch("([^\n]*)\n") do
    local case = cases[#cases]
    if line:find("^== ") then
      cases[#cases + 1], part = { name = line:sub(4) }, nil
    elseif line:find("^%-%- ") and case then
      part = line:sub(4)
    elseif part and line ~= "" then
      case[part] = line
    end
  end
  return cases
end

local function check_case(case)
  for part, reader in pairs(READERS) do
    if case[part] then
      local value, text = reader(case[part], "F")
      local found = value and json.encode(value, { sort = true, separators = { ",", ":" } })
      if found ~= case.read or text ~= case.error then
        return ("%s:\n  found    %s\n  expected %s"):format(case.name, found or text,
          case.read or case.error)
      end
      return nil
    end
  end
  return case.name .. ": reads nothing"
end

function T.test_cases_of_manifests()
  local cases = cases_of(assert(perigee.fs.read("tests/cases/store/manifest.case")))
  local bad = {}
  for _, case in ipairs(cases) do bad[#bad + 1] = check_case(case) end
  luaunit.assertEquals(table.concat(bad, "\n"), "")
  luaunit.assertTrue(#cases > 25)
end

local HEX <const> = ("0123456789abcdef"):rep(4)

local function sample()
  local function layer(kind, size)
    return { kind = kind, type = manifest.media_type(kind), digest = HEX, size = size }
  end
  return manifest.text { config = layer("config", 3), layers = { layer("model", 70),
    layer("params", 0), layer("instructions", 1) } }
end

function T.test_what_is_written_reads_back()
  local read = assert(manifest.read(sample(), "F"))
  luaunit.assertEquals(manifest.text(read), sample())
  luaunit.assertEquals(#read.layers, 3)
  luaunit.assertEquals(read.layers[3].kind, "instructions")
end

local PIECES <const> = { "null", "{}", "[]", "-1", "1e999", '"', "\\u0000", "..", "/", "[[[[",
  "true", "\xff", '"size":', ",", "99999999999999999999", '"sha256:' }

-- Whatever is read is safe to use: digests are names of files, sizes are sizes.
local function check_read(read, text)
  local layers = { read.config }
  table.move(read.layers, 1, #read.layers, 2, layers)
  for _, layer in ipairs(layers) do
    luaunit.assertTrue(#layer.digest == 64 and layer.digest:find("^%x+$") ~= nil, text)
    luaunit.assertTrue(math.type(layer.size) == "integer" and layer.size >= 0, text)
    luaunit.assertTrue(layer.size <= 1 << 50, text)
  end
end

function T.test_damaged_manifests_give_errors_with_the_file()
  local n_read, n_wrong = 0, 0
  for _ = 1, 3000 do
    local text = mutate(sample(), PIECES, 3, 12)
    local read, wrong = manifest.read(text, "FILE")
    if read then
      n_read = n_read + 1
      check_read(read, text)
    else
      n_wrong = n_wrong + 1
      luaunit.assertTrue(wrong:find("^FILE: ") ~= nil, wrong)
    end
  end
  luaunit.assertTrue(n_read > 50 and n_wrong > 1000)
end

function T.test_huge_and_deep_manifests_are_refused()
  local _, wrong = manifest.read(("["):rep(100000), "F")
  luaunit.assertStrContains(wrong, "F: ")
  local layer = '{"mediaType":"m","digest":"sha256:' .. HEX .. '","size":0}'
  local many = '{"schemaVersion":2,"config":' .. layer .. ',"layers":['
    .. (layer .. ","):rep(9000) .. layer .. "]}"
  _, wrong = manifest.read(many, "F")
  luaunit.assertStrContains(wrong, "F: layers: found 9001 of them, expected at most 8192")
end

------------------------------------------------------------ the sandbox

function T.test_scripts_do_not_reach_the_store()
  for _, name in ipairs { "perigee.store.write", "perigee.store.create", "perigee.store.folder",
    "perigee.store.find", "perigee.store.hub", "perigee.store.places", "perigee.store",
    "perigee.sys.store", "perigee.cli.store", "perigee.cli.target", "perigee.cli" } do
    local ok, text = pcall(require, name)
    luaunit.assertFalse(ok, name)
    luaunit.assertStrContains(text, "is not for scripts")
  end
end

return T
