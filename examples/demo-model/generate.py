#!/usr/bin/env python3
"""Conversations of the demo model's domain, as JSON lines: generated text only, the same bytes from the same seed.

  python3 generate.py --split train --count 1000 --seed 1 > train.jsonl
  python3 generate.py --check

Each line is {"tools", "messages"}. Messages and tools have the shape of OpenAI's chat API; an assistant message
also has "category" and, without tool calls, "expect": the strings that a right answer contains.

Splits:
  train           the training text
  eval-values     wordings of the training text around values (numbers, names, paths) that it never has
  eval-phrasings  as eval-values, and with wordings, tool names, descriptions and file contents it never has
A value belongs to evaluation when its hash says so, and each pool of wordings is cut in two, so the splits
cannot overlap, whatever the seed; --check looks for wordings that both parts of a pool can make.
"""
import argparse
import json
import re
import sys

import pools
import talk
from drills import Drills
from pools import POOLS, SYSTEMS
from scenes import Scenes
from wishes import SINGLES

# Kinds of tools that might do what a request for another kind asks.
NEAR = {"read": {"list", "search"}, "list": {"read", "search"}, "get": {"search"}, "weather": {"search", "get"}, "translate": {"search"}, "search": {"get", "list", "read"}}


def kinds_of(specs):
    return {s["kind"] for s in specs}


class Generator(Scenes):
    def system(self):
        """Text of the system message, and scenes about it."""
        r = self.r
        x = r.random()
        extra = []
        if x < 0.15:
            return "", extra
        train = self.split == "train"
        if train:           # more of what the system text says
            x = r.uniform(0.15, 0.4) if self.chance(0.35) else x
        parts = list(dict.fromkeys(self.pick(SYSTEMS) for _ in range(r.choice((1, 1, 1, 2, 2, 3)))))
        if self.chance(0.12):
            parts.insert(r.randint(0, len(parts)), self.sentence())
        if x < 0.24:
            name = self.name()
            parts.insert(r.randint(0, len(parts)) if train else r.randint(0, 1), self.say(talk.YOU_ARE, n=name, w=self.word()))
            extra.append((talk.ASK_NAME, {}, f"My name is {name}.", name))
        if 0.21 < x < 0.3:
            name = self.name()
            parts.insert(r.randint(0, len(parts)) if train else len(parts), self.say(talk.USER_IS, n=name, w=self.word()))
            extra.append((talk.ASK_USER, {}, f"Your name is {name}.", name))
        if 0.28 < x < 0.36:
            label = self.or_any(pools.LABELS, 0.25) + " " + r.choice(("number", "code", "word", "name", "key", "date") if train else ("number", "code", "word"))
            v = r.choice((self.number, self.code, self.word))()
            parts.insert(r.randint(0, len(parts)) if train else len(parts), self.say(talk.LABEL_IS, l=label, v=v, w=self.word()))
            extra.append((talk.ASK_LABEL, {"l": label}, f"The {label} is {v}.", v))
        scenes = []
        for pool, slots, text, v in extra:
            if train:
                slots["w"] = self.name()
            scenes.append(("system text", [], [self.user(self.say(pool, **slots)), self.answer(text, [v])]))
        return (r.choice((" ", " ", " ", "\n")) if train else " ").join(parts), scenes

    def clashes(self, spec, specs, missing):
        """Whether a further tool could be confused with one that is there or with what must be missing."""
        if any(spec["name"] == s["name"] for s in specs):
            return True
        for s in specs + missing:
            if spec["kind"] == s["kind"] == "act" and (spec["noun"] == s["noun"] or (spec["verb"] == s["verb"] and self.chance(0.5))):
                return spec["verb"] == s["verb"] or s in missing
            if spec["kind"] == s["kind"] == "get" and spec["attribute"] == s["attribute"]:
                return True
        return False

    def add_tools(self, specs, count, avoid, missing=()):
        """More tools, of kinds that are not there yet (made-up devices and look-ups may be)."""
        kinds = {s["kind"] for s in specs}
        for _ in range(50):
            if not count or len(specs) >= 6:
                return
            kind = self.r.choice(("act", "get")) if self.chance(0.4) else self.r.choice(SINGLES)
            if kind in avoid or (kind in kinds and kind not in ("act", "get")):
                continue
            t = self.tool(kind)
            if not self.clashes(t, specs, list(missing)):
                kinds.add(kind)
                specs.append(t)
                count -= 1

    def conversation(self):
        r = self.r
        system, extra = self.system()
        train = self.split == "train"
        turns = r.choice((1, 1, 1, 2, 2, 3)) if train else r.choice((1, 1, 1, 2))
        specs, messages, missing, avoid = [], [], [], set()

        def add(scene):
            category, more, m = scene
            specs.extend(x for x in more if all(x is not y for y in specs))
            for x in m:
                if x["role"] == "assistant":
                    x["category"] = category
            messages.extend(m)

        def cannot(text, category):
            add((category, [], [self.user(text), self.answer(None, talk.CANNOT)]))

        mode = r.random()
        if extra and self.chance(0.7 if train else 0.5):
            add(r.choice(extra))
        if train and self.chance(0.03):
            add(self.scene_order())
        if mode < 0.08:              # small sums and calendar questions, without tools
            avoid.add("calc")
            for _ in range(r.randint(2, 6) if train else 1):
                add(self.scene_sum() if self.chance(0.75) else self.scene_calendar())
            more = r.choice((0, 0, 1))
        elif mode < 0.2:             # talk
            avoid.update(("search", "get"))
            for _ in range(turns):
                if train and "calc" not in kinds_of(specs) and self.chance(0.2):
                    avoid.add("calc")
                    add(self.scene_sums())
                elif self.chance(0.22):
                    cannot(self.unknown(), "unknown")
                else:
                    add(self.scene_calendar() if self.chance(0.1) else self.scene_fact())
            more = r.choice((0, 0, 1, 2))
        elif mode < 0.33:            # no tool fits
            for _ in range(r.choice((1, 2)) if train else 1):
                s = self.missing()
                missing.append(s["spec"])
                avoid.update(NEAR.get(s["kind"], ()))
                if s["kind"] not in ("act", "get"):
                    avoid.add(s["kind"])
                cannot(s["text"], "no tool fits")
            more = r.choice((0, 1, 1, 2, 3))
        else:
            for _ in range(turns):
                x = r.random()
                if x < (0.3 if train else 0.4):
                    add(self.scene_single())
                elif x < (0.47 if train else 0.6):
                    add(self.scene_read())
                elif x < (0.73 if train else 0.76):
                    add(self.scene_two())
                elif x < 0.95:
                    add(self.scene_chain())
                else:
                    add(self.scene_fact())
            specs, messages = self.merge(specs, messages)
            more = r.choice((0, 0, 1, 1, 2, 3))
            if self.chance(0.06) and not {"search", "get"} & {s["kind"] for s in specs}:
                avoid.update(("search", "get"))
                cannot(self.unknown(), "unknown")
        if extra and self.chance(0.4):
            add(r.choice(extra))
        self.add_tools(specs, more, avoid, missing)
        r.shuffle(specs)
        for m in messages:
            if m["role"] == "assistant" and not m["content"] and not m.get("tool_calls"):
                m["content"] = talk.NO_TOOL if specs else talk.NO_TOOLS
        if system:
            messages.insert(0, {"role": "system", "content": system})
        return {"tools": [self.definition(s) for s in specs], "messages": messages}

    def missing(self):
        """A request for which the tool is missing (and no sum that needs none)."""
        while True:
            s = self.single(self.r.choice(SINGLES))
            if s["kind"] != "calc" or re.search(r"[*/.]|[3-9]\d|\d\d\d", s["slots"]["expression"]):
                return s

    def merge(self, specs, messages):
        """Rewrites the calls so that each kind of tool is there once (devices and look-ups: each of them once)."""
        chosen, rename = {}, {}
        for s in specs:
            key = (s["kind"], s.get("verb"), s.get("noun"), s.get("attribute"))
            rename[s["name"], tuple(p for _, p, _ in s["params"])] = (s, chosen.setdefault(key, s))
        for m in messages:
            for c in m.get("tool_calls", ()):
                f = c["function"]
                old, new = rename[f["name"], tuple(f["arguments"])]
                if old is not new:
                    slots = {slot: str(f["arguments"][p]) for slot, p, _ in old["params"]}
                    if len(new["params"]) != len(old["params"]):
                        return self.instead()
                    c["function"] = self.call(new, **slots)["function"]
        specs = list(chosen.values())
        names = [s["name"] for s in specs]
        return (specs, messages) if len(set(names)) == len(names) else self.instead()

    def instead(self):
        """A simple scene, for one in which two tools would have the same name."""
        category, specs, messages = self.scene_read()
        return specs, [{**m, "category": category} if m["role"] == "assistant" else m for m in messages]

    def conversations(self, count, drills=0.0):
        """So many conversations, a share of them drills."""
        drill = Drills(self)
        for _ in range(count):
            yield drill.one() if self.chance(drills) else self.conversation()


def check():
    """Held-out wordings that the training part of their pool can make, too."""
    shared = 0
    for pool in POOLS:
        patterns = [pools.pattern(w) for w in pool.train]
        for t in sorted({t for w in pool.held for t in pools.expansions(w)}):
            if any(p.fullmatch(t) for p in patterns):
                print(f"in both parts: {t}")
                shared += 1
    return shared


def main():
    p = argparse.ArgumentParser(description="generate conversations for the demo model")
    p.add_argument("--split", choices=("train", "eval-values", "eval-phrasings"), default="train")
    p.add_argument("--count", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--check", action="store_true", help="compare the two parts of each pool instead")
    a = p.parse_args()
    if a.check:
        sys.exit(check() > 0)
    for c in Generator(a.split, a.seed).conversations(a.count):
        sys.stdout.write(json.dumps(c) + "\n")


if __name__ == "__main__":
    main()
