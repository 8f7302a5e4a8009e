-- SPDX-License-Identifier: MIT
-- luacheck: ignore 631 (templates stand in one line each)
-- The interpreter of chat templates: the cases of tests/cases/jinja (made by Python's Jinja, see
-- tests/jinja/make_cases.py) and the marks of input.  Run from the top folder of the source, with
-- --allow fs.read=tests/cases.
local luaunit = require "luaunit"
local jinja = require "perigee.jinja"
local perigee = require "perigee"

local json = perigee.json
local T = {}

local NOW <const> = { year = 2026, month = 3, day = 9, hour = 14, min = 5, sec = 7 }
local FILES <const> = { "containers", "logic", "numbers", "statements", "text", "whitespace",
  "published" }

------------------------------------------------------------ cases

-- The cases of a file: name, vars, template, and output, error or ours.
local function cases_of(text)
  local cases, part = {}, nil
  for line in text:gmatch("([^\n]*)\n") do
    local case = cases[#cases]
    if line:sub(1, 3) == "== " then
      cases[#cases + 1] = { name = line:sub(4) }
      part = nil
    elseif line:sub(1, 3) == "-- " and case then
      part = line:sub(4)
      case[part] = {}
    elseif part then
      table.insert(case[part], line)
    end
  end
  for _, case in ipairs(cases) do
    for name, lines in pairs(case) do
      case[name] = name == "name" and lines or table.concat(lines, "\n")
    end
  end
  return cases
end

-- What is wrong with a case, or nil.
local function check(case)
  local vars = assert(json.decode(case.vars or "{}"))
  local t, err = jinja.parse(case.template, "case")
  local segments
  if t then
    segments, err = t:render(vars, { now = NOW })
  end
  local expected = case.ours or case.output
  if not expected then
    if segments then
      return "rendered, expected the error " .. case.error
    end
    return not tostring(err):find("^case:%d+:%d+: ") and "error without a place: "
      .. tostring(err) or nil
  elseif not segments then
    return tostring(err)
  end
  local text = jinja.text(segments)
  return text ~= expected and ("found %q, expected %q"):format(text, expected) or nil
end

for _, file in ipairs(FILES) do
  T["test_cases_of_" .. file] = function()
    local bad, cases = {}, cases_of(assert(perigee.fs.read("tests/cases/jinja/" .. file .. ".case")))
    luaunit.assertTrue(#cases > (file == "published" and 30 or 50))
    for _, case in ipairs(cases) do
      local problem = check(case)
      if problem then
        bad[#bad + 1] = case.name .. ": " .. problem
      end
    end
    luaunit.assertEquals(table.concat(bad, "\n"), "")
  end
end

------------------------------------------------------------ marks

local function render(source, vars, options)
  local t = assert(jinja.parse(source, "t"))
  return t:render(vars or {}, options)
end

-- Segments as text, input between brackets.
local function marked(source, vars)
  local segments = assert(render(source, vars))
  local out = {}
  for i, s in ipairs(segments) do
    out[i] = s.input and "[" .. s.text .. "]" or s.text
  end
  return table.concat(out)
end

-- Exactly the bytes from input are marked.
local EXACT <const> = {
  { "a{{ v }}b", "a[xYz]b" }, { "{{ v + v }}", "[xYzxYz]" }, { "{{ 'a' + v + 'b' }}", "a[xYz]b" },
  { "{{ v ~ 1 ~ v }}", "[xYz]1[xYz]" }, { "{{ v * 2 }}", "[xYzxYz]" }, { "{{ (v + '-') * 2 }}",
    "[xYz]-[xYz]-" },
  { "{{ v[1:] }}", "[Yz]" }, { "{{ ('a' + v + 'b')[::-1] }}", "b[zYx]a" }, { "{{ ('a' + v)[0] }}",
    "a" },
  { "{{ v|upper }}", "[XYZ]" }, { "{{ ('ab' ~ v)|capitalize }}", "Ab[xyz]" },
    { "{{ (' ' + v + ' ')|trim }}", "[xYz]" },
  { "{{ v|replace('Y', '--') }}", "[x]--[z]" }, { "{{ 'a-b'|replace('-', v) }}", "a[xYz]b" },
  { "{{ ['a', v]|join(', ') }}", "a, [xYz]" }, { "{{ ['a', 'b']|join(v) }}", "a[xYz]b" },
  { "{{ {'k': v}|tojson }}", '{"k": "[xYz]"}' }, { "{{ [v, 'a'] }}", "['[xYz]', 'a']" },
  { "{{ '%s-%s' % (v, 'a') }}", "[xYz]-a" }, { "{{ '{}-{}'.format('a', v) }}", "a-[xYz]" },
  { "{{ (v ~ ',a').split(',')[0] }}", "[xYz]" }, { "{{ (v ~ ',a').split(',')[1] }}", "a" },
  { "{% set x %}a{{ v }}{% endset %}{{ x }}", "a[xYz]" },
    { "{% macro m(p) %}<{{ p }}>{% endmacro %}{{ m(v) }}", "<[xYz]>" },
  { "{% filter upper %}a{{ v }}{% endfilter %}", "A[XYZ]" }, { "{{ v|e }}", "[xYz]" },
    { "{{ v|indent }}", "[xYz]" },
  { "{{ v.center(7, '*') }}", "**[xYz]**" }, { "{% for c in v %}{{ c }}.{% endfor %}",
    "[x].[Y].[z]." },
  { "{% call(x) m() %}{{ x }}{% endcall %}{% macro m() %}{% endmacro %}", nil },
}

function T.test_marks_exact()
  for _, case in ipairs(EXACT) do
    if case[2] then
      luaunit.assertEquals(marked(case[1], { v = jinja.input("xYz") }), case[2])
    end
  end
end

-- How to use each filter and method on v (text), l (a list of it) and d (a dict of it); every name
-- must be here.
local FILTERS <const> = {
  abs = "1|abs", attr = "d|attr('get')('qz')", batch = "l|batch(2, v)|list",
    capitalize = "v|capitalize", center = "v|center(20)",
  count = "v|count", d = "nope|d(v)", default = "nope|default(v)", dictsort = "d|dictsort",
    e = "v|e", escape = "v|escape",
  filesizeformat = "5|filesizeformat", first = "l|first ~ v|first", float = "v|float",
    forceescape = "v|forceescape",
  format = "'%s %(a)s'|format(a=v) if no else '%s'|format(v) ~ (v ~ '%%%s')|format(v)",
    from_json = "('[\"' ~ v ~ '\"]')|from_json",
  groupby = "[d]|groupby('qz')", indent = "v|indent(v, true)", int = "v|int",
    items = "d|items|list", join = "l|join(v)",
  last = "l|last ~ v|last", length = "v|length", list = "v|list", lower = "v|lower",
    map = "l|map('upper')|list ~ [d]|map(attribute='qz')|list",
  max = "l|max", min = "l|min", reject = "l|reject('none')|list",
    rejectattr = "[d]|rejectattr('zz')|list", replace = "v|replace('z', v)",
  reverse = "v|reverse ~ l|reverse|list", round = "1|round", safe = "v|safe",
    select = "l|select|list", selectattr = "[d]|selectattr('qz')|list",
  slice = "l|slice(2, v)|list", sort = "l|sort", string = "d|string ~ v|string ~ l|string",
    striptags = "v|striptags", sum = "[l, l]|sum(start=[])",
  title = "v|title",
    tojson = "d|tojson ~ l|tojson(indent=v, ensure_ascii=true) ~ d|tojson(separators=[v, v], sort_keys=true)",
  trim = "v|trim ~ (' ' ~ v)|trim('a')", truncate = "v|truncate(5, true, v[:1], 0)",
    unique = "l|unique|list", upper = "v|upper",
  urlencode = "v|urlencode ~ d|urlencode", wordcount = "v|wordcount", xmlattr = "d|xmlattr",
}
local METHODS <const> = {
  str = { format = "v.format() ~ '{0} {a:>9} {0!r}'.format(v, a=v) ~ (v ~ '{:q>9}').format(1) ~ '{:>{}}'.format(v, 9)",
    format_map = "'{a}'.format_map({'a': v})", join = "v.join(l)",
      replace = "v.replace('z', v) ~ v.replace('', v)", split = "v.split('z') ~ v.split()",
    rsplit = "v.rsplit('z', 1) ~ v.rsplit(none, 1)", partition = "v.partition('z')",
      rpartition = "v.rpartition('z')",
    ljust = "v.ljust(20, v[0])", rjust = "v.rjust(20, v[0])", center = "v.center(20, v[0])",
      zfill = "v.zfill(20)",
    removeprefix = "v.removeprefix('q')", removesuffix = "v.removesuffix('z')",
      startswith = "v.startswith(v)", endswith = "v.endswith(v)",
    find = "v.find(v)", rfind = "v.rfind(v)", index = "v.index(v)", rindex = "v.rindex(v)",
      count = "v.count(v)",
    expandtabs = "(v ~ '\\t').expandtabs()", splitlines = "(v ~ '\\n' ~ v).splitlines(true)",
      strip = "v.strip('a') ~ (' ' ~ v).strip()" },
  list = { append = "(l.append(v) or l)", extend = "(l.extend([v]) or l)",
    insert = "(l.insert(0, v) or l)", pop = "l.copy().pop()",
    clear = "(l.copy().clear() or l)", remove = "(l + [v]).remove(v)", count = "l.count(v)",
      index = "(l + [v]).index(v)" },
  tuple = { count = "(v, v).count(v)", index = "(v, v).index(v)" },
  dict = { get = "d.get('qz') ~ d.get('a', v)", pop = "d.copy().pop('qz')",
    popitem = "d.copy().popitem()",
    clear = "d.copy().clear()", setdefault = "d.setdefault('a', v)",
      update = "(d.update({v: v}) or d.update(**d) or d)" },
  range = { count = "range(3).count(v)", index = "range(3).index(1)" }, bool = {}, int = {},
    float = {},
}
local OTHERS <const> = {
  "dict(**d)", "dict(d, **d)", "namespace(**d)", "joiner(v)() ~ joiner(v)", "cycler(v, v).next()",
    "cycler(v).current", "strftime_now(v)",
  "v and v", "no or v", "v if true else no", "[v] + [v]", "(v,) + (v,)", "[v] * 3", "{v: v}",
    "(v, [v, {v: (v,)}])", "v[::2]", "v[-2:]", "l[1:]",
  "('%' ~ v) % 1 if no else v", "(v ~ '%s%%%r') % (v, v)",
    "'%-9s|%(a)s' % {'a': v} if no else '%9.3s' % v", "v|e + '<' ~ ('<'|safe + v)",
  "('<%s>'|safe) % v", "(v|safe).join([v, '<'])", "(v|safe).upper()", "v|safe|replace('z', v)",
    "d.items()|list", "d.keys()|list", "d.values()|list",
  "d", "d.keys()", "l|map('replace', 'q', v)|list", "(d|tojson|from_json)|string",
    "d|string|upper|title|trim|list|join",
}

-- No letter of the input (q and z in any case) may stand in a segment that is not input.
local function check_kept(expression)
  local vars = { v = jinja.input("qzé<Z"), l = { jinja.input("Qz"), jinja.input("zq") },
    d = jinja.input(json.decode('{"qz": "zQ"}')), no = false }
  local source = "{{ " .. expression .. " }}{% set x %}{{ " .. expression
    .. " }}{% endset %}{{ x }}"
  local t, err = jinja.parse(source, "kept")
  luaunit.assertNotNil(t, expression .. ": " .. tostring(err))
  local segments, why = t:render(vars, { now = NOW })
  luaunit.assertNotNil(segments, expression .. ": " .. tostring(why))
  for _, s in ipairs(segments) do
    luaunit.assertTrue(s.input or not s.text:find("[qzQZ]"), expression .. ": lost in " .. s.text)
  end
end

function T.test_marks_filters_keep()
  for name, f in pairs(require "perigee.jinja.filters") do
    if type(f) == "table" then
      luaunit.assertNotNil(FILTERS[name], "no use of the filter " .. name)
      check_kept(FILTERS[name])
    end
  end
end

function T.test_marks_methods_keep()
  local uses = { str = "v", list = "l", dict = "d", tuple = "(v, v)", range = "range(3)",
    float = "1.5" }
  for kind, methods in pairs(require "perigee.jinja.methods") do
    for name, m in pairs(type(methods) == "table" and methods or {}) do
      if type(m) == "table" then
        local use = METHODS[kind][name] or ("(%s.%s()) ~ %s"):format(uses[kind], name, uses[kind])
        check_kept(use)
      end
    end
  end
end

function T.test_marks_others_keep()
  for _, expression in ipairs(OTHERS) do
    check_kept(expression)
  end
end

function T.test_marks_segments()
  local segments = assert(render("a{{ v }}{{ v }}b{{ '' }}c", { v = jinja.input("x") }))
  luaunit.assertEquals(segments, { { text = "a", input = false }, { text = "xx", input = true },
    { text = "bc", input = false } })
  luaunit.assertEquals(jinja.text(segments), "axxbc")
  luaunit.assertEquals(assert(render("", {})), {})
  luaunit.assertEquals(jinja.input(5), 5)
end

return T
