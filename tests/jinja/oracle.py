# SPDX-License-Identifier: MIT
"""Python's Jinja in the environment transformers uses for chat templates: the oracle of compare.py and make_cases.py.

Known difference: the sandbox refuses methods that change lists and dicts (.append, .update); ours has them, because
published templates use them.  allow_changes=True makes the oracle have them too.
"""
import datetime
import json
import sys
import warnings

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

warnings.simplefilter("ignore", SyntaxWarning)  # Python's about the code Jinja makes of odd constants
NOW = datetime.datetime(2026, 3, 9, 14, 5, 7)


class Generation(jinja2.ext.Extension):
    """{% generation %}: marks what the model wrote; renders its body."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment(allow_changes=False):
    kind = SandboxedEnvironment if allow_changes else ImmutableSandboxedEnvironment
    env = kind(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.filters["from_json"] = json.loads
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, source, variables):
    """(True, text) or (False, error)."""
    try:
        text = env.from_string(source).render(**variables)
        text.encode("utf-8")
        return True, text
    except Exception as error:  # whatever Python raises is what the template did wrong
        return False, f"{type(error).__name__}: {error}"


if sys.version_info < (3, 9):
    raise SystemExit("oracle.py: Python 3.9 or newer expected")
