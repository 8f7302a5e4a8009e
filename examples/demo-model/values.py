"""Values of the demo model's text: names, numbers, paths, sentences. One in six is for evaluation only, by its hash."""
import json
import random
import re
import zlib

import asks
import pools
import talk
from pools import CITIES, DIRS, EXTENSIONS, KEYS, LABELS, MONTHS, STEMS, WEEKDAYS, WORDS, Pool, expand, held_keys, wording_key
from vocabulary import ENGLISH

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SMALL = set("the a an is are of in me you please that what which to for it do does can could i my your and from into this there so be".split())
MIXED = LETTERS + LETTERS.upper() + "0123456789"


def known_words():
    """Words of the training pools, to make unknown words of."""
    texts = [t for pool in pools.POOLS for t in pool.train]
    texts += [answer for answer, _, _ in talk.FACTS] + list(asks.TOOLS)
    return sorted({w.lower() for t in texts for w in re.findall("[A-Za-z]{3,}", t)} | set(ENGLISH))


KNOWN = known_words()
# Words of the training wordings that others may take the place of.
SYNONYMS = {w: (line.split()) for line in """
show display present exhibit reveal
display show present output
find locate discover spot detect
get fetch obtain retrieve grab bring receive
fetch get obtain retrieve collect
give hand pass provide supply
print output display type echo
contents content text body words
text words content writing
folder directory dir
directory folder dir
calculate compute evaluate determine reckon establish
compute calculate evaluate determine
convert change transform turn recalculate
delete remove erase wipe destroy drop discard eliminate
remove delete erase wipe
want need wish
need want require
check inspect examine verify
help assist support
contain hold have include possess carry
contains holds has includes carries
says tells states contains holds
stored kept saved recorded held
stored written placed put
written stored noted recorded set
named mentioned given cited specified
mentioned named given
user person client customer human
assistant helper bot agent
called named titled known
number figure value amount
return give report yield deliver
returns gives reports yields delivers
gets fetches obtains retrieves finds
reads opens loads fetches
shows displays reveals gives presents
current present actual momentary
start begin launch trigger
send deliver mail post transmit
copy duplicate transfer
multiply scale
add sum
which what
document file paper
documents files papers
files documents items entries
file document
exact precise
tool function helper command utility
tool utility service
look peek glance search
what which
random arbitrary
another some other
""".strip().split("\n") for w in [line.split()[0]]}


class Values:
    def __init__(self, split, seed):
        self.split = split
        self.r = random.Random(f"{split} {seed}")

    def pick(self, pool):
        """One of a pool, choices made: of its held-out part in the split eval-phrasings, else of its training part."""
        if isinstance(pool, Pool):
            pool = pool.held if self.split == "eval-phrasings" else pool.train
        return expand(self.r.choice(pool), self.r)

    def blurred(self, text):
        """A wording of the training text, sometimes with a small word missing or replaced, or a made-up word between."""
        if self.split != "train":
            return text
        if self.chance(0.25):
            text = self.synonymous(text)
        words = text.split(" ")
        if len(words) < 3 or not self.chance(0.15):
            return text
        small = [i for i, w in enumerate(words) if w.lower() in SMALL and "{" not in "".join(words[max(i - 1, 0):i + 2])]
        between = [i for i in range(1, len(words)) if "{" not in words[i - 1] + words[i] and words[i].isalpha()]
        x = self.r.random()
        if x < 0.5 and between:
            words.insert(self.r.choice(between), self.syllables())
        elif small:
            i = self.r.choice(small)
            words[i:i + 1] = [self.syllables()] if x < 0.75 else []
        return " ".join(words)

    def synonymous(self, text):
        """A wording with some of its words replaced by others that mean the same."""
        def other(m):
            found = SYNONYMS.get(m.group(0).lower())
            if not found or self.chance(0.4):
                return m.group(0)
            w = self.r.choice(found)
            return w.capitalize() if m.group(0)[0].isupper() else w
        return re.sub(r"(?<![\w{.])[A-Za-z]+(?![\w}.(])", other, text)

    def wording(self, pool):
        """One of a pool, varied in training, and never there like one that is held out."""
        while True:
            text = self.blurred(self.pick(pool))
            if self.split != "train" or wording_key(text) not in held_keys():
                return text

    def say(self, pool, /, **slots):
        """One of a pool with its slots filled in."""
        return re.sub(r"\{(\w+)\}", lambda m: slots.get(m.group(1), m.group(0)), self.wording(pool))

    def fresh(self, make):
        """A value of make() that is in this split."""
        while True:
            v = make()
            if self.is_held(v) == (self.split != "train"):
                return v

    @staticmethod
    def is_held(v):
        """Whether a value is for evaluation only."""
        return zlib.crc32(json.dumps(v).encode()) % 6 == 0

    def chance(self, p):
        return self.r.random() < p

    def distinct(self, make, low, high=None):
        out = []
        count = self.r.randint(low, high or low)
        while len(out) < count:
            v = make()
            if v not in out:
                out.append(v)
        return out

    def syllables(self, low=2, high=3):
        """A word of no language: syllables, or the ends of two known words, or letters."""
        r = self.r
        x = r.random()
        if x < 0.3:
            a, b = r.choice(KNOWN), r.choice(KNOWN)
            return a[:r.randint(1, len(a))] + b[-r.randint(1, len(b)):]
        if x < 0.38:
            a = r.choice(KNOWN)
            i = r.randrange(len(a))
            return a[:i] + r.choice(LETTERS) + a[i + r.randint(0, 1):]
        if x < 0.45:
            return "".join(r.choice(LETTERS) for _ in range(r.randint(3, 7)))
        word = ""
        for _ in range(r.randint(low, high)):
            word += r.choice("bcdfghjklmnprstvwxz") + r.choice("aeiouy")
            if r.random() < 0.35:
                word += r.choice("bdfgklmnprstxz")
        return word

    def word(self):
        return self.fresh(self.syllables)

    def name(self):
        return self.word().capitalize()

    def identifier(self):
        """A made-up name of a program's thing."""
        r = self.r
        parts = [self.word() for _ in range(r.choice((1, 1, 2, 2, 2, 3)))]
        if self.split == "train" and self.chance(0.4):
            parts = [r.choice(ENGLISH) if self.chance(0.7) else p for p in parts]
            if self.chance(0.4):
                return "".join(p.capitalize() for p in parts)
        x = r.random()
        if x < 0.7:
            return "_".join(parts)
        if x < 0.85:
            return parts[0] + "".join(p.capitalize() for p in parts[1:])
        return r.choice("..-").join(parts)

    def digits(self, low, high):
        n = self.r.randint(low, high)
        out = str(self.r.randint(1, 9))
        for _ in range(n - 1):
            out += out[-1] if self.split == "train" and self.r.random() < 0.12 else self.r.choice("0123456789")
        return out

    def number(self):
        return self.fresh(lambda: self.digits(*self.r.choice(((1, 3), (3, 5), (4, 6), (5, 8)))))

    def decimal(self):
        return self.fresh(lambda: self.digits(1, 3) + ("." + self.r.choice(("", "0", "1", "2", "3")) + self.r.choice("123456789") if self.chance(0.5) else ""))

    def code(self):
        """Letters and digits at random."""
        r = self.r

        def make():
            style = r.randint(0, 3)
            if style == 0:
                return r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") + self.digits(1, 4)
            letters = "abcdefghijkmnpqrstuvwxyz23456789" if r.random() < 0.5 else "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
            if style == 1:
                return "".join(r.choice(letters) for _ in range(r.randint(3, 8)))
            if style == 2:
                return "-".join("".join(r.choice(letters) for _ in range(r.randint(2, 4))) for _ in range(2))
            return self.syllables(1, 2) + self.digits(1, 3)
        return self.fresh(make)

    def filename(self):
        r = self.r

        def make():
            style = r.randint(0, 9)
            if style < 2:
                s = self.pick(STEMS)
            elif style < 4:
                s = self.pick(STEMS) + r.choice("_-_") + self.digits(1, 5)
            elif style < 5:
                s = self.pick(STEMS) + self.digits(1, 3)
            elif style < 7:
                s = self.syllables()
            elif style < 9:
                s = self.syllables() + r.choice("_-.") + (self.pick(STEMS) if r.random() < 0.5 else self.syllables())
            else:
                s = "".join(r.choice(LETTERS + "0123456789") for _ in range(r.randint(3, 8)))
            if r.random() < 0.08:
                s = s.upper()
            elif r.random() < 0.06:
                s = s.capitalize()
            if self.split == "train" and r.random() < 0.15:
                s = r.choice(ENGLISH) + (r.choice("_-") + r.choice(ENGLISH) if r.random() < 0.5 else "")
                if r.random() < 0.3:
                    s = r.choice(("0", "1", "")) + self.digits(1, 1) + r.choice("_-") + s
                if r.random() < 0.2:
                    s = r.choice((s.upper(), s.capitalize()))
            if self.split == "train" and r.random() < 0.08:
                return s
            end = "".join(r.choice(LETTERS) for _ in range(r.randint(2, 4))) if r.random() < (0.25 if self.split == "train" else 0.12) else self.pick(EXTENSIONS)
            return s + ("." + end if r.random() < 0.92 else "")
        return self.fresh(make)

    def dirname(self):
        r = self.r
        x = r.random()
        if self.split == "train" and r.random() < 0.12:
            return r.choice(ENGLISH)
        if x < 0.5:
            return self.pick(DIRS)
        if x < 0.75:
            return self.syllables()
        if x < 0.85:
            return self.pick(DIRS) + self.digits(1, 2)
        if x < 0.92:
            return "tmp." + "".join(r.choice(MIXED) for _ in range(r.choice((6, 10))))
        return "".join(r.choice(LETTERS + "0123456789") for _ in range(r.randint(2, 6)))

    def folder(self):
        r = self.r

        def make():
            start = r.choice(("/", "/", "/", "", "", "./", "~/"))
            if start == "/" and r.random() < 0.3:
                start = "/tmp/"
            names = [self.dirname() for _ in range(r.choice((1, 1, 2, 2, 3)))]
            if self.split == "train":
                if start in ("./", "~/") and r.random() < 0.2:
                    start = r.choice(("../", "../../"))
                if len(names) > 1 and r.random() < 0.15:
                    names[1] = names[0]
                elif r.random() < 0.02:
                    return r.choice((".", "..", "/", "~"))
            return start + "/".join(names)
        return self.fresh(make)

    def path(self):
        x = self.r.random()
        if self.split == "train" and self.chance(0.06):
            return self.r.choice(("./", "../", "~/", "/")) + self.filename()
        return self.filename() if x < 0.4 else "/tmp/" + self.filename() if x < 0.48 else self.folder() + "/" + self.filename()

    def sentence(self):
        """Some words in a row."""
        words = [self.word() if self.chance(0.35) else self.plain_word() for _ in range(self.r.randint(2, 6))]
        if self.split == "train" and len(words) > 2 and self.chance(0.12):
            words[-1] = self.r.choice(words[:-1])
        s = " ".join(words)
        return s[0].upper() + s[1:] + "." if self.chance(0.6) else s

    def plain_word(self):
        return self.r.choice(ENGLISH) if self.split == "train" and self.chance(0.6) else self.pick(WORDS)

    def topic(self):
        return " ".join(self.word() if self.chance(0.5) else self.plain_word() for _ in range(self.r.randint(1, 3)))

    def city(self):
        return self.pick(CITIES) if self.chance(0.4) else self.name()

    def or_any(self, pool, share):
        """One of a pool, in training for some share a word at random."""
        if self.split == "train" and self.chance(share):
            return self.r.choice(ENGLISH) if self.chance(0.5) else self.word()
        return self.pick(pool)

    def filler(self, low, high):
        """Words that mean nothing where they stand; only for training."""
        return " ".join(self.r.choice(KNOWN) if self.chance(0.7) else self.syllables() for _ in range(self.r.randint(low, high)))

    def quoted(self, s):
        """A text as a user cites it."""
        x = self.r.random()
        return f'"{s}"' if x < 0.6 else f"'{s}'" if x < 0.65 else s

    def expression(self):
        """A calculation as the user puts it, and as the calculator takes it."""
        r = self.r

        def make():
            a = self.digits(1, r.choice((2, 3, 4))) + ("." + self.digits(1, 2) if r.random() < 0.08 else "")
            b = self.digits(1, r.choice((2, 3)))
            op = r.choice("+-*/")
            if r.random() < 0.15:
                return [a, op, b, r.choice("+-*"), self.digits(1, 2)]
            return [a, op, b]
        terms = self.fresh(make)
        spoken = {"+": ("+", "+", "plus"), "-": ("-", "-", "minus"), "*": ("*", "*", "times", "x", "multiplied by"), "/": ("/", "/", "divided by")}
        said = " ".join(r.choice(spoken[t]) if t in spoken else t for t in terms)
        text = " ".join(terms)
        if not re.search("[a-w]", said) and r.random() < 0.3:
            said = said.replace(" ", "")
        return said, text

    @staticmethod
    def value_of(text):
        v = eval(text)      # digits and operators from expression() only
        return str(v) if isinstance(v, int) else f"{v:.4f}".rstrip("0").rstrip(".")

    def clock(self):
        """A moment as a clock tool gives it: (result, time, date)."""
        r = self.r

        def make():
            return [r.randint(0, 23), r.randint(0, 59), r.randint(0, 59), r.randint(2020, 2039), r.randint(1, 12), r.randint(1, 28), r.randint(0, 6)]
        h, mi, s, y, mo, d, w = self.fresh(make)
        t = f"{h:02}:{mi:02}" + (f":{s:02}" if self.chance(0.4) else "")
        iso, long_ = f"{y}-{mo:02}-{d:02}", f"{d} {MONTHS[mo - 1]} {y}"
        day = f"{WEEKDAYS[w]}, {long_}"
        american = f"{MONTHS[mo - 1]} {d}, {y}"
        if self.split == "eval-phrasings":
            return r.choice(((f"It is {t} on {iso}.", t, iso), (f"{day} at {t}", t, day), (f"today {iso}, now {t}", t, iso)))
        short = f"{WEEKDAYS[w][:3]} {MONTHS[mo - 1][:3]} {d}"
        names = f"{WEEKDAYS[w]}, {iso}"
        european, slashed, short_day = f"{d:02}.{mo:02}.{y}", f"{mo:02}/{d:02}/{y}", f"{WEEKDAYS[w][:3]}, {d} {MONTHS[mo - 1][:3]} {y}"
        return r.choice((
            (f"{names}, {t}", t, names), (f"{t} on {day}", t, day), (f"{WEEKDAYS[w]} {iso} {t}", t, f"{WEEKDAYS[w]} {iso}"), (f"{european} {t}", t, european), (f"{slashed} {t}", t, slashed),
            (f"{short_day} {t} +0000", t, short_day), (f"We have {day}, and it is {t}.", t, day), (f"Time: {t}, date: {iso}", t, iso), (f"clock {t} / calendar {iso}", t, iso),
            (f"Now: {iso} {t}", t, iso), (f"Today is {day}. The time is {t}.", t, day), (f"{self.filler(1, 2)} {t} {self.filler(1, 2)} {iso}", t, iso),
            (f"{iso} {t}", t, iso), (f"{iso} {t}", t, iso), (f"{iso}T{t}", t, iso), (f"{day}, {t}", t, day), (json.dumps({"date": iso, "time": t}), t, iso),
            (json.dumps({"time": t, "date": day}), t, day), (f"{t} {long_}", t, long_), (f"date: {iso}\ntime: {t}", t, iso), (f"{short} {t} {y}", t, f"{short} {y}"),
            (f"{short} {t} UTC {y}", t, f"{short} {y}"), (f"{american} {t}", t, american), (f"{t}, {american}", t, american), (f"The time is {t} and the date is {iso}.", t, iso),
            (f"{day} {t}", t, day), (f"{t} {iso}", t, iso)))

    def line(self):
        """A line of a long text."""
        r = self.r
        x = r.random()
        if x < 0.35:
            return (" ".join(self.plain_word() for _ in range(r.randint(5, 14))) + r.choice((".", ",", "", ":"))).capitalize()
        if x < 0.5:
            return r.choice(("# ", "## ", "- ", "* ", "-- ", "// ", "    ", f"{r.randint(1, 30)}. ")) + self.sentence()
        if x < 0.6:
            return f"{self.or_any(KEYS, 0.3)}{r.choice(('=', ': ', ' = '))}{r.choice((self.number, self.word))()}"
        if x < 0.7:
            return r.choice(("    return ", "local ", "#include ", "end ", "def ", "[", "<p>", "$ ")) + self.word()
        return r.choice((self.sentence, self.sentence, self.number, self.name))()

    def long_text(self):
        """A text of many lines (some empty), and its first line."""
        lines = [self.line() for _ in range(self.r.randint(7, 16))]
        for _ in range(self.r.randint(0, 4)):
            lines.insert(self.r.randint(1, len(lines)), "")
        text = "\n".join(lines)
        if len(text) > 410 or self.chance(0.2):      # cut, as by tools that have a short memory
            text = text[:400] + self.r.choice((" ...", "...", "\n(cut)", ""))
        return text, lines[0]

    def contents(self):
        """The text of a file of no particular form."""
        x = self.r.random()
        if x < 0.5:
            return self.sentence()
        if x < 0.62:
            return self.number()
        if x < 0.7:
            return self.code()
        if x < 0.78:
            return f"{self.pick(KEYS)}={self.r.choice((self.number, self.word))()}"
        if x < 0.92:
            return "\n".join(self.r.choice((self.word, self.number, self.sentence, self.sentence))() for _ in range(self.r.randint(2, 4)))
        return "The " + self.pick(LABELS) + " number is " + self.number() + "."

    def names(self, low=1, high=5):
        return self.distinct(self.filename, low, high)

    def listing(self, names):
        x = self.r.random()
        if self.split == "eval-phrasings":
            return json.dumps({"entries": names}) if x < 0.2 else "\n".join("- " + n for n in names) if x < 0.4 else "\n".join(names)
        if self.split == "train" and self.chance(0.2):
            mark, key = self.r.choice(("", "", "> ", "+ ", "# ", "| ", "file: ", "-> ", "~ ", self.filler(1, 1) + " ")), self.r.choice(("names", "items", "content", "list", "result",
                                       "folder", "documents", self.word()))
            return self.r.choice((json.dumps({key: names}), "; ".join(names), " ".join(names), " | ".join(names), "\n".join(mark + n for n in names), "\n".join(mark + n for n in names),
                                  "\n".join(f"{i}) {n}" for i, n in enumerate(names, 1)), "\n".join(f"{self.digits(2, 4)} {n}" for n in names), key + ":\n" + "\n".join(names)))
        return (json.dumps(names) if x < 0.2 else json.dumps({"files": names}) if x < 0.25 else ", ".join(names) if x < 0.35 else "  ".join(names) if x < 0.4
                else "\n".join("* " + n for n in names) if x < 0.43 else "\n".join(f"{i + 1}. {n}" for i, n in enumerate(names)) if x < 0.46 else "\n".join(names))

    @staticmethod
    def series(items):
        return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
