# SPDX-License-Identifier: MIT
"""Small random templates: make(rng) gives a template and its variables.

Expressions are drawn by type, so that most of them mean something; now and then a type is mixed up on purpose, to compare errors.
"""
import copy
import re

VARIABLES = {
    "s": "Hello, World", "u": "Grüße 日本 🌍", "e": "", "t": " \t padded\nlines \r\n", "q": "it's \"q\" \\ <b>&",
    "i": 7, "n": -3, "z": 0, "f": 2.5, "g": -0.125, "y": True, "no": False, "nil": None,
    "l": [3, 1, 2], "m": ["b", "A", "c", "a"], "k": [], "d": {"b": 1, "a": "x", "c": [1, {"z": None}]},
    "o": [{"n": "x", "v": 2, "in": {"k": 1}}, {"n": "Y", "v": 1, "in": {"k": 3}}, {"n": "z", "v": 3, "in": {}}],
    "h": {}, "p": [[1, "one"], [2, "two"]], "w": [1.5, True, None, "s", [1], {"a": 1}],
}
STRINGS = ["s", "u", "e", "t", "q", "'a'", "'a,b,,c'", '"x\\ny"', "'%s|%5d'", "'é'", "'ABC def'", "'12'", "'-1.5e3'", "'{}-{}'"]
NUMBERS = ["i", "n", "z", "f", "g", "0", "1", "2", "3", "10", "1.0", "0.5", "-1", "1e3", "y", "1_000", "0x1f", "12345678901"]
LISTS = ["l", "m", "k", "o", "p", "w", "[1, 2, 3]", "['x', s]", "(1, 'a')", "[]", "range(4)", "range(5, 0, -2)", "(1,)"]
DICTS = ["d", "h", "{'a': 1}", "{'x': s, 'y': [i]}", "o[0]", "dict(a=1, b='c')", "{1: 2, none: 3, 1.5: 'f'}"]
OTHERS = ["nil", "nope", "y", "no", "none", "true"]

TEXT_FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "list", "first", "last", "reverse", "string",
                "escape", "safe", "wordcount", "int", "float", "tojson", "indent", "indent(2, true)", "indent('>> ', blank=true)",
                "replace('l', 'LL')", "replace('', '-', 2)", "truncate(8)", "truncate(5, true, '~', 0)", "center(20)",
                "trim('Hd')", "default('x')", "urlencode", "striptags", "forceescape", "e|upper", "join('-')", "unique|list",
                "sort|join", "batch(2)|list", "map('upper')|list", "select('in', 'abc')|list", "count", "int(5)",
                "int(0, 16)", "float(1.5)", "tojson(ensure_ascii=true)", "format(1, 2)", "format('q')", "max", "min",
                "slice(2)|list", "items", "abs", "round", "filesizeformat", "attr('upper')", "d('z', true)", "random_filter"]
LIST_FILTERS = ["length", "first", "last", "list", "join", "join(', ')", "sort", "sort(reverse=true)", "reverse|list", "unique|list",
                "sum", "min", "max", "tojson", "tojson(indent=2)", "string", "map('string')|list", "select|list", "reject('odd')|list",
                "selectattr('v')|list", "selectattr('v', 'gt', 1)|map(attribute='n')|join(',')", "rejectattr('n', 'eq', 'x')|list",
                "map(attribute='n')|list", "map(attribute='in.k', default='?')|list", "sort(attribute='v')|map(attribute='n')|list",
                "sort(attribute='n', case_sensitive=true)|map(attribute='v')|list", "groupby('v')|list", "batch(2, 'x')|list",
                "slice(2, 'f')|list", "sum(attribute='v')", "sum(start=10)", "map('upper')|join('|')", "dictsort", "items|list",
                "default('x')", "sort(case_sensitive=true)", "tojson(separators=(',', ':'))", "count", "min(attribute='v')",
                "unique(attribute='v')|list", "list|tojson", "map('length')|list", "map('default', 'q')|list", "pprint_none",
                "sort(attribute='v,n')|list|length", "select('string')|list", "map('int')|list", "random_", "last|string"]
DICT_FILTERS = ["items|list", "dictsort", "dictsort(reverse=true)", "dictsort(by='value')", "tojson", "tojson(indent=4)",
                "tojson(sort_keys=true)", "length", "list", "string", "first", "join(',')", "default(1)", "xmlattr", "urlencode",
                "map('upper')|list", "sort", "tojson(indent=1, separators=(', ', ':'))", "max"]
NUMBER_FILTERS = ["abs", "int", "float", "round", "round(1)", "round(2, 'floor')", "round(1, 'ceil')", "string", "tojson",
                  "filesizeformat", "filesizeformat(true)", "default(3)", "upper", "length", "round(-1)", "center(9)", "format"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "true", "false",
         "integer", "float", "odd", "even", "divisibleby(3)", "divisibleby 2", "eq(1)", "equalto 7", "ne 'a'", "gt 2", "lt(5)",
         "ge 0", "le 3", "in [1, 'a', 7]", "in 'Hello'", "upper", "lower", "sameas(none)", "sameas true", "callable", "escaped",
         "filter", "test", "greaterthan 1", "lessthan 1"]
TEXT_METHODS = ["upper()", "lower()", "title()", "capitalize()", "strip()", "lstrip()", "rstrip()", "strip('Hd')", "lstrip('He ')",
                "rstrip('dc')", "split()", "split(',')", "split('l', 1)", "rsplit('l', 1)", "rsplit(none, 1)", "split(maxsplit=1)",
                "splitlines()", "splitlines(true)", "startswith('H')", "endswith(('d', 'c'))", "find('o')", "rfind('o')", "find('o', 5)",
                "index('l')", "count('l')", "replace('l', 'r')", "replace('l', 'r', 1)", "join(['a', 'b'])", "join(m)", "isdigit()",
                "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()", "zfill(15)", "ljust(14, '.')",
                "rjust(14)", "center(15, '*')", "swapcase()", "partition(',')", "rpartition('l')", "removeprefix('He')",
                "removesuffix('ld')", "expandtabs(4)", "format(1, 2)", "format('a', x=2)", "casefold()", "isnumeric()",
                "isdecimal()", "isascii()", "isidentifier()", "isprintable()", "encode_x()", "startswith('l', 2)", "rindex('l')",
                "endswith('o', 0, 5)", "count('l', 3)", "title().swapcase()"]
LIST_METHODS = ["count(1)", "index(2)", "index('b')", "copy()", "__len__()", "nothing()", "append(1)", "pop()", "pop(0)", "reverse()",
                "sort()", "extend([1])", "insert(1, 'x')", "remove(1)"]
DICT_METHODS = ["get('a')", "get('zz')", "get('zz', 5)", "keys()", "values()", "items()", "keys()|list", "values()|list",
                "items()|list", "copy()", "pop('a')", "pop('q', 2)", "setdefault('n', 1)", "update({'u': 1})", "update(v=2)"]
SUBSCRIPTS = ["[0]", "[-1]", "[1]", "[1:]", "[:2]", "[::-1]", "[::2]", "[-3:-1]", "[5:]", "[9]", "['a']", "['b']", ".a", ".c", ".0",
              "[1:0:-1]", "[:-1]", "['items']", ".length", "[none]", "['n']", ".n", "[-100:100]", "[3::-2]", "[:0:-1]"]
FORMATS = ["'%s'", "'%d'", "'%5.1f|'", "'%r'", "'%x'", "'%-6s|'", "'%05d'", "'%e'", "'%g'", "'%+d'", "'%c'", "'%%'", "'%s %s'",
           "'%(a)s'", "'%o'", "'%i'", "'%.3s|'", "'%#x'", "'% d'", "'%10.4s|'"]
FIELDS = ["'{}'", "'{:>8}|'", "'{:<8}|'", "'{:^9}|'", "'{:05d}'", "'{:.2f}'", "'{!r}'", "'{0}{0}'", "'{:,}'", "'{:+}'", "'{:x}'",
          "'{:*^9}'", "'{:e}'", "'{:g}'", "'{:%}'", "'{0[a]}'", "'{:b}'", "'{{}}'", "'{:10.3f}'", "'{:_}'", "'{:s}'", "'{:.3}'"]


def pick(rng, *lists):
    return rng.choice(rng.choice(lists))


def text(rng, depth):
    if depth <= 0 or rng.random() < 0.25:
        return rng.choice(STRINGS)
    a = lambda: text(rng, depth - 1)
    kind = rng.randrange(11)
    if kind == 0:
        return f"({a()} + {a()})"
    if kind == 1:
        return f"({a()} ~ {anything(rng, depth - 1)})"
    if kind == 2:
        return f"{a()}.{rng.choice(TEXT_METHODS)}"
    if kind in (3, 4):
        return f"({a()}|{rng.choice(TEXT_FILTERS)})"
    if kind == 5:
        return f"{a()}{rng.choice(SUBSCRIPTS)}"
    if kind == 6:
        return f"({a()} * {rng.choice(['2', '0', '-1', '3', 'y'])})"
    if kind == 7:
        return f"({rng.choice(FORMATS)} % {pick(rng, NUMBERS, STRINGS, DICTS, ['(i, s)', '(f,)', 'l'])})"
    if kind == 8:
        return f"{rng.choice(FIELDS)}.format({pick(rng, NUMBERS, STRINGS, DICTS, ['i, s', 'f, n', 'd'])})"
    if kind == 9:
        return f"({anything(rng, depth - 1)}|string)"
    return f"({anything(rng, depth - 1)}|tojson)"


def number(rng, depth):
    if depth <= 0 or rng.random() < 0.25:
        return rng.choice(NUMBERS)
    a = lambda: number(rng, depth - 1)
    kind = rng.randrange(7)
    if kind < 3:
        return f"({a()} {rng.choice(['+', '-', '*', '/', '//', '%'])} {a()})"
    if kind == 3:
        return f"({a()} ** {rng.choice(['2', '0', '-1', '0.5', '3', 'n'])})"
    if kind == 4:
        return f"(-{a()})"
    if kind == 5:
        return f"({a()}|{rng.choice(NUMBER_FILTERS)})"
    return f"({anything(rng, depth - 1)}|{rng.choice(['length', 'int', 'float'])})"


def items(rng, depth):
    if depth <= 0 or rng.random() < 0.3:
        return rng.choice(LISTS)
    kind = rng.randrange(6)
    if kind == 0:
        return f"({items(rng, depth - 1)} + {items(rng, depth - 1)})"
    if kind == 1:
        return f"[{anything(rng, depth - 1)}, {anything(rng, depth - 1)}]"
    if kind == 2:
        return f"{items(rng, depth - 1)}.{rng.choice(LIST_METHODS)}"
    if kind == 3:
        return f"{items(rng, depth - 1)}{rng.choice(SUBSCRIPTS)}"
    return f"({items(rng, depth - 1)}|{rng.choice(LIST_FILTERS)})"


def mapping(rng, depth):
    if depth <= 0 or rng.random() < 0.3:
        return rng.choice(DICTS)
    kind = rng.randrange(4)
    if kind == 0:
        return f"{{{pick(rng, STRINGS, NUMBERS)}: {anything(rng, depth - 1)}, 'k': {anything(rng, depth - 1)}}}"
    if kind == 1:
        return f"{mapping(rng, depth - 1)}.{rng.choice(DICT_METHODS)}"
    if kind == 2:
        return f"{mapping(rng, depth - 1)}{rng.choice(SUBSCRIPTS)}"
    return f"({mapping(rng, depth - 1)}|{rng.choice(DICT_FILTERS)})"


def truth(rng, depth):
    a = lambda: anything(rng, depth - 1)
    kind = rng.randrange(8)
    if depth <= 0:
        return rng.choice(["y", "no", "true", "false"])
    if kind == 0:
        return f"({a()} {rng.choice(['==', '!='])} {a()})"
    if kind == 1:
        f = rng.choice([text, number, anything])
        return f"({f(rng, depth - 1)} {rng.choice(['<', '<=', '>', '>='])} {f(rng, depth - 1)})"
    if kind == 2:
        return f"({a()} {rng.choice(['in', 'not in'])} {rng.choice([text, items, mapping])(rng, depth - 1)})"
    if kind in (3, 4):
        return f"({a()} is {rng.choice(['', '', 'not '])}{rng.choice(TESTS)})"
    if kind == 5:
        return f"({a()} {rng.choice(['and', 'or'])} {a()})"
    if kind == 6:
        return f"(not {a()})"
    return f"({number(rng, depth - 1)} < {number(rng, depth - 1)} <= {number(rng, depth - 1)})"


def anything(rng, depth):
    if depth <= 0:
        return pick(rng, STRINGS, NUMBERS, LISTS, DICTS, OTHERS)
    kind = rng.randrange(14)
    if kind < 3:
        return text(rng, depth)
    if kind < 5:
        return number(rng, depth)
    if kind < 7:
        return items(rng, depth)
    if kind < 9:
        return mapping(rng, depth)
    if kind < 11:
        return truth(rng, depth)
    if kind == 11:
        end = rng.choice([f" else {anything(rng, depth - 1)}", ""])
        return f"({anything(rng, depth - 1)} if {truth(rng, depth - 1)}{end})"
    if kind == 12:
        filters = TEXT_FILTERS + LIST_FILTERS + DICT_FILTERS + NUMBER_FILTERS
        return f"({anything(rng, depth - 1)}|{rng.choice(filters)})"
    return f"{anything(rng, depth - 1)}{rng.choice(SUBSCRIPTS)}"


TAGS = [("{%", "%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%-", "-%}"), ("{%+", "%}"), ("{%", "+%}")]
TEXTS = ["x", "\n", "  ", " a\n  ", "\n\n", "b \n\t", "{# c #}", "{#- c -#}\n", "  {# d #}\n", "{% raw %} {{ r }}\n{% endraw %}\n", "<|im_start|>", "\r\n"]


def tag(rng, inner):
    a, b = rng.choice(TAGS)
    return f"{a} {inner} {b}"


def body(rng, depth):
    return "".join(statement(rng, depth - 1) for _ in range(rng.randint(1, 3)))


def loop(rng, depth):
    target, over = rng.choice([("x", items(rng, 1)), ("x", text(rng, 1)), ("a, b", "d.items()"), ("a, b", "p"), ("x", mapping(rng, 1)),
                               ("a, b", "o"), ("(a, b)", "d|dictsort")])
    end = rng.choice(["", "", f" if {truth(rng, 2)}", " if x != 1", " if loop is defined"])
    out = tag(rng, f"for {target} in {over}{end}") + body(rng, depth)
    out += "{{ " + rng.choice(["loop.index", "loop.index0", "loop.last", "loop.first", "loop.length", "loop.revindex", "loop.previtem",
                               "loop.nextitem", "loop.cycle('o', 'e')", "loop.changed(x)", "x", "a", "loop.depth", "loop.revindex0"]) + " }}"
    if rng.random() < 0.2:
        out += tag(rng, "if " + truth(rng, 1)) + tag(rng, rng.choice(["break", "continue"])) + tag(rng, "endif")
    if rng.random() < 0.3:
        out += tag(rng, "else") + body(rng, depth)
    return out + tag(rng, "endfor")


def statement(rng, depth):
    kind = rng.randrange(13)
    if kind < 4 or depth <= 0:
        return rng.choice(TEXTS) + "{{" + rng.choice(["", "-", " "]) + " " + anything(rng, 2) + " " + rng.choice(["", "-"]) + "}}"
    if kind == 4:
        return loop(rng, depth)
    if kind == 5:
        out = tag(rng, "if " + anything(rng, 2)) + body(rng, depth)
        if rng.random() < 0.4:
            out += tag(rng, "elif " + truth(rng, 2)) + body(rng, depth)
        if rng.random() < 0.4:
            out += tag(rng, "else") + body(rng, depth)
        return out + tag(rng, "endif")
    if kind == 6:
        return tag(rng, f"set {rng.choice(['x', 's', 'v1', 'a, b'])} = {anything(rng, 2)}")
    if kind == 7:
        filters = rng.choice(["", "", "|upper", "|trim", "|length"])
        return tag(rng, f"set v1{filters}") + body(rng, depth) + tag(rng, "endset") + "{{ v1 }}"
    if kind == 8:
        return ("{% set ns = namespace(a=1, b=s) %}" + tag(rng, "for x in l") + "{% set ns.a = ns.a + x %}" + body(rng, depth) +
                tag(rng, "endfor") + "{{ ns.a }}{{ ns.b }}{{ ns.c }}")
    if kind == 9:
        params = rng.choice(["a", "a, b=2", "a=s, b=i", "", "a, b=a"])
        use = rng.choice(["{{ a }}{{ b }}", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller else 'nc' }}", ""])
        args = rng.choice(["1", "1, 2", "", "b=3", "a=1", "1, 2, 3", "1, c=2", "*l", "**d", "1, b=s"])
        out = tag(rng, f"macro f({params})") + body(rng, depth) + use + tag(rng, "endmacro") + "{{ f(" + args + ") }}"
        if rng.random() < 0.3:
            out += tag(rng, "call f(1)") + body(rng, depth) + tag(rng, "endcall")
        return out
    if kind == 10:
        return tag(rng, f"filter {rng.choice(['upper', 'trim', 'indent(2)', 'replace(s, 1)', 'length'])}") + body(rng, depth) + tag(rng, "endfilter")
    if kind == 11:
        return tag(rng, f"with a = {anything(rng, 2)}, x = {anything(rng, 1)}") + body(rng, depth) + "{{ a }}" + tag(rng, "endwith")
    return tag(rng, "generation") + body(rng, depth) + tag(rng, "endgeneration")


def make(rng):
    """A template and its variables."""
    if rng.random() < 0.6:
        return "{{ " + anything(rng, rng.choice([1, 1, 2, 3])) + " }}", copy.deepcopy(VARIABLES)
    source = body(rng, 3)
    if rng.random() < 0.1:
        at = rng.randrange(len(source))
        source = source[:at] + source[at + rng.randint(1, 3):]
    return source, copy.deepcopy(VARIABLES)


ADDRESS = re.compile(r"0x[0-9a-f]+|<(built-in )?(method|function)|object at|<generator|<dict_|<[a-z_.]*reverse|<class|bound method", re.I)


def is_known(source, expected, got):
    """Differences that are accepted: what Python prints of objects (addresses), integers of more than 64 bits, complex numbers,
    slices of constants that cannot be sliced (an error for variables, undefined when Jinja folds the constant), and unknown
    filters in a part that folding removes."""
    if expected[0] and ADDRESS.search(expected[1]):
        return True
    return not got[0] and bool(re.search(r"64 bits|\*\* a fraction|found a slice of|found (filter|test) '", got[1]))
