#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_cases.py [--check] FILE.case ... - fill in what Python's Jinja says about the cases of tests/cases/jinja.

A case file is text. Each case is

    == name of the case
    -- vars
    {"x": 1}
    -- template
    {{ x + 1 }}
    -- output
    2

The part vars may be left out. The parts output (exact text, without the last line break) or error (the oracle's words, which ours
need not repeat: only that it fails counts) are written by this program; to add a case, write its name, vars and
template, and run it. --check changes nothing and fails when a part differs. A case with the part "ours" instead of output
or error states by hand what our interpreter does differently, and why in its name.
"""
import json
import sys

import oracle


def read(path):
    """[[name, {part: text}]]"""
    cases, part = [], None
    with open(path, encoding="utf-8", newline="") as f:
        for line in f.read().split("\n"):
            if line.startswith("== "):
                cases.append([line[3:], {}])
                part = None
            elif line.startswith("-- ") and cases:
                part = line[3:]
                cases[-1][1][part] = []
            elif part is not None:
                cases[-1][1][part].append(line)
    for case in cases:
        for name, lines in case[1].items():
            if lines and lines[-1] == "" and case is cases[-1] and name == list(case[1])[-1]:
                lines.pop()
            case[1][name] = "\n".join(lines)
    return cases


def main():
    check = "--check" in sys.argv
    bad = 0
    for path in [a for a in sys.argv[1:] if not a.startswith("--")]:
        with open(path, encoding="utf-8", newline="") as f:
            old = f.read()
        head = old[:old.index("== ")]
        out = []
        for name, parts in read(path):
            text = f"== {name}\n"
            if "vars" in parts:
                text += f"-- vars\n{parts['vars']}\n"
            text += f"-- template\n{parts['template']}\n"
            ok, result = oracle.render(oracle.environment(allow_changes=True), parts["template"], json.loads(parts.get("vars", "{}")))
            if "ours" in parts:
                text += f"-- ours\n{parts['ours']}\n"
            elif ok:
                text += f"-- output\n{result}\n"
            else:
                text += f"-- error\n{result.splitlines()[0] if result else ''}\n"
            out.append(text)
        new = head + "".join(out)
        if new != old and check:
            print(f"{path}: differs from what the oracle says")
            bad += 1
        elif new != old:
            with open(path, "w", encoding="utf-8", newline="") as f:
                f.write(new)
        print(f"{path}: {len(out)} cases")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
