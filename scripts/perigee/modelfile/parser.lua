-- SPDX-License-Identifier: MIT
-- The grammar of Modelfiles, which is Ollama's with some instructions more: text to a list of
-- instructions.  What values mean is decided elsewhere (parameters.lua, build.lua).
--   blanks, newlines and # comments      wherever an instruction may begin, and only there
--   NAME blank VALUE newline             PARAMETER and MESSAGE: NAME blank KEY blank VALUE newline
--   VALUE     the rest of the line, trimmed; or "..." or """...""", which may hold newlines and
--             ends at a newline whose line ends, trimmed, with the quote it began with
-- One blank (space or tab) ends a name; more belong to the value and are trimmed.  There are no
-- escapes; in values characters that do not print are dropped (text.lua).
-- Checked: tests/cases/modelfile/*.case.
local check = require "perigee.check"
local texts = require "perigee.modelfile.text"

local M = {}

---@class perigee.modelfile.instruction
---@field name string     "FROM", "PARAMETER", ...
---@field key? string     of a parameter; the role of a message
---@field value string
---@field quote string    that stood around it: nothing, " or """
---@field file string     and where it stands in it:
---@field line integer
---@field column integer
---@field value_line integer     where the value begins
---@field value_column integer
---@field place? string    of a model in a store: its name, in place of line and column

---Ollama's, and from INCLUDE on ours.
M.names = { "FROM", "LICENSE", "TEMPLATE", "SYSTEM", "ADAPTER", "DRAFT", "RENDERER", "PARSER",
  "PARAMETER", "MESSAGE", "REQUIRES", "INCLUDE", "TOOL", "GRAMMAR", "MCP" }
local ROLES <const> = { "system", "user", "assistant" }

local known = {}
for _, name in ipairs(M.names) do known[name] = true end

---@class perigee.modelfile.scan
---@field file string
---@field text string
---@field places perigee.modelfile.places
---@field at integer
---@field warnings string[]

local function place(scan, at)
  return ("%s:%d:%d: "):format(scan.file, scan.places:of(at))
end

-- Errors leave the scanner by error(); M.parse catches them.
local function fail(scan, at, text, ...)
  error({ text = place(scan, at) .. text:format(...) }, 0)
end

-- What stands at a byte, for texts.
local function found(scan, at)
  local text = scan.text
  if at > #text then return "the end of the file" end
  if text:find("^[\r\n]", at) then return "the end of the line" end
  local code = utf8.codepoint(text, at)
  if not texts.is_print(code) then return ("the character U+%04X"):format(code) end
  return check.describe(text:match("^[^%s]+", at) or " "):gsub("^the string ", "")
end

local function unknown_name(scan, at, word)
  local near = check.nearest(word:upper(), M.names)
  fail(scan, at, "found the instruction %s, expected one of %s%s", check.describe(word):sub(12),
    table.concat(M.names, ", "), near and "; did you mean " .. near .. "?" or "")
end

-- The word that begins an instruction, and the byte behind the blank that ends it.
local function read_name(scan)
  local first, text = scan.at, scan.text
  local code = utf8.codepoint(text, first)
  local head = utf8.char(code)
  local letters, after = text:match("^(%a*)()", first + #head)
  local word = (texts.is_print(code) and head or "") .. letters
  if not text:find("^[ \t]", after) then
    local name = word:upper()
    if known[name] then
      fail(scan, after, "%s: found %s, expected a blank and a value", name, found(scan, after))
    end
    local next_code = after <= #text and utf8.codepoint(text, after) or 32
    if next_code > 32 and not texts.is_print(next_code) then
      fail(scan, after, "found %s in the name of an instruction", found(scan, after))
    end
    unknown_name(scan, first, text:match("^[^ \t\r\n]*", first))
  end
  if not known[word:upper()] then unknown_name(scan, first, word) end
  scan.at = after + 1
  return word:upper()
end

-- The name of a parameter or the role of a message, and the blank behind it.
local function read_key(scan, name, pattern, what)
  local first, text = scan.at, scan.text
  local key, after = text:match(pattern .. "()", first)
  if key == "" and text:find("^[ \t]", after) then
    fail(scan, after, "%s: found a second blank, expected %s after one blank", name, what)
  elseif not text:find("^[ \t]", after) then
    local expected = key == "" and what or "a blank and a value"
    fail(scan, after, "%s %s: found %s, expected %s", name, key, found(scan, after), expected)
  end
  scan.at = after + 1
  return key, first
end

local function check_role(scan, role, at)
  for _, known_role in ipairs(ROLES) do
    if role == known_role then return end
  end
  local near = check.nearest(role, ROLES)
  fail(scan, at, "MESSAGE: found the role %s, expected one of %s%s", check.describe(role):sub(12),
    table.concat(ROLES, ", "), near and "; did you mean " .. near .. "?" or "")
end

-- Told of each character that a value loses, it makes one warning for all.
local function dropper(scan, name)
  local n, first, codes = 0, nil, {}
  local function dropped(code, at)
    n, first = n + 1, first or at
    local shown = ("U+%04X"):format(code)
    if #codes < 4 and codes[#codes] ~= shown then codes[#codes + 1] = shown end
  end
  local function tell()
    if n == 0 then return end
    scan.warnings[#scan.warnings + 1] = ("%s%s: dropped %s that %s not print: %s"):format(
      place(scan, first), name, n == 1 and "a character" or n .. " characters",
      n == 1 and "does" or "do", table.concat(codes, ", "))
  end
  return dropped, tell
end

local function trim(text)
  local from = text:find("[^ \t\r\n]")
  return from and text:match("^.*[^ \t\r\n]", from) or ""
end

local function quote_of(text)
  return text:match('^"""') or text:match('^"')
end

-- Does a text that ends before a newline, trimmed, end the value that `quote` began?
local function ends(part, quote, is_first)
  local tail = trim(part)
  return tail:sub(-#quote) == quote and (not is_first or #tail >= 2 * #quote)
end

local function open_quote(scan, at, name, quote)
  local start = scan.text:find('"', at, true) or at
  fail(scan, start, "%s: found the end of the file, expected a line that ends with %s: "
    .. "the quote that begins here is open", name, quote)
end

-- The newline or end that may end a value: of this line, and in quotes of the next with a quote.
local function next_stop(text, at, is_first)
  local from = is_first and at or text:find('"', at, true)
  return from and (text:find("[\r\n]", from) or #text + 1)
end

-- The value up to its newline, where it begins, and the quote around it.
local function read_value(scan, name)
  local text, at, first = scan.text, scan.at, scan.at
  local dropped, tell = dropper(scan, name)
  local parts, quote = {}, nil
  while true do
    local is_first = at == first
    local stop = next_stop(text, at, is_first)
    if not stop then open_quote(scan, first, name, quote) end
    local part = texts.keep_printable(text:sub(at, stop - 1), function(code, where)
      dropped(code, at + where - 1)
    end)
    if is_first then quote = quote_of(trim(part)) end
    parts[#parts + 1] = part
    if not quote or ends(part, quote, is_first) then at = stop break end
    if stop > #text then open_quote(scan, first, name, quote) end
    parts[#parts + 1] = text:sub(stop, stop)
    at = stop + 1
  end
  scan.at = at
  tell()
  local value = trim(table.concat(parts))
  if quote then value = value:sub(#quote + 1, -#quote - 1) end
  return value, text:match("^[ \t]*()", first), quote or ""
end

local function read_instruction(scan)
  local at = scan.at
  local name = read_name(scan)
  local key, key_at
  if name == "PARAMETER" then
    key = read_key(scan, name, "^([%w_]*)", "the name of a parameter")
  elseif name == "MESSAGE" then
    key, key_at = read_key(scan, name, "^(%a*)", "a role")
    check_role(scan, key, key_at)
  end
  local value, value_at, quote = read_value(scan, name)
  local line, column = scan.places:of(at)
  local value_line, value_column = scan.places:of(value_at)
  return { name = name, key = key, value = value, quote = quote, file = scan.file, line = line,
    column = column, value_line = value_line, value_column = value_column }
end

local function read_all(scan)
  local list = {}
  while true do
    scan.at = scan.text:match("^[ \t\r\n]*()", scan.at)
    if scan.at > #scan.text then return list end
    if scan.text:byte(scan.at) == 35 then -- a comment
      scan.at = scan.text:find("[\r\n]", scan.at) or #scan.text + 1
    else
      list[#list + 1] = read_instruction(scan)
    end
  end
end

---The instructions of a Modelfile's bytes.
---@param bytes string
---@param file string   its name, for texts
---@return perigee.modelfile.instruction[]?
---@return string[]|string   warnings; or what is wrong, "FILE:LINE:COLUMN: ..."
function M.parse(bytes, file)
  local text, bad = texts.read(bytes)
  local scan = { file = file, text = text, places = texts.places(text), at = 1, warnings = {} }
  if #bad > 0 then
    scan.warnings[1] = ("%sfound %s, taken as U+FFFD; expected UTF-8, or UTF-16 with a byte order "
      .. "mark"):format(place(scan, bad[1]), #bad == 1 and "a byte that is no character"
      or #bad .. " bytes that are no characters")
  end
  local ok, list = pcall(read_all, scan)
  if ok then return list, scan.warnings end
  if type(list) == "table" and list.text then return nil, list.text end
  error(list, 0)
end

return M
