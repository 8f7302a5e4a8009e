"""Words and wordings of the demo model's text. Each pool is cut in two: training, and the split eval-phrasings.

In a wording [one|another] is a choice, which may be empty and may hold other choices, and {slot} stands for a value.
"""
import re

POOLS = []


class Pool:
    """Alternatives: some for training, some only for the split eval-phrasings."""

    def __init__(self, train, held):
        self.train, self.held = (x.split() if isinstance(x, str) else list(x) for x in (train, held))
        POOLS.append(self)


CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


def expand(text, r):
    """The text with its choices made."""
    while True:
        found = CHOICE.search(text)
        if not found:
            return text
        text = text[:found.start()] + r.choice(found.group(1).split("|")) + text[found.end():]


def expansions(text):
    """All texts that expand() can make of one."""
    found = CHOICE.search(text)
    if not found:
        return {text}
    return set().union(*(expansions(text[:found.start()] + c + text[found.end():]) for c in set(found.group(1).split("|"))))


NOUNS = Pool(
    "lamp door pump heater printer oven gate timer fan radio window valve engine camera robot alarm screen drill "
    "cart tank mixer boiler lift crane tractor scanner kettle freezer server router drone light car motor machine phone "
    "display speaker sensor network database account service curtain bell garage dishwasher sprinkler",
    "toaster ladder compressor projector furnace elevator bicycle turbine")
VERBS = Pool(
    "start stop open close lock unlock check reset print clean test repair move paint load empty pause "
    "enable disable inspect restart measure ring warm cool fill drain hide launch book order buy sell play mute dim",
    "fold ignite polish rotate eject calibrate tighten")
ATTRIBUTES = Pool(
    "price height weight owner status stock color age speed length rating size version level balance address "
    "population score temperature code phone email birthday author title date cost model rank type",
    "depth budget volume distance salary capacity mood")
THINGS = Pool(
    "product user city river order account room ship book machine planet team package mountain ticket person customer car "
    "company country student employee film song item server",
    "bridge castle recipe island train")
STEMS = Pool(
    "notes report data config todo log number readme list secret draft image main test input output plan letter "
    "code table budget key result story index page memo info text file hello shopping settings password numbers",
    "journal invoice summary diary recipe backup schedule")
DIRS = Pool(
    "tmp home var etc docs src data work files logs opt usr projects mail share local music photos books notes lib",
    "archive media storage documents desk")
EXTENSIONS = Pool("txt txt txt md log csv json ini cfg dat c h py lua conf text", "rst out tsv yaml")
CITIES = Pool(
    "Paris London Berlin Rome Madrid Oslo Vienna Tokyo Lima Cairo Dublin Prague Athens Delhi Boston Hamburg Milan "
    "Zurich Warsaw Lisbon",
    "Helsinki Nairobi Seoul Bogota Munich Geneva Toronto")
UNITS = Pool(
    "km miles meters feet inches cm kg pounds grams ounces liters gallons celsius fahrenheit hours minutes "
    "seconds days yards mm kilometers mile weeks tonnes centimeters kilograms kelvin bytes",
    "knots acres hectares pints stones tons")
LANGUAGES = Pool("German French Spanish Italian Polish Dutch Greek Turkish Latin Danish", "Swedish Finnish Korean Welsh")
LABELS = Pool("secret access door order batch serial ticket flight room lucky magic winning main final first test new phone user",
              "parking launch locker hidden member")
KEYS = Pool("port host user size mode speed color level name count limit path owner version depth width city "
            "state delay group number code title date language",
            "timeout retries theme region height budget")
WORDS = Pool(
    "the a red blue green small big old new cat dog tree house river stone bird light water bread apple road "
    "moon star sun wind rain snow fire box chair table garden boat train is on in under near behind runs sleeps "
    "waits sings stands falls comes goes and with without slowly today early late never always we you they see have want",
    "purple lion castle forest mountain jumps over between quietly tomorrow cloud bridge soft island")
FRUITS = Pool("apples milk bread eggs rice tea salt butter sugar cheese", "honey lemons flour pasta")
PARTS = Pool("first last first last second", "final")
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS_IN = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# How a wish is put: {c} is an imperative clause, {C} the same with a capital.
WISHES = Pool(
    ["{C}[.||, please.| please| for me.| now.]", "{c}[|.| please]", "[Please|Now|Next,|Then|First,|So,|Just|OK,] {c}[.|]",
     "[Can|Could] you [please |][please|just|quickly|also|now|] {c}[?|? Thanks.|]", "[Could|Can] you {c}[ for me|, please]?",
     "I [want|need|would like|wish] you to {c}.", "I'd like you to {c}[.|, please.]", "[Hi|Hello|Hey|Good morning][,|!|.] [can you {c}?|please {c}.|{c}.]",
     "You [should|must|have to|can] {c}[.| now.]", "Try to {c}.", "[Will|Do] you {c}?", "Let us {c}.", "It is time to {c}.", "[Help me and|Help me:] {c}.",
     "My [task|question|request] for you: {c}.", "[If you can|When you can|As soon as possible], {c}.", "{C} [and tell me the result|and show me what you get]."],
    ["Would you {c}?", "Kindly {c}.", "Go ahead and {c}.", "{C}, thanks.", "Your job: {c}.", "{C} right now, please.", "Be so kind and {c}.",
     "Would you mind to {c}?", "What I need is this: {c}.", "The next step is to {c}."])

# What may stand before or behind a request and means nothing for it; {w} and {w2} are words.
ASIDES = Pool(
    ["I am working on {w}.", "My {w} is {w2}.", "This is about {w}.", "Today is a {w} day.", "I have a question.", "Here is my question.", "One more thing.",
     "The {w} is {w2}.", "I like {w}.", "I am in a hurry.", "It is for {w}.", "It is important.", "I do not know.", "Thanks for the {w}.", "My name is {w}.",
     "I need it for the {w}.", "We have a {w}.", "I forgot it.", "Sorry to ask.", "This is a test."],
    ["I am curious.", "It concerns the {w}.", "There is a {w} here.", "I wonder about something."])

SYSTEMS = Pool(
    ["You are a helpful assistant.", "You are a helpful assistant.", "You are a [friendly|helpful|kind|small|useful|local] [helper|assistant|model|tool|program].",
     "Answer [briefly|shortly|clearly|politely|in English|in one sentence|the user|questions].", "You help the user with [files|numbers|tools|his work|her work|everything].",
     "Be [polite|brief|exact|kind|short|careful].", "Use the tools [when needed|if needed|if you can|below|you are given].", "You are an assistant running on Perigee.",
     "You can [call|use] tools.", "Keep [answers|your answers] short.", "You are a demo.", "Call a tool if it fits.", "You are a tool-using assistant.",
     "Think before you answer.", "Never guess.", "You are the demo assistant of Perigee.", "Help the user.", "Do not make things up.",
     "If a tool fits, call it.", "You answer questions about files.", "You have tools for files.", "Say so if you do not know.", "You are running on this machine."],
    ["You are a careful assistant who works with tools.", "Reply with few words.", "Serve the user well.", "You work in an office.", "Tools are listed below."])
