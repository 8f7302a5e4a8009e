#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares scripts/perigee/gotemplate with Go's text/template (oracle.go).

  compare.py PERIGEE [--record] [--random N] [--seed S]

Three kinds of jobs: the cases of tests/cases/gotemplate/*.case, the templates *.tmpl there over
conversations.json, and N random templates.  --record writes what Go says into the case files.
Without Go it says so and ends with status 77.

A case file is text: "== NAME" starts a case; "-- data" (JSON) and "-- template" hold its input,
"-- output" or "-- error" what Go makes of it; "-- ours" a result that differs on purpose.  chat.case
is written whole: "== TEMPLATE / CONVERSATION" and its output.
"""
import argparse
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# Newer Go ranges over int; a byte of a text has no type of its own in ours.
KNOWN = re.compile(r"range can't iterate over -?\d+$|uint8")
CASES = HERE.parent / "cases" / "gotemplate"


def read_cases(path):
    cases, part, head = [], None, []
    for line in path.read_bytes().decode().split("\n")[:-1]:
        if line.startswith("== "):
            cases.append({"name": line[3:]})
            part = None
        elif line.startswith("-- ") and cases:
            part = cases[-1].setdefault(line[3:], [])
        elif part is not None:
            part.append(line)
        else:
            head.append(line)
    for case in cases:
        for key, value in case.items():
            case[key] = value if key == "name" else "\n".join(value)
    return head, cases


def write_cases(path, head, cases):
    out = list(head)
    for case in cases:
        out.append("== " + case["name"])
        for key in ("data", "template", "output", "error", "ours"):
            if key in case:
                out += ["-- " + key, case[key]]
    path.write_bytes(("\n".join(out) + "\n").encode())


def oracle(jobs, folder):
    binary = folder / "oracle"
    subprocess.run(["go", "build", "-o", binary, HERE / "oracle.go"], check=True)
    text = "".join(json.dumps(job) + "\n" for job in jobs)
    run = subprocess.run([binary], input=text, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.split("\n")[:-1]]


def ours(jobs, folder, perigee):
    shutil.copy(HERE / "driver.lua", folder)
    jobs = list(jobs)
    for i in range(0, len(jobs), 500):  # a script reads 1 MiB of a file at most
        lines = []
        for job in jobs[i:i + 500]:
            job = dict(job, hex=job["template"].encode("utf-8", "surrogateescape").hex())
            del job["template"]
            lines.append(json.dumps(job) + "\n")
        (folder / f"jobs{i // 500 + 1}").write_text("".join(lines))
    run = subprocess.run([perigee, "run", "--allow", "fs.read=.", "driver.lua"], cwd=folder, capture_output=True, text=True)
    lines = run.stdout.split("\n")[:-1]
    if len(lines) != len(jobs):
        sys.exit(f"{len(lines)} answers for {len(jobs)} jobs: {run.stderr[:2000]}")
    return [json.loads(line) for line in lines]


# ---------------------------------------------------------------- random templates

DATA = {
    "s": "word", "e": "", "q": "a\"b'<&>é\n", "i": 3, "f": 2.5, "big": 1234567890, "z": 0,
    "t": True, "no_": False, "n": None, "l": ["x", 1, None, False], "el": [], "m": {"k": "v", "a": [1, 2], "": 0},
    "o": {"in": {"deep": "D"}, "Up": [{"y": 1}, {"y": "two"}]},
}
FIELDS = [".s", ".e", ".q", ".i", ".f", ".big", ".z", ".t", ".no_", ".n", ".l", ".el", ".m", ".o", ".m.k",
          ".o.in.deep", ".o.in", ".no", ".no.way", ".m.no", ".o.Up", "$.s", "$.l", "$", "."]
CONSTANTS = ["1", "-2", "0x1F", "0b11", "0o17", "017", "1_000", "1.5", "1e3", ".5", "'a'", "'\\n'",
             '"t"', '"a\\tb"', "`r\\w`", "true", "false", "nil", '"%d"', '"%v-%s"', '"é"', "1e100"]
VERBS = "vsdqtTxXfegcbUo%"
FLAGS = ["", "", "", "5", "-5", "05", "+", "#", " ", ".2", "8.3", "-8.1", "+05", "x", "[2]", "*"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.vars = []

    def format(self):
        parts = []
        for _ in range(self.r.randint(1, 3)):
            parts.append(self.r.choice(["", "a", "=", "é"]) + "%" + self.r.choice(FLAGS)
                         + self.r.choice(VERBS))
        # "#" of floats is not there.
        return '"' + re.sub("%#([eEfFgG])", r"%\1", "".join(parts)) + '"'

    def operand(self, depth):
        r = self.r.random()
        if r < 0.45:
            return self.r.choice(FIELDS)
        if r < 0.55 and self.vars:
            return self.r.choice(self.vars)
        if r < 0.75 or depth <= 0:
            return self.r.choice(CONSTANTS)
        tail = self.r.choice(["", "", "", ".k", ".no"])
        return "(" + self.pipeline(depth - 1) + ")" + tail

    def command(self, depth):
        r = self.r.random()
        if r < 0.35:
            return self.operand(depth)
        name = self.r.choice("and or not eq ne lt le gt ge len index slice print printf println html "
                             "js urlquery json printf eq index".split())
        args = [self.operand(depth) for _ in range(self.r.choice([0, 1, 1, 2, 2, 2, 3]))]
        if name == "printf":
            args = [self.format()] + args
        elif name in ("len", "not", "json"):
            args = args[:1] or [self.operand(depth)]
        elif name in ("index", "slice") and self.r.random() < 0.8:
            args = [self.r.choice([".l", ".s", ".m", ".o.Up", ".q"])] + [
                self.r.choice(["0", "1", "2", '"k"', "3"]) for _ in range(self.r.randint(0, 2))]
        elif len(args) < 2 and name in ("eq", "ne", "lt", "le", "gt", "ge"):
            one = self.operand(depth)
            args = [one, self.r.choice([one, self.operand(depth)])]
        return " ".join([name] + args)

    def pipeline(self, depth):
        return " | ".join(self.command(depth) for _ in range(self.r.choice([1, 1, 1, 2])))

    def delims(self, body):
        return self.r.choice(["{{ ", "{{", "{{- "]) + body + self.r.choice([" }}", "}}", " -}}"])

    def declaration(self):
        name = "$" + self.r.choice("abc")
        self.vars.append(name)
        return name

    def node(self, depth):
        r = self.r.random()
        if r < 0.25:
            return self.r.choice([" ", "text", "\n", "  \n x", "}", "{ ", "a{{/* c */}}b", "é "])
        if r < 0.6 or depth <= 0:
            return self.delims(self.pipeline(depth))
        if r < 0.68:
            value = self.pipeline(depth)
            op = self.r.choice([" := ", ":=", " = "]) if self.vars else " := "
            return self.delims(self.declaration() + op + value)
        return self.control(depth)

    def control(self, depth):
        kind = self.r.choice(["if", "if", "with", "range", "range"])
        n_vars = len(self.vars)
        head = self.pipeline(depth)
        if kind == "range":
            head = self.r.choice([".l", ".m", ".el", ".o.Up", ".no", "slice .l 1 3", head])
        if self.r.random() < 0.4:
            names = [self.declaration()]
            if kind == "range" and self.r.random() < 0.6:
                names.append(self.declaration())
            head = ", ".join(names) + " := " + head
        out = self.delims(kind + " " + head) + self.nodes(depth - 1)
        if kind == "range" and self.r.random() < 0.2:
            out += self.delims("if " + self.pipeline(0)) + self.delims(
                self.r.choice(["break", "continue"])) + self.delims("end") + self.nodes(0)
        if self.r.random() < 0.2 and kind == "if":
            out += self.delims("else if " + self.pipeline(depth)) + self.nodes(depth - 1)
        if self.r.random() < 0.4:
            out += self.delims("else") + self.nodes(depth - 1)
        del self.vars[n_vars:]
        return out + self.delims("end")

    def nodes(self, depth):
        return "".join(self.node(depth) for _ in range(self.r.randint(1, 3)))

    def template(self):
        self.vars = []
        out = self.nodes(2)
        if self.r.random() < 0.1:
            self.vars = []
            out += '{{ define "d" }}' + self.nodes(1) + "{{ end }}"
            out += '{{ template "d" ' + self.r.choice([".", ".m", ".s", ""]) + " }}"
        if self.r.random() < 0.1 and out:
            i = self.r.randrange(len(out))
            out = out[:i] + self.r.choice(["", "}", "(", ".", "$", "|", '"', "-", " "]) + out[i + 1:]
        return out


# ---------------------------------------------------------------- main

def chat_jobs():
    conversations = json.loads((HERE.parent / "cases/gotemplate/conversations.json").read_text())
    for path in sorted(CASES.glob("*.tmpl")):
        for name, conversation in conversations.items():
            yield f"{path.stem} / {name}", {"template": path.read_text(), "conversation": conversation}


def record(files, results):
    for path, (head, cases) in files.items():
        for case in cases:
            result = results[path.stem, case["name"]]
            case.pop("output", None), case.pop("error", None)
            case["output" if result["ok"] else "error"] = result["text"]
        write_cases(path, head, cases)
    chat = [{"name": name, "output" if r["ok"] else "error": r["text"]}
            for (kind, name), r in results.items() if kind == "chat"]
    write_cases(CASES / "chat.case",
                ["# The *.tmpl here over conversations.json.  Written by tests/gotemplate/compare.py."], chat)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("perigee")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--random", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not shutil.which("go"):
        print("skipped: no go here (Debian: golang-go)")
        return 77
    files = {p: read_cases(p) for p in sorted(CASES.glob("*.case")) if p.stem != "chat"}
    jobs = {}
    for path, (_, cases) in files.items():
        for case in cases:
            jobs[path.stem, case["name"]] = {"template": case["template"],
                                             "data": json.loads(case.get("data", "{}"))}
    for name, job in chat_jobs():
        jobs["chat", name] = job
    for i in range(args.random):
        jobs["random", str(i)] = {"template": Maker(args.seed * 1000003 + i).template(), "data": DATA}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        theirs = oracle(jobs.values(), folder)
        mine = ours(jobs.values(), folder, args.perigee)
    on_purpose = {(p.stem, c["name"]) for p, (_, cases) in files.items() for c in cases if "ours" in c}
    return report(args, files, jobs, theirs, mine, on_purpose)


def report(args, files, jobs, theirs, mine, on_purpose):
    count = {}
    for (key, job), a, b in zip(jobs.items(), theirs, mine):
        same = a["ok"] == b["ok"] and (not a["ok"] or a["text"] == b["text"])
        same = same or KNOWN.search(a["text"])
        row = count.setdefault(key[0], [0, 0, 0])
        row[0] += 1
        row[1] += a["ok"]
        if not same and key not in on_purpose:
            row[2] += 1
            if row[2] <= 12:
                print(f"{key[0]} {key[1]}\n  template {job['template']!r}\n  go   {a['text'][:300]!r}\n"
                      f"  ours {b['text'][:300]!r}")
    for kind, (n, ok, bad) in count.items():
        print(f"{kind}: {n} jobs, {ok} rendered by Go, {bad} differ")
    if args.record:
        record(files, dict(zip(jobs, theirs)))
    return 1 if any(row[2] for row in count.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
