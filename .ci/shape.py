#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shape.py [ROOT] - sizes of the source against the budgets: reports the aims, fails at the hard limits.

A file that has to pass a hard limit says so in its head comment, in a line "Budget: WHAT - reason", WHAT being lines,
function, parameters, nesting or columns. Heads that say "pure table" or "generated" exempt from lines and columns.
"""
import os
import re
import sys

LIMITS = {  # what: (aim, hard)
    "lines": (400, 1000), "function": (40, 100), "parameters": (5, 7), "nesting": (3, 4), "columns": (92, 100),
}
FILES = {  # path: (aim, hard) lines
    "include/perigee/perigee.h": (350, 450), "include/perigee/plugin.h": (350, 450), "CMakeLists.txt": (100, 160),
}
LUA_FILE, LUA_FUNCTION, SPEC = (200, 500), (30, 60), (40, 80)
COMMENT_SHARE = (10, 30)   # per cent of the lines of all .c and .h files
CALLBACKS = 32             # function pointers of the plugin's table
failures, notes = [], []


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def strip(source):
    """The source without comments, texts and preprocessor lines; the line structure stays."""
    source = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, source, flags=re.S)
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", blank, source, flags=re.M)


def comment_lines(source):
    found = re.findall(r"/\*.*?\*/|//[^\n]*", source, flags=re.S)
    return sum(c.count("\n") + 1 for c in found)


def functions(source):
    """(name, line, lines, parameters, nesting) of each function definition."""
    text, depth, start, out = strip(source), 0, 0, []
    i = 0
    while i < len(text):
        c = text[i]
        if c in ";}" and depth == 0:
            start = i + 1
        if c == "{" and depth == 0:
            head = text[start:i]
            end, inner, deepest = i, 0, 0
            blocks = []
            for j in range(i, len(text)):
                if text[j] == "{":
                    before = text[start:j].rstrip()
                    is_block = before.endswith((")", "else", "do", ":", ";", "{", "}"))
                    blocks.append(is_block)
                    inner += is_block
                    deepest = max(deepest, inner)
                elif text[j] == "}":
                    inner -= blocks.pop()
                    if not blocks:
                        end = j
                        break
            m = re.search(r"([A-Za-z_]\w*)\s*\(", head)
            if m and head.rstrip().endswith(")") and "=" not in head[:m.start()]:
                lead = len(head) - len(head.lstrip())
                first = text.count("\n", 0, start + lead) + 1
                last = text.count("\n", 0, end) + 1
                out.append((m.group(1), first, last - first + 1, parameters(head[m.end() - 1:]), deepest - 1))
            i = end
            start = end + 1
        i += 1
    return out


def parameters(text):
    depth = count = 0
    inside = ""
    for c in text:
        depth += (c == "(") - (c == ")")
        if depth == 1 and c == ",":
            count += 1
        if depth >= 1:
            inside += c
        if depth == 0:
            break
    inside = inside.strip("( )\n")
    return 0 if inside in ("", "void") else count + 1


def check(path, line, what, value, head, name=""):
    aim, hard = LIMITS[what]
    excused = re.search(rf"Budget:[^\n]*\b{what}\b", head) or (
        what in ("lines", "columns") and re.search(r"pure table|generated", head, re.I))
    text = f"{path}:{line}: {name + ': ' if name else ''}{what} {value}, "
    if value > hard and not excused:
        failures.append(text + f"at most {hard}")
    elif value > aim:
        notes.append((what, text + f"aim {aim}" + (" (excused)" if value > hard else "")))


def check_c(path, source, sizes):
    head = source[:3000].split("*/")[0]
    lines = source.split("\n")
    if path not in FILES:
        check(path, 1, "lines", len(lines), head)
    is_off, wide = False, []
    for number, text in enumerate(lines, 1):
        if "clang-format off" in text or "clang-format on" in text:
            is_off = "off" in text.split("clang-format")[1]
        if not is_off and len(text) > LIMITS["columns"][1]:
            wide.append((len(text), number))
    if wide:
        check(path, wide[0][1], "columns", max(wide)[0], head, f"{len(wide)} wide lines from here on")
    for name, line, length, n_par, nesting in functions(source):
        sizes.append(length)
        check(path, line, "function", length, head, name)
        check(path, line, "parameters", n_par, head, name)
        check(path, line, "nesting", nesting, head, name)


def check_lua(path, source):
    lines = source.rstrip("\n").split("\n")
    aim, hard = SPEC if path.startswith("scripts/arch/") else LUA_FILE
    if len(lines) > hard:
        failures.append(f"{path}:1: {len(lines)} lines, at most {hard}")
    elif len(lines) > aim:
        notes.append(("lines", f"{path}:1: {len(lines)} lines, aim {aim}"))
    start = {}
    for number, text in enumerate(lines, 1):
        m = re.match(r"^(\s*)(local )?function\b", text)
        if m and not text.rstrip().endswith("end"):
            start[m.group(1)] = number
        m = re.match(r"^(\s*)end\b", text)
        if m and m.group(1) in start:
            length = number - start.pop(m.group(1)) + 1
            if length > LUA_FUNCTION[1]:
                failures.append(f"{path}:{number}: function of {length} lines, at most {LUA_FUNCTION[1]}")


def check_plugin_header():
    with open("include/perigee/plugin.h", encoding="utf-8") as f:
        m = re.search(r"typedef struct peri_plugin \{(.*?)\n\} peri_plugin;", f.read(), re.S)
    count = len(re.findall(r"\(\*\w+\)\(", m.group(1))) if m else 0
    if not 4 <= count <= CALLBACKS:
        failures.append(f"include/perigee/plugin.h: {count} callbacks, expected 4 to {CALLBACKS}")
    return count


def main():
    roots = [a for a in sys.argv[1:] if a != "-v"]
    os.chdir(roots[0] if roots else os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    sizes, n_file, n_line, n_comment = [], 0, 0, 0
    for root in ("core", "plugins", "include", "tests", "examples", "scripts"):
        for folder, folders, files in os.walk(root):
            folders[:] = [d for d in folders if d not in ("build", "__pycache__")]
            for name in sorted(files):
                path = os.path.join(folder, name)
                if not name.endswith((".c", ".h", ".lua")):
                    continue
                with open(path, encoding="utf-8") as f:
                    source = f.read()
                if name.endswith(".lua"):
                    check_lua(path, source)
                    continue
                check_c(path, source, sizes)
                if root in ("core", "plugins", "include"):
                    n_file += 1
                    n_line += source.count("\n")
                    n_comment += comment_lines(source)
    for path, (aim, hard) in FILES.items():
        with open(path, encoding="utf-8") as f:
            n = f.read().count("\n")
        if n > hard:
            failures.append(f"{path}: {n} lines, at most {hard}")
        elif n > aim:
            notes.append(("lines", f"{path}: {n} lines, aim {aim}"))
    share = 100 * n_comment / max(n_line, 1)
    if n_line > 5000 and not COMMENT_SHARE[0] <= share <= COMMENT_SHARE[1]:
        failures.append(f"comments are {share:.0f}% of all lines, expected {COMMENT_SHARE[0]} to {COMMENT_SHARE[1]}%")
    sizes.sort()
    p90 = sizes[int(len(sizes) * 0.9)] if sizes else 0
    if "-v" in sys.argv:
        print("\n".join(t for _, t in notes))
    print("\n".join(failures) + "\n" if failures else "", end="")
    beyond = {w: sum(1 for k, _ in notes if k == w) for w in LIMITS}
    print(f"shape: {n_file} files, {n_line} lines, comments {share:.0f}%, {len(sizes)} functions, 90% within {p90} lines, "
          f"{check_plugin_header()} plugin callbacks")
    print("shape: beyond the aim: " + ", ".join(f"{w} {n}" for w, n in beyond.items()) + f"; failures: {len(failures)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
