-- SPDX-License-Identifier: MIT
-- luacheck: ignore 631 (templates stand in one line each)
-- Hostile templates end within their budget, and every error says where and why. Each has a slice
-- of its own; how long it takes is no matter of a test.
local luaunit = require "luaunit"
local jinja = require "perigee.jinja"
local perigee = require "perigee"

local T = {}
local rep = string.rep

local function run(source, vars, options)
  local t, err = jinja.parse(source, "t")
  if not t then
    return nil, err
  end
  return t:render(vars or {}, options or { now = 0 })
end

------------------------------------------------------------ errors

-- Template, line:column, and a part of what is said.
local ERRORS <const> = {
  { "{{ 1 + }}", "1:8", "found '}}', expected an expression" },
  { "a\n  {{ x.y.z }}", "2:7", "'x' is undefined" },
  { "é{{ é.y }}", "1:6", "'é' is undefined" },
  { "{% for x in y %}\n{% endif %}", "2:1",
    "found tag 'endif', expected 'endfor' or 'else' of the tag 'for'" },
  { "\n{% for x in y %}", "2:1", "expected 'endfor' or 'else' of the tag 'for' opened here" },
  { "{{ 'a }}", "1:4", "found the end of the template inside a text, expected '" },
  { "a\nb {# c", "2:3", "expected '#}' of the comment opened here" },
  { "{{ (1 }}", "1:7", "found '}', expected ')'" },
  { "{{ x|nope }}", "1:6", "found filter 'nope'" },
  { "{{ x is nope }}", "1:9", "found test 'nope'" },
  { "{% nope %}", "1:1", "found tag 'nope', expected a statement" },
  { "{% include 'a' %}", "1:1", "other files cannot be used" },
  { "{{ 1 / 0 }}", "1:6", "by zero" },
  { "{{ 'a' + 1 }}", "1:8", "found str + int" },
  { "{{ none.x.y }}", "1:10", "'NoneType object' has no attribute 'x'" },
  { "{{ f(1) }}", "1:5", "'f' is undefined" },
  { "{% macro f(a) %}{% endmacro %}{{ f(b=1) }}", "1:35", "f: found argument 'b', expected (a)" },
  { "{{ 'a'.replace('b') }}", "1:15",
    "replace: argument 'new' missing, expected (old, new, [count])" },
  { "{{ [1]|join(x=1) }}", "1:8", "join: found argument 'x', expected ([d], [attribute])" },
  { "{{ raise_exception('no tools') }}", "1:19", "the template says: no tools" },
  { "{{ \226\130 }}", "1:4", "not UTF-8" },
  { "{% set x.y = 1 %}", "1:8", "expected a namespace" },
  { "{{ x $ y }}", "1:6", "found the character '$'" },
  { "{{ 1 2 }}", "1:6", "found the number 2, expected '}}' or an operator" },
  { "{% break %}", "1:1", "found break, expected it inside a for loop" },
}

function T.test_place_and_reason()
  for _, case in ipairs(ERRORS) do
    local segments, err = run(case[1])
    luaunit.assertNil(segments, case[1])
    luaunit.assertStrContains(tostring(err), "t:" .. case[2] .. ": ", false, false)
    luaunit.assertStrContains(tostring(err), case[3])
    luaunit.assertEquals(("%d:%d"):format(err.line, err.column), case[2])
    luaunit.assertEquals(err.template, "t")
  end
end

function T.test_codes()
  local _, err = run("{{ 1 + }}")
  luaunit.assertEquals(err.code, "template")
  _, err = run("{{ 'a' * 999999999 }}")
  luaunit.assertEquals(err.code, "budget")
end

function T.test_misuse()
  luaunit.assertErrorMsgContains("expected text", jinja.parse, 5)
  local t = assert(jinja.parse("x"))
  luaunit.assertErrorMsgContains("unknown budget 'step'", t.render, t, {},
    { budget = { step = 1 } })
  luaunit.assertErrorMsgContains("expected a whole number", t.render, t, {},
    { budget = { steps = "many" } })
  local _, err = run("{{ f }}", { f = print })
  luaunit.assertStrContains(tostring(err), "found a function among the values")
  local deep = {}
  local at = deep
  for _ = 1, 200 do
    at.x = {}
    at = at.x
  end
  _, err = run("{{ deep }}", { deep = deep })
  luaunit.assertStrContains(tostring(err), "nested deeper")
end

function T.test_render_after_error()
  local t = assert(jinja.parse(
    "{% macro f(n) %}{{ f(n + 1) if n >= 0 else 'ok' }}{% endmacro %}{{ f(n) }}"))
  for _ = 1, 3 do
    luaunit.assertNil((t:render { n = 0 }))
    luaunit.assertEquals(jinja.text(assert(t:render { n = -1 })), "ok")
  end
end

------------------------------------------------------------ hostile templates

local HOSTILE <const> = {
  "{% for i in range(1000000000) %}x{% endfor %}",
  "{% for i in range(20000) %}{% for j in range(20000) %}{% endfor %}{% endfor %}",
  "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
  "{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}",
  "{% set l = range(9999)|list %}{% for i in l %}{% for j in l %}{% endfor %}{% endfor %}",
  "{% set l = range(9999)|list %}{% for i in l %}{% for j in l %}{% continue %}{% endfor %}{% endfor %}",
  "{{ 'a' * 10**10 }}",
  "{{ 'a' * 10000000000 }}",
  "{{ ['a'] * 10000000000 }}",
  "{{ [[1]*1000]*1000*1000 }}",
  "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
  "{% macro m(n) %}{{ m(n+1) }}{{ m(n+1) }}{% endmacro %}{{ m(0) }}",
  "{% macro m(n) %}{% if n > 0 %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
  "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
  "{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}",
  "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
  "{% set l = [] %}{% set _ = l.append(l) %}{{ l == l }}{% set k = [] %}{% set _ = k.append(k) %}{{ l == k }}",
  "{% set d = {} %}{% set _ = d.update({'d': d}) %}{{ d|string }}",
  "{{ 'x'.center(10**9) }}",
  "{{ 'x'|center(1000000000) }}",
  "{{ 'a\nb'|indent(1000000000) }}",
  "{{ {'a':1}|tojson(indent=1000000000) }}",
  "{{ '%1000000000d' % 1 }}",
  "{{ '%.1000000000f' % 1.0 }}",
  "{{ '{:1000000000}'.format(1) }}",
  "{{ 'x'.ljust(2**40) }}",
  "{{ 2**100000000 }}",
  "{{ 10.0**400 }}",
  "{% set ns = namespace(l=[0]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l|length }}",
  "{% set ns = namespace(l=[0]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
  "{% set ns = namespace(l=[0]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
  "{% set ns = namespace(l=[0]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == [ns.l] }}",
  "{{ range(99999)|list|string|length }}{% for i in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
  "{% for i in range(99999) %}{{ range(99999)|join }}{% endfor %}",
  "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
  "{% set s = 'ab' * 4000000 %}{% for i in range(1000) %}{% set t = s.replace('a', 'aa') %}{% endfor %}",
  "{% set s = 'ab' * 1000000 %}{% for i in range(1000) %}{% set t = s.split('a') %}{% endfor %}",
  "{% set s = 'ab' * 1000000 %}{% for i in range(1000) %}{% set t = s|list %}{% endfor %}",
  "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{% set t = s[i] %}{% endfor %}",
  "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.find('b') }}{% endfor %}",
  "{% set s = ' ' * 4000000 %}{% for i in range(100000) %}{{ s|trim }}{% endfor %}",
  "{% for x in [1,2,3] recursive %}{{ loop([1,2,3]) }}{% endfor %}",
  "{% set x %}{% for i in range(99999) %}{{ 'y' * 999 }}{% endfor %}{% endset %}",
  "{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l|sort|first }}{% endfor %}",
  "{% set l = [] %}{% for i in l %}{% endfor %}{% for i in range(99999) %}{% set _ = l.append('x' * 100) %}{% endfor %}{% for i in range(9999) %}{% set _ = l.insert(0, i) %}{% endfor %}",
  "{{ ('a' * 100000).replace('', 'b' * 1000) }}",
  "{{ 'a'|replace('a', 'b' * 8000000)|replace('b', 'cc') }}",
  "{{ ''.join(['a' * 1000000] * 1000) }}",
  "{{ (['a' * 1000000] * 1000)|join }}",
  "{{ '%s%s%s%s' % (('a' * 4000000,) * 4) }}",
  "{{ ('%' * 4000000) % 1 }}",
  "{{ ('{}' * 1000000).format(1) }}",
  "{{ ('{' * 4000000).format(1) }}",
  "{{ ('<' * 4000000)|striptags }}",
  "{{ ('<!--' * 1000000)|striptags }}",
  "{{ ('a ' * 3000000)|title|length }}",
  "{{ ('a ' * 3000000)|wordcount }}",
  "{{ ('A' * 8000000).swapcase().title()|length }}",
  "{{ ('\\t' * 8000).expandtabs(1000000) }}",
  "{{ cycler.__class__ }}{{ ''.__class__.__mro__ }}",
  "{% include 'x' %}",
  "{% import 'x' as y %}",
  "{% extends 'x' %}",
  "{{ self }}{{ self.x() }}",
  "{{ ''|attr('__class__')|attr('mro') }}",
  "{{ strftime_now('%c' * 1000000) }}",
  "{{ ('a' * 4000000)|urlencode }}",
  "{{ ('&' * 4000000)|e }}",
  "{{ ('\\x01' * 3000000)|tojson }}",
  "{{ {'a': 1}.items()|list * 10000000 }}",
  "{{ dict(**dict(**dict())) }}{{ m(*range(99999)) }}",
  "{{ [1].index(2) }}",
}

-- Large sources: the parser has limits of its own.
local LARGE <const> = {
  rep("{% if true %}", 5000) .. rep("{% endif %}", 5000), rep("{% for i in [1] %}", 3000)
    .. rep("{% endfor %}", 3000),
  "{{ " .. rep("(", 50000) .. "1" .. rep(")", 50000) .. " }}", "{{ " .. rep("[", 50000) .. rep("]",
    50000) .. " }}",
  "{{ " .. rep("not ", 30000) .. "1 }}", "{{ a" .. rep("[0]", 40000) .. " }}", "{{ 1" .. rep("+1",
    50000) .. " }}",
  "{{ 'a'" .. rep("~'a'", 30000) .. " }}", "{{ 1" .. rep("|abs", 30000) .. " }}", "{{ " .. rep("-",
    100000) .. "1 }}",
  "{{ " .. rep("{1:", 20000) .. "1" .. rep("}", 20000) .. " }}", "{{ 1" .. rep(" if 1 else 1",
    10000) .. " }}",
  "{{ 1" .. rep("[1:2]", 20000) .. " }}", "{#" .. rep("{#", 60000), "{%" .. rep(" ", 120000),
    "{{ '" .. rep("\\", 100000), rep("{{", 60000),
  rep("{%", 60000), rep("{% raw %}", 14000), rep("{{ a }}", 18000), "{% set a = " .. rep("a,",
    60000) .. " %}", "{{ f(" .. rep("a,", 60000) .. ") }}",
  "{% for " .. rep("(", 100000), "{{ " .. rep("x.", 60000), "{{ a" .. rep("|b", 60000),
    "{% if a %}" .. rep("{% elif a %}", 10000) .. "{% endif %}",
  rep("x", 200000), "{{ 'a' if" .. rep(" a or", 20000) .. " a }}", rep("{% set a = a %}", 8000),
    "{% macro f(" .. rep("a,", 60000),
}

-- Each ends with output or an error that has a place, and output within its limit.
local function check_hostile(list)
  for i, source in ipairs(list) do
    perigee.sleep(0) -- a slice of its own for each
    local segments, err = run(source, { a = 1 })
    local what = ("%d: %s"):format(i, source:sub(1, 80))
    luaunit.assertTrue(segments ~= nil or tostring(err):find("^t:%d+:%d+: ") ~= nil, what .. ": "
      .. tostring(err))
    luaunit.assertTrue(segments == nil or #jinja.text(segments) <= 8 << 20, what)
  end
end

function T.test_hostile()
  check_hostile(HOSTILE)
end

function T.test_large()
  check_hostile(LARGE)
end

function T.test_budgets()
  local t = assert(jinja.parse("{% for i in range(1000) %}{{ i }}{% endfor %}", "t"))
  luaunit.assertNotNil((t:render {}))
  for name, value in pairs { steps = 500, output = 100, string = 1000 } do
    local segments, err = t:render({}, { budget = { [name] = value } })
    luaunit.assertNil(segments, name)
    luaunit.assertEquals(err.code, "budget", name)
  end
  local m = assert(jinja.parse(
    "{% macro f(n) %}{{ f(n - 1) if n else '' }}{% endmacro %}{{ f(30) }}", "t"))
  luaunit.assertNotNil((m:render {}))
  luaunit.assertNil((m:render({}, { budget = { depth = 20 } })))
  local grow = "{% set l = [] %}{% for i in range(6000) %}{% set _ = l.append('x' * 9000 ~ i) %}{% endfor %}"
  local segments, err = run(grow, {}, { budget = { memory = 1 << 20 } })
  luaunit.assertNil(segments)
  luaunit.assertStrContains(tostring(err), "memory")
end

------------------------------------------------------------ growth

-- Searches that published templates make for each message, over all the others.
local SEARCHES <const> = {
  "{% for m in ms %}{% set p = namespace(r=none, f=false) %}{% for j in range(loop.index0 - 1, -1, -1) %}{% if not p.f %}{% if ms[j] %}{% set p.f = true %}{% endif %}{% endif %}{% endfor %}{% endfor %}",
  "{% for m in ms %}{% set p = namespace(f=false) %}{% for k in range(loop.index0 + 1, ms|length) %}{%- if p.f -%}{%- elif ms[k] -%}{% set p.f = true %}{%- else -%}{{ k }}{%- endif -%}{% endfor %}{% endfor %}",
}

function T.test_searches_end_where_they_are_settled()
  local messages = {}
  for i = 1, 3000 do messages[i] = i end
  for _, source in ipairs(SEARCHES) do
    perigee.sleep(0)
    local segments, err = run(source, { ms = messages }, { budget = { steps = 60 * 3000 } })
    luaunit.assertNil(err)
    luaunit.assertEquals(segments, {})
  end
end

return T
