"""Scenes: the messages of one turn of the user, with what the model says and the tools it needs."""
import json

import talk
from asks import ASK
from pools import DAYS_IN, FRUITS, KEYS, LABELS, MONTHS, PARTS, WEEKDAYS, Pool
from wishes import FAILURES, FOLLOWS, Requests

# A value in a text, {l} being a label and {w} number, code or word; and how it is asked for.
HOLDS = Pool(["The {l} {w} is {v}.", "The {w} is {v}.", "The {w} is: {v}", "{w}: {v}", "{v}", "{v}", "[Your|My|Our|This] {l} {w} is {v}.", "The {l} {w}: {v}", "{l} {w} = {v}", "{w}={v}", "{l}_{w}={v}",
              "Here is the {l} {w}: {v}", "{v} is the {l} {w}.", "[Please note|Note|Remember|Write down]: the {w} is {v}.", "The {w} you [want|need|look for] is {v}.", "{l} {w} {v}", "It is {v}.",
              "[This is|Here comes] the {w}: {v}", "The [magic|right|real|only] {w} is {v}[!|.]", "Use {v} as the {w}.", "We have the {w} {v}.", "# {l} {w}\n{v}"],
             ["This file holds the {l} {w} {v}.", "Keep the {w} {v} in mind!", "The {l} {w}, {v}, is here.", "As {l} {w} take {v}.", "{w} -> {v}"])
ASK_HELD = Pool(["[What|Which] {w} is in [|the file ]{p}[?|]", "[What is|What's|Find|Tell me|Show me|Give me|Get|Look up|Read|Fetch] the {w} [in|from|of] [|the file ]{p}[.|]", "[Read|Open|Look at|Check] {p} and [tell me|give me|find|say] the {w}[.|]",
                 "What {w} does [|the file ]{p} [contain|have|hold|say][?|]", "[Which|What] {w} [stands|is written|is stored|do you find] in {p}?", "There is a {w} in {p}[.|:] [What is it?|Which one?|Tell me.|Find it.]",
                 "I need the {w} [in|from] {p}.", "[Can|Could] you [find|tell me|read|get] the {w} in {p}?", "{p}: what is the {w}?", "What is the {l} {w} in {p}?", "Tell me the {l} {w} [from|in] {p}.", "Find the {l} {w} in {p}."],
                ["Look into {p}: what is the {w}?", "Please extract the {w} stored in {p}.", "Which {w} do you see in {p}?", "{p} has a {w}. What is it?", "The {w} I want is inside {p}."])
ASK_KEY = Pool(["[What is|What's] [the |]{k} in [|the file ]{p}?", "[What|Which] {k} is [set|given|written] in {p}?", "[Tell me|Give me|Show me|Read|Look up|Find|Get] the {k} [from|in|of] [|the file ]{p}[.|]", "[Which|What] {k} does {p} [have|set|say|contain]?",
                "What is the value of {k} in {p}?", "What does {p} [say|have] for {k}?", "[Read|Open|Check] {p} and [tell me|give me] [the |]{k}.", "{k} in {p}?", "I want to know the {k} in {p}."],
               ["{p} sets a {k}. Which?", "How is {k} set in {p}?", "Look what {p} gives as {k}.", "To what is {k} set in {p}?"])
KEY_FORMS = Pool(["{}={}", "{} = {}", "{}: {}", "{}: {}", "- {}: {}", "{} {}", "The {} is {}."], ["{} is {}", "{} -> {}", "* {} = {}"])
ASK_LINE = Pool(["[What is|Show me|Read|Tell me|Give me|Print|Get] the {w} line [of|in|from] [|the file ]{p}[.|]", "What does the {w} line of {p} say?", "What is [in|on|written in] the {w} line of {p}?", "[Read|Open] {p} and [tell me|show me|print] the {w} line.",
                 "The {w} line of {p}, please.", "{w} line of {p}?"],
                ["Which line comes {w} in {p}?", "Quote the {w} line of {p}.", "How does the {w} line of {p} read?"])
AGAIN = Pool(["What is the {k} [in it|there]?", "And the {k}?", "What about the {k}?", "And what is the {k}?", "Now the {k}[.|, please.]", "What {k} does it have?"], ["And which {k} does it set?", "How about the {k}?"])
BOTH = {
    "read": Pool(["[read|show me|open|print|show|get|cat|tell me what is in|read the files|look at] {a} and [also |]{b}", "read both {a} and {b}"], ["display both {a} and {b}", "print {a} as well as {b}"]),
    "weather": Pool(["[tell me|compare|check|show me|get] the weather in {a} and [in |]{b}"], ["report the weather of both {a} and {b}", "say how the weather is in {a} and in {b}"]),
    "list": Pool(["[list|list the folders|show the files in|show me what is in|list the files in] {a} and [also |]{b}"], ["look into both {a} and {b}", "list {a} as well as {b}"])}
JOINS = Pool(["{a} and {b}", "{a} and {b}", "{a}, and {b}", "{a} and also {b}", "{a}, then {b}", "{a} and then {b}", "{a}, {b}", "both {a} and {b}", "{a}. Also {b}", "{a}; {b}"], ["{a} plus {b}", "first {a}; second {b}", "{a}, and in addition {b}"])
POINTERS = Pool(["{q}", "{q}", "{q}", "The file is {q}", "Look in {q}", "see {q}", "next: {q}", "read {q}", "file={q}", "Go on with {q}", "It is in {q}"], ["Continue at {q}", "-> {q}", "the name: {q}"])
NAMED = Pool(["[read|open|show me|print|show|tell me what is in] the file [named in|that {p} names|whose name is in|that is named in|whose path is in|mentioned in] {p}", "read {p} and [then |][the file it names|open the file it names|the file named there|show me the file it names]",
              "look in {p} for the name of a file and [read|open|show me] [that file|it]"],
             ["follow {p} to the file it points to and read that", "look up the file name in {p} and open it", "read the file to which {p} points"])
PART = Pool(["[read|show me|open|print|show|tell me what is in|cat] the {w} file [in|of] [|the folder |the directory ]{d}", "list {d} and [read|open|show me|print] the {w} file", "look in {d} and [read|open] the {w} file", "what does the {w} file in {d} say"],
            ["find the {w} file of {d} and tell me what it says", "print whichever file comes {w} in {d}", "see which file is {w} in {d} and read it"])
WITH_NUMBER = {
    "+": Pool(["add {k} to the number in {p}", "read the number in {p} and add {k}[ to it|]", "[what is|calculate] the number in {p} plus {k}"], ["take the number from {p} and add {k}", "sum up {k} and the number that {p} has"]),
    "-": Pool(["subtract {k} from the number in {p}", "read the number in {p} and subtract {k}[ from it|]", "[what is|calculate] the number in {p} minus {k}"], ["have {k} subtracted from the number that {p} has", "take the number from {p} and subtract {k}"]),
    "*": Pool(["multiply the number in {p} by {k}", "read the number in {p} and multiply it by {k}", "[what is|calculate] the number in {p} times {k}", "calculate {k} times the number in {p}"], ["take the number from {p} and multiply it by {k}", "have the number that {p} has multiplied by {k}"])}
TOTAL = Pool(["add the numbers in {p} and {q}", "[what is|calculate] the sum of the numbers in {p} and {q}", "read {p} and {q} and add the numbers", "add the number in {p} to the number in {q}"],
             ["make the sum of the numbers that {p} and {q} have", "sum up the numbers which {p} and {q} contain"])
CONVERTED = Pool(["[read|take] the number in {p} and convert it from {a} to {b}", "convert the number in {p} from {a} to {b}", "the number in {p} is in {a}[.|;] convert it to {b}"],
                 ["take the {a} that {p} gives and convert them to {b}", "change the number from {p}, which is in {a}, into {b}"])
FORWARD = Pool(["read {p} and send [the text|it|the contents|what it says] to {to}", "send {to} the [text|contents|words] of {p}", "send the [contents|text] of {p} to {to}", "[tell|send] {to} what {p} says"], ["send what is in {p} over to {to}", "give {to} a message with the text of {p}"])
COPY = Pool(["copy [|the text of |the contents of ]{p} to {q}", "read {p} and [write|save] [it|the text] to {q}", "[write|save] the [text|contents] of {p} [to|in] {q}"], ["write a copy of {p} to {q}", "put what {p} says into {q}"])
THEN = {
    "+": Pool(["[Now |]add {k}[ to it| to that|].", "Plus {k}?", "And plus {k}?", "Add {k} to [that|the result]."], ["What if you add {k}?"]),
    "*": Pool(["[Now |]multiply [it|that|the result] by {k}.", "Times {k}?", "And times {k}?"], ["What if you multiply that by {k}?"]),
    "-": Pool(["[Now |]subtract {k}[ from it| from that|].", "Minus {k}?", "And minus {k}?"], ["What if you take {k} away?"])}


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
            why = self.pick(FAILURES)
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
        label, what = self.pick(LABELS), self.r.choice(("number", "number", "number", "code", "word", "name"))
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
            keys = self.distinct(lambda: self.word() if self.chance(0.25) else self.pick(KEYS), 2, 6)
            values = [r.choice((self.number, self.word, self.code))() for _ in keys]
            form = self.pick(KEY_FORMS)
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
            lines = [self.pick(FRUITS) if self.chance(0.3) else r.choice((self.word, self.number, self.sentence, self.name))() for _ in range(r.randint(2, 5))]
            which, i = self.part(len(lines))
            return "read a file", [spec], self.steps(self.say(ASK_LINE, w=which, p=p), read, "\n".join(lines), (f"The {which} line of {p} is: {lines[i]}", [lines[i]]))
        return "read a file", [spec], self.plain(self.single("read", spec))

    def part(self, count):
        """Which of some things, in a word and as an index."""
        which = "only" if count == 1 else self.pick(PARTS)
        return which, {"first": 0, "second": 1, "only": 0}.get(which, -1)

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
        else:
            ka, kb = self.r.sample(("read", "list", "time", "calc", "convert", "weather", "search", "write", "delete", "timer", "message", "translate", "random", "act", "get"), 2)
            a, b = self.single(ka), self.single(kb)
            specs, text = [a["spec"], b["spec"]], None
        if text is None:
            text = self.wish(self.say(JOINS, a=a["clause"], b=b["clause"]))
        return "two calls", specs, self.steps(self.aside(text), [a["call"], b["call"]], [a["result"], b["result"]], (a["answer"] + "\n" + b["answer"], a["expect"] + b["expect"]))

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
        text = self.pick(POINTERS).replace("{q}", q)
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

    def scene_fact(self):
        answer, expect, pool = self.r.choice(talk.FACTS[:11]) if self.chance(0.7) else self.r.choice(talk.FACTS[11:])
        text = self.say(pool)
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
