#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""compare.py [--perigee FILE] [--random N] [--mutants N] [--seed S] - scripts/perigee/jinja against Python's Jinja.

Renders every chat template of $PERIGEE_TEST_DATA/chat-templates with every conversation of conversations.py; N random small
templates (random_templates.py); and N mutants of the real templates, which must end in output or an error with a
place. Texts must be the same bytes, and what fails in one must fail in the other.

FILE is the program that runs driver.lua (default: build/dev/bin/perigee). Exit status 77 when there is no Jinja; without the
real templates only the random ones are compared, and it says so.
"""
import argparse
import collections
import copy
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time

try:
    import oracle
except ImportError:
    print("compare.py: skipped, python3-jinja2 is not installed")
    sys.exit(77)
import random_templates
from conversations import conversations

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BATCH = 1000  # jobs of one run


class Driver:
    """Renders with our interpreter, a batch of jobs in one run of the program."""

    def __init__(self, command):
        self.command = shlex.split(command)
        self.slowest = 0

    def render_all(self, jobs):
        """[(source, variables)] to [(rendered, text or error, microseconds)]."""
        out = []
        for at in range(0, len(jobs), BATCH):
            out += self.batch(jobs[at:at + BATCH])
        self.slowest = max([self.slowest] + [micros for _, _, micros in out])
        return out

    def batch(self, jobs):
        with tempfile.TemporaryDirectory() as folder:
            for number, (source, variables) in enumerate(jobs, 1):
                source = source.encode("utf-8") if isinstance(source, str) else source
                with open(os.path.join(folder, f"job{number}"), "w", encoding="utf-8") as f:
                    json.dump({"source": source.hex(), "vars": variables}, f, ensure_ascii=False)
            done = subprocess.run(self.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, check=False)
        answers = [json.loads(line) for line in done.stdout.split(b"\n") if line.strip()]
        out = [(a["ok"], a["text"], a["micros"]) for a in answers]
        if len(out) != len(jobs):
            source = jobs[len(out)][0]
            raise SystemExit(f"compare.py: status {done.returncode} at {source[:300]!r}: {done.stderr.decode()[-500:]}")
        return out


def difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"at {at}: oracle {a[max(at - 30, 0):at + 50]!r}, ours {b[max(at - 30, 0):at + 50]!r}"


def judge(expected, got):
    """None when both agree, else what differs."""
    if expected[0] != got[0]:
        side = "oracle" if got[0] else "ours"
        return f"only {side} fails: {got[1] if expected[0] else expected[1]}"[:300]
    if expected[0] and expected[1] != got[1]:
        return difference(expected[1], got[1])
    if got[1].startswith("CRASH"):
        return got[1]
    if not expected[0] and not re.match(r"^template:\d+:\d+: ", got[1]):
        return "error without a place: " + got[1]
    return None


def templates(folder):
    for name in sorted(os.listdir(folder)):
        if name.endswith(".jinja"):
            with open(os.path.join(folder, name), encoding="utf-8", newline="") as f:
                yield name, f.read()


def compare_real(driver, folder, verbose):
    env, changing = oracle.environment(), oracle.environment(allow_changes=True)
    counts, bad, pairs, expectations = collections.Counter(), 0, [], []
    for name, source in templates(folder):
        for label, variables in conversations():
            expected = oracle.render(env, source, copy.deepcopy(variables))
            if not expected[0] and "SecurityError" in expected[1]:
                expected = oracle.render(changing, source, copy.deepcopy(variables))
                counts["changing"] += 1
            pairs.append((f"{name} x {label}", source, variables))
            expectations.append(expected)
    for (label, _, _), expected, got in zip(pairs, expectations, driver.render_all([p[1:] for p in pairs])):
        problem = judge(expected, got)
        counts["rendered" if expected[0] else "failed"] += problem is None
        if problem:
            bad += 1
            print(f"{label}: {problem}")
        elif verbose and not expected[0]:
            print(f"{label}: {expected[1]} | {got[1]}")
    print(f"real templates: {len(pairs)} pairs, {len(pairs) - bad} agree ({counts['rendered']} rendered to the same bytes, "
          f"{counts['failed']} failed in both; {counts['changing']} use .append and the like), {bad} differ")
    return bad


def compare_random(driver, count, seed):
    env = oracle.environment(allow_changes=True)
    jobs = [random_templates.make(random.Random(f"{seed}:{i}")) for i in range(count)]
    answers = driver.render_all(jobs)
    bad, rendered = 0, 0
    for i, ((source, variables), got) in enumerate(zip(jobs, answers)):
        expected = oracle.render(env, source, variables)
        problem = judge(expected, got)
        if problem and random_templates.is_known(source, expected, got):
            problem = None
        rendered += expected[0]
        if problem:
            bad += 1
            if bad <= 40:
                print(f"random {seed}:{i}: {source!r}: {problem}")
    print(f"random templates: seed {seed}, {count} compared, {rendered} rendered, {bad} differ")
    return bad


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:at + rng.choice((1, 1, 4, 40, 400))]
        elif kind == 2:
            part = data[at:at + rng.choice((1, 10, 100, 1000))]
            data[at:at] = part * rng.choice((1, 1, 2, 10))
        elif kind == 3:
            data[at:at] = rng.choice((b"{%", b"%}", b"{{", b"}}", b"{#", b"'", b'"', b"(", b")", b"[", b"]", b"|", b"-",
                                      b"{% for x in range(99999) %}", b"{% endfor %}", b"{% if", b"*", b"**9**9",
                                      b"*99999999", b"\xff", b"\0", b"loop", b".", b"\\", b"{% raw %}"))
        elif kind == 4:
            del data[at:]
        else:
            other = rng.randrange(len(data) + 1)
            data[at:at + 20] = data[other:other + 20]
    return bytes(data)


def try_mutants(driver, folder, count, seed):
    sources = [s.encode("utf-8") for _, s in templates(folder)]
    talks = [v for _, v in conversations()]
    jobs = []
    for i in range(count):
        rng = random.Random(f"{seed}:{i}")
        jobs.append((mutate(rng, rng.choice(sources)), rng.choice(talks)))
    bad, rendered, slow = 0, 0, 0
    for i, (ok, text, micros) in enumerate(driver.render_all(jobs)):
        rendered += ok
        slow = max(slow, micros)
        if not ok and not re.match(r"^template:\d+:\d+: ", text):
            bad += 1
            print(f"mutant {seed}:{i}: {text}")
    print(f"mutants: seed {seed}, {count} tried, {rendered} rendered, slowest {slow / 1000:.0f} ms, {bad} bad")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--perigee", default=os.path.join(ROOT, "build/dev/bin/perigee"))
    parser.add_argument("--command", help="what to run in place of `FILE run driver.lua --allow fs.read=.`")
    parser.add_argument("--random", type=int, default=2000)
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--seed", default="1")
    parser.add_argument("-v", action="store_true", help="print what fails in both")
    args = parser.parse_args()
    data = os.path.join(os.environ.get("PERIGEE_TEST_DATA", ""), "chat-templates")
    if not os.path.isdir(data):
        print("compare.py: real templates skipped, PERIGEE_TEST_DATA names no folder with chat-templates")
    script = shlex.quote(os.path.join(HERE, "driver.lua"))
    driver = Driver(args.command or f"{shlex.quote(os.path.abspath(args.perigee))} run {script} --allow fs.read=.")
    start, bad = time.time(), 0
    if os.path.isdir(data):
        bad += compare_real(driver, data, args.v)
        bad += try_mutants(driver, data, args.mutants, args.seed)
    bad += compare_random(driver, args.random, args.seed)
    print(f"{time.time() - start:.0f} s, slowest render {driver.slowest / 1000:.1f} ms")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
