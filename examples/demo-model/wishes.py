"""Tools and single requests: what the user asks, the call, its result and the answer."""
import json
import re

from asks import ASK, TOOLS
from pools import ASIDES, ATTRIBUTES, LANGUAGES, NOUNS, THINGS, UNITS, VERBS, WISHES, Pool
from values import Values

ACT_NAMES = ["{v}_{n}", "{v}_{n}", "{n}_{v}", "{v}{N}", "{n}.{v}", "{v}_the_{n}", "{n}_control"]
ACT_TEXTS = Pool(["[{V}|Please {v}|Just {v}|It can {v}|Used to {v}|Made to {v}|Able to {v}|Helps to {v}|Allows to {v}|Good to {v}|This will {v}|How to {v}] [the|a|any|one|some|every|"
                  "this|our] {n}[.||, by number.| at home.| of the house.| from here.]",
                  "[The|A|Our|Any|Every] {n}[, to {v} it|: {v}|, {v} it| can be made to {v}|; {v} now| ({v})| - {v}][.|]", "[Does|Do] {v} [the|a] {n}[.|]",
                  "[{V}|{V}s] [{n}s|the {n}s|all {n}s|one {n}|my {n}|some {n}][.|]", "[Command|Switch|Button|Control|Function] [to {v} the {n}|that {v}s a {n}|for the {n}: {v}][.|]",
                  "{n} {v}", "{v}: {n}", "{V} it, the {n}.",
                 "{V} [the|a] {n}[.|]", "[Use this|Use it|Tool] to {v} [a|the] {n}[.|]", "To {v} [a|the] {n}[.|]", "{V} {n}s", "Can {v} [a|the] {n}", "{V}s [a|the] {n}[.|]", "{N}: {v} it"],
                 ["Lets you {v} the {n}.", "Will {v} any {n}.", "{N} tool: {v}"])
ACT_ASKS = Pool(["[{v}|{v} me|go {v}|just {v}|{v} again] [the|my|a|our|your|his|her|their|some|every|one|any|the old|the new|the red|the other|the kitchen] {n}",
                 "[do|make|try|see to it that you|let us|help to|begin to|go and] {v} [the|my|a|our] {n}", "[the|my|our] {n}[:|,] {v} it", "take [the|my] {n} and {v} it",
                 "{v} [it, |them, |][the|a] {n}",
                 "{v} [the|my|a|our] {n}", "{v} {n}"], ["{v} that {n}", "{v} this {n}"])
ACT_ASKS_OF = Pool(["{v} [the|my|our|a|any|your|some] {n}[ called| named| numbered| labeled| marked| with the number| with the code| with the id|,|:| no.| #|] {x}",
                    "[for|with|at|in|on|of|to] {x}[,| please] {v} [the|its|a] {n}", "[take|choose|pick|find|see|get] {x}[, and| and|, then| to] {v} [the|its|a|this] {n}",
                    "{v} [the|its] {n}[; it is| - it is|, it is|, namely| (|. It is] {x}", "[the|my] {n} {x}[:|,] {v} it", "{v} {x}'s {n}", "{v} [{n}|the {n}]: {x}",
                    "{x}: {v} [the|its] {n}", "[go|walk|drive|head] [on|over|back] to {x}[, there| and there|; then] {v} [the|a] {n}",
                 "{v} [the |]{n} {x}", "{v} {n} number {x}", "{v} the {n} [in|called|named|of|with the name|with number] {x}", "{v} {x}, the {n}"], ["{v} that {n} known as {x}",
                 "use {x} to {v} the {n}", "go to {x} and {v} the {n}"])
GET_NAMES = ["get_{a}", "{t}_{a}", "get_{t}_{a}", "{a}_of_{t}", "lookup_{a}", "get{A}", "{t}.{a}", "find_{a}", "{a}_{t}", "{a}"]
GET_TEXTS = Pool(["[Get|Return|Look up|Show|Find|Tell|Give|Fetch|Read|Ask for|Check|Learn|Returns|Gives|Tells|Finds|Fetches|Says] [the|one's|any] {a} [of|for|from] [a|the|any|one|some|"
                  "every|each|this|the given] {t}[.||, by name.| from the list.| in a table.]",
                  "[The|Its|Any] {a} [of|for|from] [a|the|any|some|every|each|one] {t}[.|, as text.| in our list.|]", "[{A}|{A}s] [by|per|of all|of each|for|from] {t}[.|]",
                  "[A|The|Each|Every|Any] {t} [and its|and the|with its|, its|; its] {a}[.|]", "[What|Which] {a} [does a {t} have|has a {t}|belongs to a {t}|is that of a {t}][?|.|]",
                  "{t} {a}", "{a} ({t})", "[Table|List|Register|Index] of {a}s[.|:] [one {t} each|by {t}][.|]",
                 "[Get|Return|Look up|Show|Find|Tell|Gets|Returns|Shows] the {a} of [a|the|any] {t}[.|]", "The {a} of a {t}[.|]", "{A} of [a|the] {t}[.|]",
                 "[Get|Returns|Find|Shows] [a|the] {t}'s {a}[.|]", "[Use this to get|Gives] the {a} of a {t}."],
                 ["Knows the {a} of every {t}.", "Which {a} a {t} has.", "Reports the {a} for some {t}."])
GET_ASKS = Pool(["[get|tell me|look up|find|show me|give me|check|ask for|fetch|say|see|read|bring me|name|state|print|determine|return|display] [the|what is the|which is the] {a} [of|"
                 "for|from|that belongs to|at|to] [{t} |the {t} |our {t} |a {t} called |the {t} named |]{x}", "[tell me|get|show me|find|look up|check|give me|fetch] {x}'s {a}",
                 "[find|see|learn|say|tell me|show me|check|find out] [which|what] [{a} [{x}|the {t} {x}] [has|gets|is given|shows]|is the {a} of {x}]",
                 "[for|of|about] [the {t} |]{x}[,|:] [tell me|get|give me|find|I need] the {a}", "[look|search|go] [at|for|to] {x} and [tell me|give me|read] [its|the] {a}",
                 "[the|its] {a} of {x}[: find it|: tell me|]", "take {x} and [look up|find|read] its {a}",
                 "[get|tell me|look up|find|show me|give me|check] the {a} of [{t} |the {t} |]{x}", "[tell me|get|show me] {x}'s {a}",
                 "[find out|look up|tell me|check] [which|what] {a} {x} has", "get me the {a} for {x}"],
                ["find out the {a} that {x} has", "report the {a} of the {t} {x}", "give the {a} belonging to {x}"])
GET_QUESTIONS = Pool(["[What is|What's|Which is|What was|What are] [the|its|that] {a} [of|for|from|at|with] [{t} |the {t} |our {t} |a {t} called |]{x}[?|, please?| now?|]",
                      "[What|Which] {a} [does|did|has|do we have for|is there for|belongs to|comes with|is given for|do you see for|can you find for] [the {t} |{t} |]{x}[ have|]?",
                      "[Can|Could|Will|Would] you [tell me|find|get|look up|give me|show me] [the {a} of {x}|{x}'s {a}|what {a} {x} has]?",
                      "[Has {x} a|Has {x} any|Does {x} have a|Does {x} have any] {a}[?| and which?]", "{x}[, what|: what|. What|, which|: which] [is its|is the|] {a}?",
                      "[The|And the|Now the|So the] {a} [of|for] [{t} |]{x}[?|, please.|.]",
                      "[I want|I would like|I have|We need|I wonder|I must have|Tell us] [to know |][the|what] {a} [of|for] {x}[.| is.]",
                      "[And|So|Then|Well,] [what is|what about] the {a} of {x}?",
                 "[What is|What's] the {a} [of|for] [{t} |the {t} |]{x}[?|]", "[What|Which] {a} does [{t} |]{x} have?", "What is [{t} |]{x}'s {a}?", "{a} [of|for] {x}?", "{x}: {a}?",
                 "Do you know {x}'s {a}?", "I need the {a} of {x}."],
                     ["And which {a} does the {t} {x} have?", "Do you know the {a} of {x}?", "Could I have the {a} of {x}?"])
FAILURES = Pool(["read error", "write error", "no space left", "host unreachable", "too many requests", "internal error", "wrong password", "unknown unit", "unknown city",
                 "division by zero", "syntax error", "name too long", "not a directory", "file is locked", "quota exceeded", "network is down", "service unavailable", "no such {w}",
                 "cannot {w}", "{w} failed", "the {w} is {w2}", "{w} {w2}",
                 "no such file", "permission denied", "not found", "timeout", "out of memory", "failed", "bad argument", "not allowed", "unknown id", "is a directory",
                 "cannot connect", "no access", "invalid value", "file does not exist", "no such file or directory"],
                ["disk full", "connection lost", "unknown name", "device busy"])
FOLLOWS = Pool(["[And|Now|Then|Also|Next|OK,|Well,|So|But] [for |with |of |at |in |about |take |the one for |try ]{x}[?|.|, please.|!| too.| now.| as well.]",
                "[What|How|And what] [about|of|is it for|with] {x}[?| then?| now?]",
                "[The same|Likewise|Again|Once more|Repeat|Same thing|Same question|This also] [for|with|about|in] {x}[.|, please.|?]", "{x}[?|, please.| now.| also.| as well, please.|.]",
                "[Do|Try|Give me|Show me|I also need|I also want|Can you do|Could you do] [it |that |this |][for|with] {x}[.|, please.|?]",
                 "And {x}?", "What about {x}?", "Now {x}.", "The same for {x}.", "Also {x}, please.", "And for {x}?", "and {x}", "Now the same with {x}.", "{x} too, please."], ["And how about {x}?",
                 "Do the same with {x}.", "Next one: {x}"])

SINGLES = ("read", "read", "list", "list", "time", "calc", "calc", "convert", "convert", "weather", "search", "write",
           "delete", "timer", "message", "translate", "random", "act", "act", "act", "get", "get", "get")
START = re.compile("(What|Which|How|Is|Do|Can|Could|Please|Read|Show|Tell|List|Open|Get|Give|Find|Set|Send|Write|Delete) ")     # may be in lower case
OPENING = re.compile(r"(?:I|we|the|a|my|our|its|to|for|in|on|at|of|from|between|into|inside|with|both|there|which|what|how) ")      # of a clause that is no order
IMPERATIVE = re.compile(rf"(?!{OPENING.pattern})[a-z]+ ")
SUMS = {    # how a calculation of two numbers may be put, instead of with its operator
    "+": Pool(["[the|a] [sum|total] of {a} [and|with|plus] {b}", "{a} [and|increased by|together with|raised by|plus another] {b}", "{b} more than {a}", "the total: {a} and {b}",
    "the sum of {a} and {b}", "{a} added to {b}"], ["{a} and {b} added up", "{a} with {b} added"]),
    "-": Pool(["[the|a] difference [between|from] {a} [and|to] {b}", "{a} [take away|without|reduced by|lowered by|decreased by|but minus] {b}", "{b} less than {a}",
    "the difference of {a} and {b}", "{a} less {b}"], ["{a} with {b} subtracted", "{a} when {b} is taken away"]),
    "*": Pool(["[the|a] product [of|from] {a} [and|times] {b}", "{a} [multiplied by|lots of|taken times|times the number] {b}", "{b} times as much as {a}", "the product of {a} and {b}",
    "{a} by {b}"], ["{a} multiplied with {b}", "{a} and {b} multiplied"]),
    "/": Pool(["{a} [split by|shared by|cut into|divided by|parted by] {b}", "[the|a] [quotient|ratio|fraction] of {a} [and|to|over] {b}", "the quotient of {a} and {b}", "{a} over {b}"], ["{a} when divided by {b}",
    "the division of {a} by {b}"]),
}
DOES = {
    "+": Pool(["[put|count|sum|take] {a} and {b} together", "[add|join|count] [the numbers |together |]{a} [and|with|plus] {b}", "increase {a} by {b}", "raise {a} by {b}",
    "add {a} and {b}", "add {a} to {b}", "sum up {a} and {b}"], ["add up {a} and {b}", "make the sum of {a} and {b}"]),
    "-": Pool(["[subtract|deduct|remove|take off|draw] {b} from {a}", "[reduce|lower|decrease] {a} by {b}", "take {b} off {a}", "from {a} subtract {b}", "subtract {b} from {a}",
    "take {b} away from {a}"], ["have {b} subtracted from {a}", "take {b} from {a}"]),
    "*": Pool(["[multiply|take] [the numbers |together |]{a} [and|with|times|by] {b}", "[double up|scale|enlarge] {a} by {b}", "multiply {a} by {b}", "multiply {a} and {b}",
    "multiply {a} with {b}"], ["get the product of {a} with {b}", "have {a} multiplied by {b}"]),
    "/": Pool(["[split|share|cut|divide] {a} [by|into|over] {b}", "[divide|part] {a} through {b}", "divide {a} by {b}"], ["have {a} divided by {b}", "do the division of {a} by {b}"]),
}


class Requests(Values):
    def wish(self, clause):
        """A clause as a sentence, sometimes with words beside it that mean nothing."""
        if self.split != "eval-phrasings" and not IMPERATIVE.match(clause):
            c = clause[0].upper() + clause[1:] if OPENING.match(clause) else clause     # a value keeps its case
            return self.r.choice(("{C}.", "{C}", "{c}", "{C}, please.", "OK, {c}.", "Please: {c}")).format(C=c, c=clause)
        if self.split == "train" and self.chance(0.03):
            return clause[0].upper() + clause[1:] + self.r.choice((", ", "! ", " - ", "... ", "? ")) + self.filler(1, 3) + self.r.choice((".", "", "!", "?"))
        if self.split == "train" and self.chance(0.22):
            before, mark = self.filler(1, 5), self.r.choice((",", ":", "", "", " and", " to", "."))
            return (before.capitalize() if self.chance(0.7) else before) + mark + " " + clause + self.r.choice((".", "", "?", ", please."))
        return self.wording(WISHES).replace("{C}", clause[0].upper() + clause[1:]).replace("{c}", clause)

    def aside(self, text):
        """The request, sometimes with a sentence before it that means nothing."""
        if not self.chance(0.12):
            return text
        if self.split == "train" and self.chance(0.4):
            return self.filler(2, 5).capitalize() + self.r.choice(". . ! : ,".split()) + " " + text
        return self.say(ASIDES, w=self.word(), w2=self.word()) + " " + text

    # --- tools ----------------------------------------------------------------------------------------------

    def parameters(self, params):
        used, out = set(), []
        for slot, pool, type_ in params:
            p = self.word() if self.chance(0.3) else self.or_any(pool, 0.15)
            while p in used:
                p = self.pick(pool) if self.chance(0.7) else self.word()
            used.add(p)
            if type_ in ("number", "integer") and self.chance(0.2):
                type_ = "string"
            out.append((slot, p, type_))
        return out

    def wordier(self, text):
        """A description with words beside it that do not matter."""
        x, bare = self.r.random(), text.rstrip(".")
        if x < 0.3:
            return text + ("" if text.endswith(".") else ".") + " " + self.filler(1, 5).capitalize() + "."
        if x < 0.5:
            return bare + self.r.choice((", ", " ", " (", ": ", " - ")) + self.filler(1, 4) + self.r.choice((".", ""))
        if x < 0.75:
            return self.filler(1, 3).capitalize() + self.r.choice((" ", ": ", ", ", ". ")) + (text if self.chance(0.3) else text[0].lower() + text[1:])
        words = text.split(" ")
        words.insert(self.r.randint(0, len(words)), self.filler(1, 1))
        return " ".join(words)

    def made_up(self, name):
        """A name for a tool that tells little: made-up words, with or without its usual name."""
        x = self.r.random()
        w = self.word()
        return (self.identifier() if x < 0.6 else f"{w}_{name}" if x < 0.75 else f"{name}_{w}" if x < 0.9 else name + w.capitalize())

    def tool(self, kind):
        """A tool of one kind: {"kind", "name", "description", "params": [(slot, name, type)]}."""
        r = self.r
        if kind in TOOLS:
            names, descriptions, params = TOOLS[kind]
            name = self.pick(names)
            spec = {"kind": kind, "description": self.say(descriptions), "params": self.parameters(params)}
        elif kind == "act":
            verb = self.word() if self.chance(0.3) else self.or_any(VERBS, 0.2)
            noun = self.word() if self.chance(0.35) else self.or_any(NOUNS, 0.25)
            words = {"v": verb, "n": noun, "V": verb.capitalize(), "N": noun.capitalize()}
            name = r.choice(ACT_NAMES).format(**words)
            params = [("arg", r.choice(("id", "code", "name", "room", "label", "number", "key", "which", "target", self.word(), self.word())), "string")] if self.chance(0.75) else []
            spec = {"kind": kind, "verb": verb, "noun": noun, "params": params, "description": self.say(ACT_TEXTS, **words)}
        else:
            attribute = self.word() if self.chance(0.35) else self.or_any(ATTRIBUTES, 0.25)
            thing = self.word() if self.chance(0.3) else self.or_any(THINGS, 0.3)
            words = {"a": attribute, "t": thing, "A": attribute.capitalize()}
            name = r.choice(GET_NAMES).format(**words)
            spec = {"kind": kind, "attribute": attribute, "thing": thing, "description": self.say(GET_TEXTS, **words),
                    "params": [("arg", r.choice((thing, thing, "id", "name", "key", "of", self.word(), self.word())), "string")]}
        spec["name"] = self.made_up(name) if self.chance(0.55 if self.split == "train" else 0.45) else name
        if self.split == "train" and self.chance(0.2):
            spec["description"] = self.wordier(spec["description"])
        if self.chance(0.1):
            spec["optional"] = r.choice(("limit", "encoding", "verbose", "format", "mode", "timezone", self.word()))
            spec["optional_type"] = r.choice(("string", "integer", "boolean"))
        if self.chance(0.08):
            spec["description"] = spec["description"].rstrip(".") + ". " + r.choice(
                ("Needs no permission.", "Fast.", "Returns text.", "Use it only when asked.", "May fail.", "Returns JSON."))
        return spec

    @staticmethod
    def definition(spec):
        """The tool as the chat API has it."""
        properties = {name: {"type": type_} for _, name, type_ in spec["params"]}
        required = list(properties)
        if "optional" in spec and spec["optional"] not in properties:
            properties[spec["optional"]] = {"type": spec["optional_type"]}
        return {"type": "function", "function": {
            "name": spec["name"], "description": spec["description"],
            "parameters": {"type": "object", "properties": properties, "required": required}}}

    @staticmethod
    def call(spec, **slots):
        """A call of the tool with these values."""
        arguments = {}
        for slot, name, type_ in spec["params"]:
            v = slots[slot]
            if type_ == "integer":
                v = int(v)
            elif type_ == "number":
                v = float(v) if "." in v else int(v)
            arguments[name] = v
        return {"type": "function", "function": {"name": spec["name"], "arguments": arguments}}

    # --- requests by kind: each fills in a dict of slots, result, answer, expect, clause, question ------------------

    def ask_act(self, spec):
        r = self.r
        verb, noun = spec["verb"], spec["noun"]
        value = r.choice((self.code, self.word, self.number, self.name))()
        result = r.choice(("ok", "done", f"{noun} {value}: {self.word()}", f"status {self.number()}", json.dumps({"state": self.word()}), self.word()))
        return {"slots": {"arg": value}, "clause": self.say(ACT_ASKS_OF if spec["params"] else ACT_ASKS, v=verb, n=noun, x=value),
                "result": result, "answer": f"Done: {result}", "expect": [result]}

    def ask_get(self, spec):
        r = self.r
        value = r.choice((self.code, self.name, self.number, self.word))()
        slots = {"a": spec["attribute"], "t": spec["thing"], "x": value}
        v = r.choice((self.number, self.word, self.decimal))()
        result = r.choice((v, v, json.dumps({slots["a"]: v}), f"{slots['a']}: {v}", f"{value}: {v}"))
        return {"slots": {"arg": value}, "clause": self.say(GET_ASKS, **slots), "question": self.say(GET_QUESTIONS, **slots),
                "result": result, "answer": f"The {slots['a']} of {value} is {v}.", "expect": [v]}

    def ask_read(self, _):
        p, result = self.path(), self.contents()
        if self.split == "train" and self.chance(0.12):
            result, first = self.long_text()
            return {"slots": {"path": p}, "result": result, "answer": f"{p} begins: {first}", "expect": [first]}
        answer = f"{p} says: {result}"
        shown = result
        if self.chance(0.06) and "\n" not in result:
            shown = json.dumps({self.r.choice(("content", "text", "result")): result})
        return {"slots": {"path": p}, "result": shown, "answer": answer, "expect": [result]}

    def ask_list(self, _):
        d = self.folder()
        if self.chance(0.05):
            return {"slots": {"folder": d}, "result": self.r.choice(("", "(empty)", "[]", "empty", "no files")), "answer": f"{d} is empty.", "expect": ["is empty"]}
        if self.split == "train" and self.chance(0.08):
            names = self.names(12, 24)
            return {"slots": {"folder": d}, "result": self.listing(names), "names": names,
                    "answer": f"{d} has more than 8 files: {', '.join(names[:3])} and others.", "expect": names[:3]}
        names = self.names(1, 8 if self.split == "train" and self.chance(0.4) else 5)
        return {"slots": {"folder": d}, "result": self.listing(names), "names": names,
                "answer": f"{d} has {len(names)} file{'s' * (len(names) > 1)}: {self.series(names)}.", "expect": names}

    def ask_time(self, _):
        result, t, d = self.clock()
        what = self.r.choice(("time", "date"))
        shown = {"T": what, "t": what if what == "time" or self.chance(0.4) else "day"}
        return {"slots": {}, "shown": shown, "result": result, "answer": f"It is {t}." if what == "time" else f"Today is {d}.", "expect": [t if what == "time" else d]}

    def ask_calc(self, _):
        said, text = self.expression()
        value = self.value_of(text)
        terms, clause = text.split(), None
        if len(terms) == 3 and self.chance(0.3):
            slots = {"a": terms[0], "b": terms[2]}
            if self.chance(0.5):
                said = self.say(SUMS[terms[1]], **slots)
            else:
                clause = self.say(DOES[terms[1]], **slots)
        result = value if self.chance(0.8) else f"{text} = {value}"
        return {"slots": {"expression": text}, "shown": {"sum": said}, "clause": clause, "result": result, "answer": f"{text} = {value}", "expect": [value],
                "only": clause is not None}

    def ask_convert(self, _):
        a, b = self.distinct(lambda: self.word() if self.chance(0.08) else self.or_any(UNITS, 0.15), 2)
        v, w = self.decimal(), self.decimal()
        result = self.r.choice((w, w, f"{w} {b}", json.dumps({"result": float(w) if "." in w else int(w)}), f"{v} {a} = {w} {b}"))
        return {"slots": {"value": v, "from": a, "to": b}, "result": result, "answer": f"{v} {a} = {w} {b}", "expect": [w]}

    def ask_weather(self, _):
        r = self.r
        sky, city = r.choice(("sunny", "cloudy", "rainy", "snowy", "windy", "foggy", "clear")), self.city()
        t = self.fresh(lambda: str(r.randint(-25, 45)))
        result = r.choice((f"{sky}, {t} degrees", f"{t} degrees and {sky}", json.dumps({"sky": sky, "degrees": int(t)}), f"sky: {sky}\ndegrees: {t}"))
        return {"slots": {"city": city}, "result": result, "answer": f"It is {sky} in {city}, {t} degrees.", "expect": [sky, t]}

    def ask_search(self, _):
        result = self.sentence()
        return {"slots": {"query": self.topic()}, "result": result, "answer": f"I found: {result}", "expect": [result]}

    def ask_write(self, _):
        p, text = self.path(), self.sentence().rstrip(".")
        return {"slots": {"path": p, "text": text}, "shown": {"text": self.quoted(text)}, "result": self.r.choice(("ok", "done", "saved", f"wrote {self.r.randint(2, 40)} bytes")),
                "answer": f"I wrote it to {p}.", "expect": [p]}

    def ask_delete(self, _):
        p = self.path()
        return {"slots": {"path": p}, "result": self.r.choice(("ok", "done", "deleted", "removed", "")), "answer": f"I deleted {p}.", "expect": [p]}

    def ask_timer(self, _):
        m = self.fresh(lambda: str(self.r.randint(1, 240)))
        return {"slots": {"minutes": m}, "result": self.r.choice(("ok", "set", "done", "started")), "answer": f"The timer is set to {m} minutes.", "expect": [m]}

    def ask_message(self, _):
        to, text = self.name(), self.sentence().rstrip(".")
        return {"slots": {"to": to, "text": text}, "shown": {"text": self.quoted(text)}, "result": self.r.choice(("ok", "sent", "done", "delivered")),
                "answer": f"I sent it to {to}.", "expect": [to]}

    def ask_translate(self, _):
        text, language, result = self.topic(), self.or_any(LANGUAGES, 0.2), self.topic()
        return {"slots": {"text": text, "language": language}, "shown": {"text": self.quoted(text)}, "result": result,
                "answer": f"In {language} it is: {result}", "expect": [result]}

    def ask_random(self, _):
        low = self.r.randint(0, 9) if self.chance(0.6) else int(self.digits(2, 3))
        high = low + int(self.digits(1, 3))
        n = str(self.r.randint(low, high))
        return {"slots": {"low": str(low), "high": str(high)}, "result": n, "answer": f"The number is {n}.", "expect": [n]}

    def single(self, kind, spec=None):
        """A request for one call: kind, spec, clause (to be joined), text (alone), call, result, answer, expect."""
        spec = spec or self.tool(kind)
        s = getattr(self, "ask_" + kind)(spec)
        shown = {**s["slots"], **s.get("shown", {})}
        if kind in ("read", "delete", "list") and self.chance(0.1):
            for k in shown:
                shown[k] = self.r.choice(('"%s"', '"%s"', "'%s'", "`%s`")) % shown[k]
        question = s.get("question")
        if kind in ASK:
            wishes, questions = ASK[kind]
            s["clause"] = s.get("clause") or self.say(wishes, **shown)
            question = self.say(questions, **shown) if questions and not s.get("only") else None
        text = question if question and self.chance(0.55) else self.wish(s["clause"])
        if self.chance(0.1) and START.match(text):
            text = text[0].lower() + text[1:]
        return {**s, "kind": kind, "spec": spec, "text": self.aside(text), "call": self.call(spec, **s["slots"])}
