-- SPDX-License-Identifier: MIT
-- Source to tokens, with trim_blocks and lstrip_blocks on, as transformers sets them: the line
-- break behind a tag of statements or a comment goes, and so does the white space between the start
-- of a line and such a tag.
local S = require "perigee.jinja.state"
local chars = require "perigee.jinja.chars"
local unicode = require "perigee.jinja.unicode"

local M = {}

---@class perigee.jinja.tokens
---@field type string[] data {{ }} {% %} name string integer float eof, or the operator itself
---@field value any[] text, name or number
---@field at integer[] byte where the token starts
---@field n integer

local NO_TOKEN <const> =
  "found the character '%s', expected a name, a text, a number or an operator"
local SPACE <const> = "[\t-\r\x1c-\x20]"
local CLOSES <const> = { ["("] = ")", ["["] = "]", ["{"] = "}" }
local OPERATORS <const> = {}
for op in ("// ** == != >= <= + - / * % ~ [ ] ( ) { } > < = . : | , ;"):gmatch("%S+") do
  OPERATORS[op] = true
end

local function push(t, type, value, at)
  local n = t.n + 1
  t.n, t.type[n], t.value[n], t.at[n] = n, type, value, at
end

------------------------------------------------------------ literals

local SIMPLE <const> = { n = "\n", t = "\t", r = "\r", a = "\a", b = "\b", f = "\f", v = "\v",
  ["\\"] = "\\",
  ["'"] = "'", ['"'] = '"', ["\n"] = "" }
local HEX <const> = { x = 2, u = 4, U = 8 }

local function code_text(code, at)
  if not code or code > 0x10FFFF or code >= 0xD800 and code < 0xE000 then
    S.fail("found an escape that is no character, expected one up to 10ffff outside the surrogates",
      at)
  end
  return utf8.char(code)
end

-- Text of a literal between its quotes.
local function unescape(body, at)
  if not body:find("\\", 1, true) then
    return body
  end
  local parts, from = {}, 1
  while true do
    local i = body:find("\\", from, true)
    parts[#parts + 1] = body:sub(from, (i or 0) - 1)
    if not i then
      return table.concat(parts)
    end
    local c = body:sub(i + 1, i + 1)
    local octal = body:match("^[0-7][0-7]?[0-7]?", i + 1)
    if SIMPLE[c] then
      parts[#parts + 1], from = SIMPLE[c], i + 2
    elseif octal then
      parts[#parts + 1], from = code_text(tonumber(octal, 8), at), i + 1 + #octal
    elseif HEX[c] then
      local digits = body:match("^%x+", i + 2) or ""
      if #digits < HEX[c] then
        S.fail(("found \\%s with %d hexadecimal digits, expected %d"):format(c, #digits, HEX[c]),
          at + i)
      end
      digits = digits:sub(1, HEX[c])
      parts[#parts + 1], from = code_text(tonumber(digits, 16), at + i), i + 2 + #digits
    elseif c == "N" then
      S.fail("found \\N in a text, expected \\u and four hexadecimal digits", at + i)
    else
      parts[#parts + 1], from = "\\", i + 1
    end
  end
end

local function string_end(source, at, quote)
  local from = at + 1
  while true do
    local i = source:find("[\\" .. quote .. "]", from)
    if not i then
      S.fail(("found the end of the template inside a text, expected %s"):format(quote), at)
    elseif source:sub(i, i) == quote then
      return i
    end
    from = i + 2
  end
end

local function digits_end(source, at, class)
  local stop = source:match("^" .. class .. "+()", at)
  while stop do
    local more = source:match("^_" .. class .. "+()", stop)
    if not more then
      break
    end
    stop = more
  end
  return stop
end

local function float_end(source, at)
  if source:sub(at - 1, at - 1) == "." then
    return nil
  end
  local stop = digits_end(source, at, "%d")
  local fraction = source:sub(stop, stop) == "." and digits_end(source, stop + 1, "%d")
  stop = fraction or stop
  local exponent = source:match("^[eE][-+]?()%d", stop)
  exponent = exponent and digits_end(source, exponent, "%d")
  return exponent or fraction
end

local function integer_end(source, at)
  for mark, class in pairs { b = "[01]", o = "[0-7]", x = "%x" } do
    local from = source:match("^0[" .. mark .. mark:upper() .. "]_?()" .. class, at)
    if from then
      return digits_end(source, from, class), ({ b = 2, o = 8, x = 16 })[mark]
    end
  end
  if source:sub(at, at) == "0" then
    return digits_end(source, at, "0"), 10
  end
  return digits_end(source, at, "%d"), 10
end

local function number_at(t, source, at)
  local stop = float_end(source, at)
  local text
  if stop then
    text = source:sub(at, stop - 1):gsub("_", "")
    push(t, "float", tonumber(text) + 0.0, at)
    return stop
  end
  local base
  stop, base = integer_end(source, at)
  text = source:sub(at, stop - 1):gsub("_", "")
  local value
  if base == 10 then
    value = math.tointeger(tonumber(text)) or nil
    value = #text > 18 and math.type(tonumber(text)) == "float" and text or value
  else
    text = text:sub(3):gsub("^0+(.)", "%1")
    if #text * (base == 16 and 4 or base == 8 and 3 or 1) > 63 then
      S.fail("found an integer of more than 64 bits", at)
    end
    value = tonumber(text, base)
  end
  push(t, "integer", value, at)
  return stop
end

------------------------------------------------------------ inside tags

local function name_at(source, at)
  local stop = source:match("^[%a_\x80-\xff][%w_\x80-\xff]*()", at)
  if not stop then
    return nil
  end
  local name = source:sub(at, stop - 1)
  if not chars.is_ascii(name) then
    for from, char in name:gmatch("()([\xc2-\xf4][\x80-\xbf]+)") do
      local code = utf8.codepoint(char)
      if not unicode.is("alpha", code) and (from == 1 or not unicode.is("numeric", code)) then
        S.fail(NO_TOKEN:format(char), at + from - 1)
      end
    end
  end
  return stop, name
end

local function operator_at(t, source, at, open)
  local op = source:sub(at, at + 1)
  if not OPERATORS[op] then
    op = source:sub(at, at)
  end
  if not OPERATORS[op] then
    local char = source:match("^" .. utf8.charpattern, at) or op
    S.fail(NO_TOKEN:format(char), at)
  elseif CLOSES[op] then
    open[#open + 1] = CLOSES[op]
  elseif op == ")" or op == "]" or op == "}" then
    local expected = table.remove(open)
    if expected ~= op then
      S.fail(("found '%s', expected %s"):format(op, expected and "'" .. expected .. "'"
        or op == "}" and "'}}' or '%}'" or "an opening bracket before it"), at)
    end
  end
  push(t, op, op, at)
  return at + #op
end

-- Byte behind the end of a tag at `at`, or nil; kind: "}}", "%}".
local function tag_end(source, at, kind)
  local sign = source:sub(at, at)
  local is_signed = sign == "-" or sign == "+" and kind == "%}"
  local from = is_signed and at + 1 or at
  if source:sub(from, from + 1) ~= kind then
    return nil
  elseif sign == "-" then
    return source:match("^" .. SPACE .. "*()", from + 2)
  elseif kind == "%}" and not is_signed and source:sub(from + 2, from + 2) == "\n" then
    return from + 3
  end
  return from + 2
end

-- The tokens of one tag; returns the byte behind its end.
local function lex_tag(t, source, at, kind)
  local open, start = {}, at
  while true do
    at = source:match("^" .. SPACE .. "*()", at)
    local stop = #open == 0 and tag_end(source, at, kind)
    if stop then
      push(t, kind, kind, at)
      return stop
    end
    local c = source:sub(at, at)
    if c == "" then
      S.fail(("found the end of the template, expected '%s' of the tag opened here"):format(
        open[#open] or kind), start - 2)
    elseif c == "'" or c == '"' then
      stop = string_end(source, at, c)
      push(t, "string", unescape(source:sub(at + 1, stop - 1), at), at)
      at = stop + 1
    elseif c:find("%d") then
      at = number_at(t, source, at)
    else
      local name
      stop, name = name_at(source, at)
      if stop then
        push(t, "name", name, at)
        at = stop
      else
        at = operator_at(t, source, at, open)
      end
    end
  end
end

------------------------------------------------------------ between tags

-- The text of source from `from` in front of a tag at `to`, as much of it as stays.
local function text_before(source, from, to, sign, is_variable, starts_line)
  local text = source:sub(from, to - 1)
  if sign == "-" then
    local _, last = chars.strip_range(text, nil, false, true)
    return text:sub(1, last)
  elseif sign ~= "+" and not is_variable then
    local line = text:match(".*\n()") or 1
    if (line > 1 or starts_line) and not text:find("[^\t-\r\x1c-\x20]", line) then
      return text:sub(1, line - 1)
    end
  end
  return text
end

local function lex_raw(t, source, at, start)
  local from = at
  while true do
    local i, stop_open, sign = source:find("{%%([-+]?)" .. SPACE .. "*endraw" .. SPACE .. "*", from)
    local stop = i and tag_end(source, stop_open + 1, "%}")
    if stop then
      local text = text_before(source, at, i, sign, false, source:sub(at - 1, at - 1) == "\n")
      if text ~= "" then
        push(t, "data", text, at)
      end
      return stop
    elseif not i then
      S.fail("found the end of the template, expected {% endraw %} for the raw block opened here",
        start)
    end
    from = i + 2
  end
end

local function lex_comment(source, at, start)
  local i = source:find("#}", at, true)
  if not i then
    S.fail("found the end of the template, expected '#}' of the comment opened here", start)
  end
  local sign = i > at and source:sub(i - 1, i - 1)
  if sign == "-" then
    return source:match("^" .. SPACE .. "*()", i + 2)
  elseif sign ~= "+" and source:sub(i + 2, i + 2) == "\n" then
    return i + 3
  end
  return i + 2
end

--- All tokens of a template.
---@param source string line breaks are \n, the last one is gone
---@return perigee.jinja.tokens
function M.lex(source)
  local t = { n = 0, type = {}, value = {}, at = {} }
  local at = 1
  while true do
    local i = source:find("{[{%%#]", at)
    local starts_line = at == 1 or source:sub(at - 1, at - 1) == "\n"
    local kind, sign = nil, ""
    if i then
      kind = source:sub(i + 1, i + 1)
      sign = source:match("^[-+]", i + 2) or ""
    end
    local text = i and text_before(source, at, i, sign, kind == "{", starts_line) or source:sub(at)
    if text ~= "" then
      push(t, "data", text, at)
    end
    if not i then
      push(t, "eof", nil, #source + 1)
      return t
    end
    local body = i + 2 + #sign
    local raw = kind == "%" and source:match("^" .. SPACE .. "*raw" .. SPACE .. "*()", body)
    local raw_end = raw and (source:match("^%-%%}" .. SPACE .. "*()", raw) or source:match("^%%}()",
      raw))
    if raw_end then
      at = lex_raw(t, source, raw_end, i)
    elseif kind == "#" then
      at = lex_comment(source, body, i)
    elseif kind == "{" then
      push(t, "{{", "{{", i)
      at = lex_tag(t, source, body, "}}")
    else
      push(t, "{%", "{%", i)
      at = lex_tag(t, source, body, "%}")
    end
  end
end

return M
