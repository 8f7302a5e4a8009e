"""Scenes: the messages of one turn of the user, with what the model says and the tools it needs."""
import json

import talk
from asks import ASK
from pools import DAYS_IN, FRUITS, KEYS, LABELS, LAST, MONTHS, PARTS, WEEKDAYS
from wishes import FAILURES, FOLLOWS, Requests
from wordings import (AGAIN, ASK_HELD, ASK_KEY, ASK_LINE, BOTH, CONVERTED, COPY, FORWARD, HOLDS, JOINS, KEY_FORMS, NAMED, PART, POINTERS, THEN,
                      TOTAL, WITH_NUMBER)


class Scenes(Requests):
    @staticmethod
    def user(text):
        return {"role": "user", "content": text}

    @staticmethod
    def calls(*calls):
        return {"role": "assistant", "content": None, "tool_calls": list(calls)}

    def result(self, text):
        """A tool result; some end with a newline, as files do."""
        return {"role": "tool", "content": text + "\n" * self.chance(0.15)}

    @staticmethod
    def answer(text, expect):
        return {"role": "assistant", "content": text, "expect": list(expect)}

    def steps(self, text, *parts):
        """The messages of a request: pairs of calls (one or a list) and results, then the answer."""
        out = [self.user(text)]
        for calls, results in zip(parts[:-1:2], parts[1:-1:2]):
            if not isinstance(calls, list):
                calls, results = [calls], [results]
            out += [self.calls(*calls), *(self.result(x) for x in results)]
        return out + [self.answer(*parts[-1])]

    def plain(self, s):
        return self.steps(s["text"], s["call"], s["result"], (s["answer"], s["expect"]))

    def scene_single(self):
        s = self.single(self.r.choice(("read", "read", "list", "list", "time", "time", "calc", "calc", "convert", "convert", "weather", "search", "write",
                                       "delete", "timer", "message", "translate", "random", "act", "act", "act", "get", "get", "get")))
        m = self.plain(s)
        if self.chance(0.07):
            why = self.say(FAILURES, w=self.plain_word(), w2=self.plain_word()) if self.split != "eval-phrasings" else self.pick(FAILURES)
            m[2] = self.result(self.r.choice(("error: ", "Error: ", "ERROR: ", "failed: ")) + why)
            m[3] = self.answer(f"That did not work: {why}.", [why])
        elif self.chance(0.12) and s["kind"] in ("read", "list", "weather", "get"):
            n = self.single(s["kind"], s["spec"])
            value, = n["slots"].values()
            if s["kind"] != "get" or value != s["slots"]["arg"]:
                m += self.steps(self.say(FOLLOWS, x=value), n["call"], n["result"], (n["answer"], n["expect"]))
        elif s["kind"] == "calc" and self.chance(0.3) and self.value_of(s["slots"]["expression"]).isdigit():
            op, k, before = self.r.choice("+-*"), self.digits(1, 2), self.value_of(s["slots"]["expression"])
            e = f"{before} {op} {k}"
            m += self.steps(self.say(THEN[op], k=k), self.call(s["spec"], expression=e), self.value_of(e), (f"{e} = {self.value_of(e)}", [self.value_of(e)]))
        return "single call", [s["spec"]], m

    def held(self):
        """A number, code or word in a sentence: (text, question without path, how the answer names it, value)."""
        label, what = self.or_any(LABELS, 0.2), self.r.choice(("number", "number", "number", "code", "word", "name"))
        value = {"number": self.number, "code": self.code, "word": self.word, "name": self.name}[what]()
        text = self.say(HOLDS, l=label, w=what, v=value)
        if self.split == "train" and what in ("number", "code") and self.chance(0.3):
            words = self.filler(2, 5).split()
            words.insert(self.r.randint(0, len(words)), what)
            text = " ".join(words).capitalize() + self.r.choice((" ", " ", ": ", " = ", ", ")) + value + self.r.choice((".", "", "!", ", " + self.filler(1, 3) + ".", " " + self.filler(1, 3)))
        if self.chance(0.15):
            text = self.sentence() + "\n" + text
        if self.chance(0.1):
            text += ("\n" if "\n" in text or self.chance(0.5) else " ") + self.sentence()
        if self.chance(0.05):
            text = json.dumps({self.r.choice(("content", "text", "result")): text})
        return text, {"w": what, "l": label}, what, value

    def scene_read(self):
        """A question about something in a file."""
        r = self.r
        spec = self.tool("read")
        p = self.path()
        read = self.call(spec, path=p)
        style = r.randint(0, 6)
        if style <= 2:
            text, slots, what, value = self.held()
            return "read a file", [spec], self.steps(self.aside(self.say(ASK_HELD, p=p, **slots)), read, text, (f"The {what} in {p} is {value}.", [value]))
        if style <= 4:          # one of several keys
            keys = self.distinct(lambda: self.word() if self.chance(0.25) else self.or_any(KEYS, 0.25), 2, 6)
            values = [r.choice((self.number, self.word, self.code))() for _ in keys]
            form = self.pick(KEY_FORMS)
            if form.count("{}") != 2:
                form = "{}: {}"
            if self.split == "train" and self.chance(0.2):
                form = "{} " + self.r.choice(("=>", ":=", "|", "~", "..", ">", "<-", "--", "#", "equals", self.filler(1, 2))) + " {}"
            text = "\n".join(form.format(k, v) for k, v in zip(keys, values))
            if self.chance(0.15):
                text = json.dumps(dict(zip(keys, values)))
            i, j = r.sample(range(len(keys)), 2)
            m = self.steps(self.aside(self.say(ASK_KEY, k=keys[i], p=p)), read, text, (f"The {keys[i]} in {p} is {values[i]}.", [values[i]]))
            if self.chance(0.15):
                m += [self.user(self.say(AGAIN, k=keys[j])), self.answer(f"The {keys[j]} in {p} is {values[j]}.", [values[j]])]
            return "read a file", [spec], m
        if style == 5:          # one of several lines
            lines = [self.or_any(FRUITS, 0.4) if self.chance(0.3) else r.choice((self.word, self.number, self.sentence, self.name))() for _ in range(r.randint(2, 5))]
            which, i = self.part(len(lines))
            return "read a file", [spec], self.steps(self.say(ASK_LINE, w=which, p=p), read, "\n".join(lines), (f"The {which} line of {p} is: {lines[i]}", [lines[i]]))
        return "read a file", [spec], self.plain(self.single("read", spec))

    def part(self, count):
        """Which of some things, in a word and as an index."""
        which = "only" if count == 1 else self.pick(PARTS)
        if which == "third" and count < 3:
            which = "last"
        return which, {"second": 1, "third": 2}.get(which, -1 if which in LAST else 0)

    def scene_two(self):
        """Two calls in one turn."""
        if self.chance(0.45):       # the same tool twice
            kind = self.r.choice(("read", "read", "read", "weather", "list", "get", "calc", "act"))
            spec = self.tool(kind)
            if kind == "act" and not spec["params"]:
                kind, spec = "read", self.tool("read")
            a, b = self.single(kind, spec), self.single(kind, spec)
            specs, text = [spec], None
            if kind in BOTH and self.chance(0.7):
                (va,), (vb,) = a["slots"].values(), b["slots"].values()
                text = self.wish(self.say(BOTH[kind], a=va, b=vb))
                if self.split == "train" and kind != "weather" and self.chance(0.15):
                    text = self.wish(f"{self.r.choice(('both ', '', ''))}{self.clause_of(kind, va)}{self.r.choice((' ', ' ', ', '))}{self.filler(1, 3)} {vb}")
        else:
            ka, kb = self.r.sample(("read", "list", "time", "calc", "convert", "weather", "search", "write", "delete", "timer", "message", "translate", "random", "act", "get"), 2)
            a, b = self.single(ka), self.single(kb)
            specs, text = [a["spec"], b["spec"]], None
        if text is None:
            text = self.wish(self.say(JOINS, a=a["clause"], b=b["clause"]))
            if self.split == "train" and self.chance(0.25):
                text = self.wish(self.joined(a["clause"], b["clause"]))
        return "two calls", specs, self.steps(self.aside(text), [a["call"], b["call"]], [a["result"], b["result"]], (a["answer"] + "\n" + b["answer"], a["expect"] + b["expect"]))

    def clause_of(self, kind, value):
        """A clause about a value, of the kind's wordings."""
        slot = {"read": "path", "list": "folder"}[kind]
        return self.say(ASK[kind][0], **{slot: value})

    def joined(self, a, b):
        """Two clauses with words between them, and before them, of which none matters."""
        before = self.filler(1, 2) + self.r.choice((" ", ": ", ", ")) if self.chance(0.3) else ""
        mark = self.r.choice((" ", " ", ", ", "; ", ". ", " and ", ", and "))
        return before + a + mark + self.filler(1, 4) + self.r.choice((" ", " ", ", ", ": ", " to ", " and ")) + b

    def chained(self, pool, **slots):
        text = self.say(pool, **slots)
        return self.aside(text[0].upper() + text[1:] + "?" if text.startswith("what ") else self.wish(text))

    def scene_chain(self):
        """A call that uses the result of the one before."""
        kind = self.r.choice((self.chain_named, self.chain_named, self.chain_part, self.chain_part, self.chain_number, self.chain_number, self.chain_total, self.chain_convert,
                              self.chain_forward, self.chain_copy))
        return ("chain", *kind(self.tool("read")))

    def chain_named(self, read):
        p, q = self.path(), self.path()
        text = self.wording(POINTERS).replace("{q}", q)
        if self.split == "train" and self.chance(0.2):
            text = self.filler(1, 4) + self.r.choice((" ", ": ", " = ", " => ")) + q
        content = self.contents()
        return [read], self.steps(self.chained(NAMED, p=p), self.call(read, path=p), text, self.call(read, path=q), content, (f"{q} says: {content}", [content]))

    def chain_part(self, read):
        list_, d, content = self.tool("list"), self.folder(), self.contents()
        names = self.names(1 if self.chance(0.15) else 2, 5)
        which, i = self.part(len(names))
        p = d + "/" + names[i]
        return [list_, read], self.steps(self.chained(PART, w=which, d=d), self.call(list_, folder=d), self.listing(names), self.call(read, path=p), content, (f"{p} says: {content}", [content]))

    def numbered(self, n):
        """A text with the number n in it."""
        return self.r.choice((n, n, self.say(HOLDS, l=self.pick(LABELS), w="number", v=n)))

    def chain_number(self, read):
        calc, p, n, k = self.tool("calc"), self.path(), self.fresh(lambda: self.digits(1, 5)), self.fresh(lambda: self.digits(1, 3))
        op, pool = self.r.choice(tuple(WITH_NUMBER.items()))
        e = f"{n} {op} {k}"
        v = self.value_of(e)
        return [read, calc], self.steps(self.chained(pool, k=k, p=p), self.call(read, path=p), self.numbered(n), self.call(calc, expression=e), v, (f"{e} = {v}", [v]))

    def chain_total(self, read):
        calc, p, q = self.tool("calc"), self.path(), self.path()
        a, b = self.fresh(lambda: self.digits(1, 4)), self.fresh(lambda: self.digits(1, 4))
        e = f"{a} + {b}"
        v = self.value_of(e)
        return [read, calc], self.steps(self.chained(TOTAL, p=p, q=q), [self.call(read, path=p), self.call(read, path=q)], [self.numbered(a), self.numbered(b)],
                                        self.call(calc, expression=e), v, (f"{e} = {v}", [v]))

    def chain_convert(self, read):
        convert, p = self.tool("convert"), self.path()
        s = self.single("convert", convert)
        v, a, b = s["slots"].values()
        return [read, convert], self.steps(self.chained(CONVERTED, p=p, a=a, b=b), self.call(read, path=p), self.numbered(v), s["call"], s["result"], (s["answer"], s["expect"]))

    def chain_forward(self, read):
        message, p, to, content = self.tool("message"), self.path(), self.name(), self.sentence().rstrip(".")
        return [read, message], self.steps(self.chained(FORWARD, p=p, to=to), self.call(read, path=p), content, self.call(message, to=to, text=content),
                                           self.r.choice(("ok", "sent", "done")), (f"I sent it to {to}.", [to]))

    def chain_copy(self, read):
        write, p, q, content = self.tool("write"), self.path(), self.path(), self.sentence().rstrip(".")
        return [read, write], self.steps(self.chained(COPY, p=p, q=q), self.call(read, path=p), content, self.call(write, path=q, text=content),
                                         self.r.choice(("ok", "saved", "done")), (f"I wrote it to {q}.", [q]))

    # --- scenes without tools ---------------------------------------------------------------------------------

    def sum(self, limit=21):
        """Two small numbers and what they make: (a, operator, b, result)."""
        r = self.r

        def make():
            a, b, op = r.randrange(limit), r.randrange(limit), r.choice("+-")
            if op == "-" and b > a:
                a, b = b, a
            return [str(a), op, str(b)]
        a, op, b = self.fresh(make)
        return a, op, b, self.value_of(f"{a} {op} {b}")

    def scene_sum(self):
        """Small arithmetic from memory (only without a calculator)."""
        a, op, b, v = self.sum()
        said = {"+": self.r.choice(("+", "+", "plus")), "-": self.r.choice(("-", "-", "minus"))}[op]
        text = f"{a} {said} {b}"
        if said in "+-" and self.chance(0.3):
            text = a + said + b
        return "small sums", [], [self.user(self.say(ASK["calc"][1], sum=text)), self.answer(f"{a} {op} {b} = {v}", [f"= {v}"])]

    def scene_sums(self):
        """A sum and others that follow from it; only for training."""
        out = []
        for _ in range(self.r.randint(1, 3)):
            out += self.scene_sum()[2]
        return "small sums", [], out

    def scene_order(self):
        """Which of some words or lines comes where; only for training."""
        r = self.r
        items = self.distinct(lambda: r.choice((self.plain_word, self.word, self.number))(), 2, 6)
        i = r.randrange(len(items))
        names = {0: ["first", "opening", "initial", "top", "earliest", "leading"], 1: ["second", "2nd"], 2: ["third"], 3: ["fourth"], 4: ["fifth"]}
        ends = ["last", "final", "closing", "bottom", "end", "concluding"]
        w = r.choice(ends if i == len(items) - 1 and (i > 0 or self.chance(0.5)) else names.get(i, ends))
        i = i if w not in ends else len(items) - 1
        shown = r.choice((", ", "; ", " ", "\n", " - ")).join(items)
        what = r.choice(("one", "word", "item", "entry", "thing", "of them"))
        text = r.choice(("{s}. Which {x} is {w}?", "{s}: the {w} {x}?", "Of {s}, name the {w} {x}.", "What is the {w} {x} of {s}?", "{s}\nTell me the {w} {x}.", "The {w} {x} here: {s}",
                         "Say the {w} {x}: {s}"))
        return "order", [], [self.user(self.blurred(text).format(s=shown, x=what, w=w)), self.answer(f"The {w} one is {items[i]}.", [items[i]])]

    def scene_fact(self):
        answer, expect, pool = self.r.choice(talk.FACTS[:11]) if self.chance(0.7) else self.r.choice(talk.FACTS[11:])
        text = self.say(pool, w=self.name()) if self.split == "train" else self.say(pool)
        if self.chance(0.1):
            text = text.lower()
        return "about itself", [], [self.user(text), self.answer(answer, expect)]

    def scene_calendar(self):
        r = self.r
        style, i, j = r.randint(0, 3), r.randrange(7), r.randrange(12)
        day, month = WEEKDAYS[i], MONTHS[j]
        if style == 0:
            text, answer, expect = self.say(talk.AFTER_DAY, d=day), f"{WEEKDAYS[(i + 1) % 7]} comes after {day}.", WEEKDAYS[(i + 1) % 7]
        elif style == 1:
            text, answer, expect = self.say(talk.BEFORE_DAY, d=day), f"{WEEKDAYS[(i + 6) % 7]} comes before {day}.", WEEKDAYS[(i + 6) % 7]
        elif style == 2:
            text, answer, expect = self.say(talk.DAYS_OF, m=month), f"{month} has {DAYS_IN[j]} days.", str(DAYS_IN[j])
        else:
            text, answer, expect = self.say(talk.AFTER_MONTH, m=month), f"{MONTHS[(j + 1) % 12]} comes after {month}.", MONTHS[(j + 1) % 12]
        return "calendar", [], [self.user(text), self.answer(answer, [expect])]

    def unknown(self):
        w = self.word()
        return self.say(talk.UNKNOWN, W=w.capitalize(), w=w, w2=self.word())
