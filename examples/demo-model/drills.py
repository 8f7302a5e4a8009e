"""Short exercises in copying and looking up, of made-up words: they come before and beside the conversations."""
import json

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Drills:
    """Makes drills with the values of a Generator."""

    def __init__(self, generator):
        self.g, self.r = generator, generator.r

    def string(self):
        """Something to copy."""
        g, r = self.g, self.r
        x = r.random()
        if x < 0.4:
            return g.syllables()
        if x < 0.5:
            return "".join(r.choice(LETTERS) for _ in range(r.randint(2, 10)))
        if x < 0.6:
            return g.code()
        if x < 0.7:
            return g.number()
        if x < 0.85:
            return g.path()
        return g.sentence()

    @staticmethod
    def tool(name, description, parameters):
        return {"type": "function", "function": {"name": name, "description": description, "parameters": {
            "type": "object", "properties": {p: {"type": "string"} for p in parameters}, "required": list(parameters)}}}

    @staticmethod
    def call(name, **arguments):
        return {"type": "function", "function": {"name": name, "arguments": arguments}}

    def say(self):
        g, r = self.g, self.r
        m = []
        for _ in range(r.randint(1, 4)):
            s = " ".join(self.string() for _ in range(r.randint(1, 4)))
            m += [g.user(r.choice(("Say {}", "Say: {}", "Repeat {}", 'Say "{}"', "Echo this: {}")).format(s)), g.answer(s, [s])]
        return [], m

    def named(self):
        """Calls of tools by their names, with values for all parameters."""
        g, r = self.g, self.r
        names = self.g.distinct(self.g.identifier, r.randint(1, 4))
        tools = [(n, self.g.distinct(self.g.identifier, r.choice((0, 1, 1, 2, 3)))) for n in names]
        m = []
        for _ in range(r.randint(1, 3)):
            name, parameters = r.choice(tools)
            values = {p: self.string() for p in parameters}
            shown = [r.choice(("{} {}", "{}={}", "{}: {}")).format(p, v) for p, v in values.items()]
            m += [g.user(r.choice(("Call {}", "Use {}", "Run {}", "Call the tool {}")).format(name) + (" with " + ", ".join(shown) if shown else "")),
                  g.calls(self.call(name, **values))]
            result = self.string()
            m += [g.result(result), g.answer(result, [result])]
        return [self.tool(n, g.sentence(), p) for n, p in tools], m

    def described(self):
        """Calls of tools by words of their descriptions."""
        g, r = self.g, self.r
        names = self.g.distinct(self.g.identifier, r.choice((2, 2, 3, 4, 5)))
        words = g.distinct(g.syllables, 2 * len(names))
        tools = []
        for i, n in enumerate(names):
            tools.append((n, words[2 * i:2 * i + 2], self.g.distinct(self.g.identifier, r.choice((0, 1, 1)))))
        m = []
        for _ in range(r.randint(1, 3)):
            name, (a, b), parameters = r.choice(tools)
            value = self.string()
            say = r.choice(("{a} the {b}", "I need the {b} to {a}", "Can you {a} a {b}", "{a} {b}", "What is the {a} of the {b}", "Get me the {a} {b}", "{b}"))
            m += [g.user(say.format(a=a, b=b) + (" " + value if parameters else "")), g.calls(self.call(name, **{p: value for p in parameters}))]
            result = self.string()
            m += [g.result(result), g.answer(result, [result])]
        return [self.tool(n, r.choice(("{a} the {b}.", "{a} {b}", "Use it to {a} a {b}.", "The {a} of a {b}.")).format(a=a, b=b), p) for n, (a, b), p in tools], m

    def short(self):
        return self.g.syllables(1, 2)

    def which(self):
        """Tools by a word of their descriptions, many times: the name alone or a call; sometimes the other way round."""
        g, r = self.g, self.r
        names = g.distinct(r.choice((self.short, self.short, g.identifier)), r.randint(2, 5))
        words = g.distinct(self.short, 2 * len(names))
        pairs = [words[2 * i:2 * i + 2] for i in range(len(names))]
        calls, m = r.random() < 0.4, []
        for w in r.sample(words, min(len(words), 8)):
            i = words.index(w) // 2
            if calls:
                m += [g.user(w), g.calls(self.call(names[i]))]
            elif r.random() < 0.8:
                m += [g.user(w + "?"), g.answer(names[i], [names[i]])]
            else:
                m += [g.user(names[i] + "?"), g.answer(" ".join(pairs[i]), pairs[i])]
        return [self.tool(n, r.choice(("{} {}", "{} the {}.", "{} a {}")).format(*p), ()) for n, p in zip(names, pairs)], m

    def table(self):
        """Values of keys in a text."""
        g, r = self.g, self.r
        keys = g.distinct(self.short, r.randint(2, 6))
        values = [(self.short if r.random() < 0.8 else self.string)() for _ in keys]
        form = r.choice(("{}={}", "{}: {}", "{} = {}", "{} is {}"))
        text = "\n".join(form.format(k, v) for k, v in zip(keys, values))
        if r.random() < 0.2:
            text = json.dumps(dict(zip(keys, values)))
        m = [g.user(text + "\n")]
        for n, i in enumerate(r.sample(range(len(keys)), r.randint(1, len(keys)))):
            q = r.choice(("What is {}?", "{}?", "Give me {}")).format(keys[i])
            if n == 0:
                m[0]["content"] += q
            else:
                m.append(g.user(q))
            m.append(g.answer(values[i], [values[i]]))
        return [], m

    def sums(self):
        """Small sums, many at once."""
        g, r = self.g, self.r
        m = []
        for _ in range(r.randint(8, 20)):
            a, op, b, v = g.sum(r.choice((11, 21, 21, 21, 41)))
            m += [g.user(f"{a} {op} {b}" + r.choice(("", " = ?", "?"))), g.answer(f"{a} {op} {b} = {v}", [v])]
        return [], m

    def rows(self):
        """Sums in a row: with one number, or of one result, each way round."""
        g, r = self.g, self.r
        a, style, lines = r.randrange(21), r.randint(0, 3), []
        for b in range(21):
            terms = ([a, "+", b], [b, "+", a], [max(a, b), "-", min(a, b)], [a + b, "-", b] if a + b < 21 else [20, "-", b])[style]
            terms = [str(t) for t in terms]
            if not g.is_held(terms):
                text = " ".join(terms)
                lines.append(f"{text} = {g.value_of(text)}")
        if r.random() < 0.3:
            r.shuffle(lines)
        text = "\n".join(lines)
        return [], [g.user(r.choice(("Sums with {}", "The row of {}", "Count with {}")).format(a) + (" and +" if style < 2 else " and -")), g.answer(text, lines)]

    def one(self):
        tools, messages = self.r.choice((self.say, self.named, self.described, self.described, self.which, self.which, self.which, self.table, self.table, self.sums, self.sums, self.sums, self.rows, self.rows))()
        return {"tools": tools, "messages": messages}
