-- SPDX-License-Identifier: MIT
-- Source to tokens, as Go's text/template cuts it: text, then what stands between {{ and }}.
-- White space inside an action is a token, for "(x).y" and "(x) .y" differ. "{{- " and " -}}" take
-- the white space of the neighbouring text away; comments vanish here.
local S = require "perigee.jinja.state"
local number = require "perigee.gotemplate.number"
local quote = require "perigee.gotemplate.quote"
local unicode = require "perigee.jinja.unicode"

local M = {}

---@class perigee.gotemplate.tokens
---@field type string[] text left right space ident field var dot bool nil number string, the
---  keywords, or the sign itself: := = | ( ) ,
---@field value any[] text, name, number or string
---@field at integer[] byte where the token starts
---@field n integer

local SPACE <const> = "[ \t\r\n]"
local WORD <const> = "[%w_\x80-\xff]"
local KEYWORDS <const> = {}
for word in ("block break continue define else end if nil range template with"):gmatch("%a+") do
  KEYWORDS[word] = true
end

local function push(t, type, value, at)
  local n = t.n + 1
  t.n, t.type[n], t.value[n], t.at[n] = n, type, value, at
end

local function char_at(source, at)
  return source:match("^[\0-\x7f\xc2-\xf4][\x80-\xbf]*", at) or source:sub(at, at)
end

-- Length of "}}" or " -}}" at byte `at` and whether it trims; nil: neither.
local function right_at(source, at)
  if source:find("^" .. SPACE .. "%-}}", at) then
    return 4, true
  elseif source:sub(at, at + 1) == "}}" then
    return 2, false
  end
  return nil
end

-- What may follow a name.
local function check_end(source, at, what)
  if at > #source or source:find("^[ \t\r\n.,|:()]", at) or source:sub(at, at + 1) == "}}" then
    return
  end
  S.fail(("found the character '%s' after %s, expected a blank, }} or one of . , | : ( )"):format(
    char_at(source, at), what), at)
end

-- The letters, digits and underscores from byte `at`.
local function word_at(source, at)
  local word = source:match("^" .. WORD .. "*", at)
  for from, char in word:gmatch("()([\x80-\xff][\x80-\xbf]*)") do
    local code = utf8.codepoint(char)
    if not (unicode.is("alpha", code) or unicode.is("digit", code)) then
      return word:sub(1, from - 1)
    end
  end
  return word
end

local function lex_word(t, source, at)
  local word = word_at(source, at)
  check_end(source, at + #word, ("'%s'"):format(word))
  if KEYWORDS[word] then
    push(t, word, word, at)
  elseif word == "true" or word == "false" then
    push(t, "bool", word == "true", at)
  else
    push(t, "ident", word, at)
  end
  return at + #word
end

-- A field or a variable: the sign and perhaps a name.
local function lex_named(t, source, at, type, alone)
  local word = word_at(source, at + 1)
  local after = at + 1 + #word
  check_end(source, after, ("'%s'"):format(source:sub(at, after - 1)))
  if word == "" then
    push(t, alone, source:sub(at, at), at)
  else
    push(t, type, type == "var" and "$" .. word or word, at)
  end
  return after
end

local function lex_raw(t, source, at)
  local close = source:find("`", at + 1, true)
  if not close then
    S.fail("found a raw text without end, expected a closing `", at)
  end
  push(t, "string", (source:sub(at + 1, close - 1):gsub("\r", "")), at)
  return close + 1
end

local function lex_quoted(t, source, at)
  local value, after = quote.read(source, at)
  push(t, "string", value, at)
  return after
end

local function lex_char(t, source, at)
  local value, after = quote.read_char(source, at)
  push(t, "number", value, at)
  return after
end

local function lex_number(t, source, at)
  local value, after = number.read(source, at)
  if source:find("^" .. WORD, after) then
    S.fail(("found '%s' after a number, expected its end"):format(char_at(source, after)), at)
  end
  push(t, "number", value, at)
  return after
end

local function lex_dot(t, source, at)
  if source:find("^%d", at + 1) then
    return lex_number(t, source, at)
  end
  return lex_named(t, source, at, "field", "dot")
end

local function lex_declare(t, source, at)
  if source:sub(at, at + 1) ~= ":=" then
    S.fail("found ':', expected :=", at)
  end
  push(t, ":=", ":=", at)
  return at + 2
end

local function lex_sign(t, source, at)
  local c = source:sub(at, at)
  if c == "(" then
    t.open = t.open + 1
  elseif c == ")" then
    t.open = t.open - 1
    if t.open < 0 then
      S.fail("found ')', expected no more than were opened", at)
    end
  end
  push(t, c, c, at)
  return at + 1
end

local function lex_space(t, source, at)
  local after = source:match("^" .. SPACE .. "+()", at)
  if source:find("^%-}}", after) then
    after = after - 1 -- the last blank belongs to the closing -}}
  end
  if after > at then
    push(t, "space", " ", at)
  end
  return after
end

local LEX <const> = { ['"'] = lex_quoted, ["`"] = lex_raw, ["'"] = lex_char, ["."] = lex_dot,
  [":"] = lex_declare, ["$"] = function(t, source, at)
    return lex_named(t, source, at, "var", "var")
  end }
for c in ("=|(),"):gmatch(".") do
  LEX[c] = lex_sign
end
for c in ("+-0123456789"):gmatch(".") do
  LEX[c] = lex_number
end
for c in (" \t\r\n"):gmatch(".") do
  LEX[c] = lex_space
end

-- The inside of an action from byte `at`; returns the byte after }} and whether it trims.
local function lex_action(t, source, at, left)
  t.open = 0
  while true do
    local length, trims = right_at(source, at)
    if length then
      if t.open > 0 then
        S.fail("found }}, expected ) for every (", at)
      end
      push(t, "right", "}}", at)
      return at + length, trims
    elseif at > #source then
      S.fail("found {{ without end, expected a closing }}", left)
    end
    local lex = LEX[source:sub(at, at)]
    if lex then
      at = lex(t, source, at)
    elseif word_at(source, at) ~= "" then
      at = lex_word(t, source, at)
    else
      S.fail(("found the character '%s', expected a name, a value or an operator"):format(
        char_at(source, at)), at)
    end
  end
end

-- The comment at byte `at`; returns the byte after it and whether it trims.
local function skip_comment(source, at)
  local _, close = source:find("*/", at + 2, true)
  if not close then
    S.fail("found a comment without end, expected */", at)
  end
  local length, trims = right_at(source, close + 1)
  if not length then
    S.fail("found text behind a comment, expected }}", close + 1)
  end
  return close + 1 + length, trims
end

--- Tokens of a template.
---@param source string
---@return perigee.gotemplate.tokens
function M.lex(source)
  local t = { type = {}, value = {}, at = {}, n = 0, open = 0 }
  local at = 1
  while at <= #source do
    S.charge(1)
    local left = source:find("{{", at, true)
    local text = source:sub(at, (left or 0) - 1)
    local inside = left and left + 2
    if left and source:find("^%-" .. SPACE, inside) then
      text, inside = text:match("^.*[^ \t\r\n]") or "", inside + 2
    end
    if text ~= "" then
      push(t, "text", text, at)
    end
    if not left then
      break
    end
    local trims
    if source:sub(inside, inside + 1) == "/*" then
      at, trims = skip_comment(source, inside)
    else
      push(t, "left", "{{", left)
      at, trims = lex_action(t, source, inside, left)
    end
    if trims then
      at = source:find("[^ \t\r\n]", at) or #source + 1
    end
  end
  push(t, "eof", nil, #source + 1)
  return t
end

return M
