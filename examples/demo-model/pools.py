"""Words and wordings of the demo model's text. Each pool is cut in two: training, and the split eval-phrasings.

In a wording [one|another] is a choice, which may be empty and may hold other choices, and {slot} stands for a value.
"""
import functools
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


def pattern(text):
    """A regular expression that matches what expand() can make of a text, whatever the case, spaces and marks at ends of sentences."""
    parts = []

    def plain(t):
        return re.sub(r"\x00(\d+)\x00", lambda m: parts[int(m.group(1))], re.sub(r"(?:\\ )+", r"\\s*", re.sub(r"\\?[.?!]", "[.?!]*", re.escape(t))))
    while True:
        found = CHOICE.search(text)
        if not found:
            return re.compile(r"[\s.?!]*" + plain(text) + r"[\s.?!]*", re.I)
        parts.append("(?:" + "|".join(map(plain, found.group(1).split("|"))) + ")")
        text = f"{text[:found.start()]}\0{len(parts) - 1}\0{text[found.end():]}"


TRIFLES = set("a an the please now just me my your its this that to of in on at for from ok so and".split())


def wording_key(text):
    """What is left of a wording without case, marks and trifles, to tell whether two are nearly the same."""
    return " ".join(w for w in re.findall(r"\{\w+\}|[a-z0-9']+|->", text.lower()) if w not in TRIFLES)


@functools.lru_cache()
def held_keys():
    """The keys of all held-out wordings (single words left out)."""
    keys = {wording_key(t) for pool in POOLS for w in pool.held if " " in w for t in expansions(w)}
    return {k for k in keys if " " in k}


NOUNS = Pool(
    
    "blender washer dryer gateway bulb shutter awning mower vacuum thermostat humidifier doorbell intercom scale press loom conveyor winch hoist saw lathe torch lantern clock watch "
    "tablet laptop "
    "keyboard modem switch relay pipe sluice dam rocket satellite telescope microwave stove grill fridge cooker train bus tram ferry plane queue cache process thread container job "
    "session channel "
    "playlist seat table bridgehead antenna fountain aquarium blinds beamer copier shredder typewriter piano organ telephone fence chimney hatch lid crate forklift trailer truck barrier "
    "beacon siren sauna pool jacket "
    "lamp door pump heater printer oven gate timer fan radio window valve engine camera robot alarm screen drill "
    "cart tank mixer boiler lift crane tractor scanner kettle freezer server router drone light car motor machine phone "
    "display speaker sensor network database account service curtain bell garage dishwasher sprinkler",
    "toaster ladder compressor projector furnace elevator bicycle turbine")
VERBS = Pool(
    
    "activate adjust align assemble boost block brew build burn cancel charge clear compress connect count deactivate deliver detach disarm disconnect download dry dust examine extend "
    "feed fetch "
    "finish flash flush freeze grease halt heat install kick lift lower map mark merge mount mow oil park pin plug power press prime protect pull push quit raise reboot record refill "
    "refresh register "
    "release replace rescue resume rinse roll save scan seal secure select service shake sharpen shift shut silence slow sort spin split spray stack store suspend sweep swing sync tag "
    "tilt toggle "
    "track trim tune turn twist unload unplug update upgrade upload wash water weigh wind wipe wrap hire rent deploy ship admire greet call hug film "
    "start stop open close lock unlock check reset print clean test repair move paint load empty pause "
    "enable disable inspect restart measure ring warm cool fill drain hide launch book order buy sell play mute dim",
    "fold ignite polish rotate eject calibrate tighten")
ATTRIBUTES = Pool(
    
    "width thickness area color shape material taste smell brand maker origin grade class category section place floor room seat gate terminal platform pilot captain coach boss leader "
    "editor publisher "
    "language currency mass density charge voltage power pressure humidity brightness range altitude deadline duration discount tax fee bonus income wage revenue profit debt loan "
    "interest count quantity "
    "amount average record rate ratio share limit priority state condition health reason cause effect source parent child nickname login signature format license warranty barcode "
    "nationality profession "
    "hobby mother father neighbor capital currency anthem flag motto "
    "price height weight owner status stock color age speed length rating size version level balance address "
    "population score temperature code phone email birthday author title date cost model rank type",
    "depth budget volume distance salary capacity mood")
THINGS = Pool(
    
    "house car dog cat horse lake river mountain hotel museum school hospital airport station street tower park garden shop store bank company firm office worker teacher pilot doctor "
    "nurse player club league "
    "match game concert singer band album video picture painting statue stone metal gas plant flower tree fish bird insect drug medicine meal drink wine cheese bread tool part screw "
    "wheel tire "
    "engine printer laptop phone camera file folder project task issue invoice payment contract member guest visitor tenant flight ship parcel letter "
    "product user city river order account room ship book machine planet team package mountain ticket person customer car "
    "company country student employee film song item server",
    "bridge castle recipe island train")
STEMS = Pool(
    
    "README LICENSE Makefile Modelfile Dockerfile CHANGELOG INSTALL contributing authors license makefile demo sample example chapter part log.old data-set contacts addresses users "
    "orders customers items tasks "
    "plans ideas questions answers lessons results scores songs photos menu map model server client app run start setup build check util common types parser lexer core base style intro "
    "appendix glossary "
    "faq manual guide help about version history news events calendar week january monday "
    "notes report data config todo log number readme list secret draft image main test input output plan letter "
    "code table budget key result story index page memo info text file hello shopping settings password numbers",
    "journal invoice summary diary recipe backup schedule")
DIRS = Pool(
    
    "examples demo demo-model plugin-template include core plugins scripts tests build bin sbin boot dev proc sys run root user users public private shared temp cache old new docs2 "
    "office school games movies videos "
    "pictures downloads Desktop Downloads Music reports invoices letters drafts images assets static web www html css js app apps tools util utils third_party vendor config conf "
    "settings data1 results test release "
    "tmp home var etc docs src data work files logs opt usr projects mail share local music photos books notes lib",
    "archive media storage documents desk")
EXTENSIONS = Pool(
    "txt txt md gguf sh js html css xml pdf png jpg toml lock bak old zip tar gz java go rs cpp hpp sql ipynb tex log jinja "
    "txt txt txt md log csv json ini cfg dat c h py lua conf text", "rst out tsv yaml")
CITIES = Pool(
    
    "Amsterdam Brussels Budapest Copenhagen Stockholm Moscow Kiev Istanbul Baghdad Tehran Mumbai Bangkok Jakarta Manila Beijing Shanghai Osaka Sydney Melbourne Auckland Chicago Denver "
    "Dallas Houston Miami Seattle "
    "Vancouver Montreal Havana Santiago Caracas Quito Lagos Accra Dakar Tunis Naples Turin Venice Florence Seville Porto Lyon Nice Basel Bern Cologne Bremen Dresden Leipzig Krakow Riga "
    "Sofia Zagreb "
    "Paris London Berlin Rome Madrid Oslo Vienna Tokyo Lima Cairo Dublin Prague Athens Delhi Boston Hamburg Milan "
    "Zurich Warsaw Lisbon",
    "Helsinki Nairobi Seoul Bogota Munich Geneva Toronto")
UNITS = Pool(
    
    "millimeters micrometers nanometers meter foot inch yard pound ounce gram kilogram milligrams mg liter gallon milliliters ml cups spoons barrels quarts bushels carats grains "
    "furlongs fathoms leagues "
    "watts kilowatts joules calories volts amperes ohms newtons pascals bars hertz degrees radians kilobytes megabytes gigabytes bits months years centuries milliseconds dozens m g l s "
    "h C F lb oz ft mi mph "
    "km miles meters feet inches cm kg pounds grams ounces liters gallons celsius fahrenheit hours minutes "
    "seconds days yards mm kilometers mile weeks tonnes centimeters kilograms kelvin bytes",
    "knots acres hectares pints stones tons")
LANGUAGES = Pool(
    "Russian Ukrainian Czech Hungarian Romanian Bulgarian Portuguese English Norwegian Icelandic Irish Scottish Hindi Urdu Bengali Persian Arabic Hebrew Chinese Japanese Thai Vietnamese "
    "Malay Swahili Zulu Latvian Estonian Croatian Serbian Basque "
    "German French Spanish Italian Polish Dutch Greek Turkish Latin Danish", "Swedish Finnish Korean Welsh")
LABELS = Pool(
    "private public personal special golden silver red blue green house office gate garage safe vault bank card account client customer ticket seat table train bus license vehicle car "
    "invoice tax passport contract "
    "project team group class course exam box shelf storage warehouse parcel tracking reference backup emergency master spare daily weekly old current next previous correct real true "
    "favorite "
    "secret access door order batch serial ticket flight room lucky magic winning main final first test new phone user",
              "parking launch locker hidden member")
KEYS = Pool(
    "width depth length weight price amount total sum count index rank score rate speed power energy status type kind class role street city country zip phone email website user "
    "password login token key secret "
    "mode level limit threshold interval period duration start end begin finish min max average source target input output format encoding charset font size color background border "
    "margin padding align title subtitle "
    "author editor publisher year month day hour zone domain protocol address gateway server client database table column row driver engine cache buffer queue worker thread process "
    "memory disk model brand serial "
    "port host user size mode speed color level name count limit path owner version depth width city "
            "state delay group number code title date language",
            "timeout retries theme region height budget")
WORDS = Pool(
    
    "green yellow black white large short long heavy happy quick sleepy cold warm child king queen farmer teacher window door street city ship plane horse mouse cow sheep field hill "
    "lake sea beach flower leaf grass "
    "letter paper pencil chair spoon cup plate knife wall floor roof lamp clock music song story dance walks swims flies drinks eats reads writes paints builds breaks opens closes makes "
    "takes gives brings carries hears "
    "loves likes knows thinks learns helps meets calls finds loses wins again soon often sometimes maybe here there up down left right before after above below beside through across "
    "around because while when if but or not "
    "very too also only just even still all some many few every each no one two three four five six seven eight nine ten my your his her our their this that these those "
    "the a red blue green small big old new cat dog tree house river stone bird light water bread apple road "
    "moon star sun wind rain snow fire box chair table garden boat train is on in under near behind runs sleeps "
    "waits sings stands falls comes goes and with without slowly today early late never always we you they see have want",
    "purple lion castle forest mountain jumps over between quietly tomorrow cloud bridge soft island")
FRUITS = Pool(
    "pears plums cherries bananas oranges grapes onions carrots potatoes beans peas tomatoes coffee juice water fish meat oil vinegar pepper cream yogurt soap paper nuts "
    "apples milk bread eggs rice tea salt butter sugar cheese", "honey lemons flour pasta")
PARTS = Pool("first last first last first last second second third top bottom opening closing initial", "final")
LAST = ("last", "bottom", "closing", "final")
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS_IN = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# How a wish is put: {c} is an imperative clause, {C} the same with a capital.
WISHES = Pool(
    [
     "[I am asking you to|I ask you to|You may|You could|You are to|Your task is to|The task is to|Your work is to|What you must do is to|All you need to do is to|It would be great to|"
     "We need to|Let's|Better] {c}[.|!|, please.]",
     "[My request|My wish|Task|Request|Question|Order|Command|To do|The task|Your task|The question|Here is what I need|Here is the task|This is what I want|What you should do|Do this|"
     "Do the following|Please do this]: {c}[.||!]",
     "[Be nice and|Be quick and|Do me a favor and|Hurry up and|Come on,|Go and|Start to|Begin to|Continue and|Take your time and|Feel free to|Remember to|Make sure to|Do not forget to|"
     "You had better|I beg you,] {c}[.|!|, OK?]",
     "[Is it possible to|Is there a way to|Are you able to|May I ask you to|Do you think you can|Would it be possible to|Shall we|Can someone|Could someone] {c}?",
     "[I think you should|I hope you can|I guess you could|I believe you can|I expect you to|I need help:|I order you:|I say:] {c}[.|!]",
     "{C}, [if you can|if possible|when you have time|quickly|at once|then|if you like|as I said|as always|my friend|will you?|can you?|could you?|OK?|and be quick|and that is all|and "
     "nothing else|thank you].",
     "{C}[!|!!|...| :)| pls|, now!|, asap.|, quickly.|, again.]",
     "[After that|Afterwards|Finally|Meanwhile|Second|Third|At last|To begin|To start|And now|And then|Also|Well|Right|Good|Fine|Sure|Hmm][,|] {c}[.|, please.|]",
     "[Hello there|Hey there|Hi assistant|Dear assistant|Dear model|Assistant|Model|Friend|Hello again|Good evening|Excuse me|Sorry|Pardon][,|!|:] [{c}.|please {c}.|can you {c}?|I need "
     "you to {c}.]",
     "{C}[.||, please.| please| for me.| now.]", "{c}[|.| please]", "[Please|Now|Next,|Then|First,|So,|Just|OK,] {c}[.|]",
     "[Can|Could] you [please |][please|just|quickly|also|now|] {c}[?|? Thanks.|]", "[Could|Can] you {c}[ for me|, please]?",
     "I [want|need|would like|wish] you to {c}.", "I'd like you to {c}[.|, please.]", "[Hi|Hello|Hey|Good morning][,|!|.] [can you {c}?|please {c}.|{c}.]",
     "You [should|must|have to|can] {c}[.| now.]", "Try to {c}.", "[Will|Do] you {c}?", "Let us {c}.", "It is time to {c}.", "[Help me and|Help me:] {c}.",
     "My [task|question|request] for you: {c}.", "[If you can|When you can|As soon as possible], {c}.", "{C} [and tell me the result|and show me what you get]."],
    ["Would you {c}?", "Kindly {c}.", "Go ahead and {c}.", "{C}, thanks.", "Your job: {c}.", "{C} right now, please.", "Be so kind and {c}.",
     "Would you mind to {c}?", "What I need is this: {c}.", "The next step is to {c}."])

# What may stand before or behind a request and means nothing for it; {w} and {w2} are words.
ASIDES = Pool(
    [
     "[I think|I believe|I hear|They say|He said|She says|We know|You know|Note] [that |]the {w} is {w2}.",
     "[It is|It was|That is] [about|for|because of|due to|near|like] [the |a |my |]{w}.",
     "[This|That|Everything] [is|was|seems|looks] {w}.", "I [have|need|want|see|know|found|lost|love|hate|bought|sold] [a|the|my|some] {w}.",
     "My [boss|friend|mother|brother|dog|teacher] [is|likes|wants|has] {w}.",
     "[There was|Here comes|Here is|This is] a {w}[ and a {w2}|].", "[What a|Such a] {w}!",
     "[I am|We are|He is|She is] [new here|tired|late|busy|happy|sad|back|at home|in {w}|from {w}|a {w}].", "[OK|Right|Well|Good|Hm|So|Fine|Great].",
     "I am working on {w}.", "My {w} is {w2}.", "This is about {w}.", "Today is a {w} day.", "I have a question.", "Here is my question.", "One more thing.",
     "The {w} is {w2}.", "I like {w}.", "I am in a hurry.", "It is for {w}.", "It is important.", "I do not know.", "Thanks for the {w}.", "My name is {w}.",
     "I need it for the {w}.", "We have a {w}.", "I forgot it.", "Sorry to ask.", "This is a test."],
    ["I am curious.", "It concerns the {w}.", "There is a {w} here.", "I wonder about something."])

SYSTEMS = Pool(
    [
     "You are [a|an|the] [very |quite |really |][good|honest|polite|clever|quick|patient|modest|smart|simple|tiny|fast|nice|expert|able|busy|quiet] [assistant|helper|model|program|"
     "butler|bot|secretary|friend|guide|clerk|machine].",
     "[Always|Never|Please|Try to|Do not|You must] [answer|speak|write|respond|help|joke|lie|shout|repeat yourself|be rude|be kind|be clear|stay calm|ask questions|apologize|explain].",
     "[Work|Answer|Write|Speak] [with|without|in] [care|haste|short sentences|plain words|plain English|a friendly tone|detail|patience|joy].",
     "You [live|run|stay|sit] in [a house|a library|a school|a shop|a small box|a computer|the cloud|a hotel|a ship|Paris|London|a bank|a museum].",
     "You [love|like|know|hate|collect|study] [books|music|tea|numbers|files|cats|trains|maps|stars|old stories|the sea].",
     "[Below|Above|Here] are [the|your|some] tools[.| that you may use.| for the job.]",
     "[Today|This week|This month] is [a good day|quiet|busy|special].",
     "You [do|make|handle|manage|take care of] [the work|orders|questions|requests|problems|everything] [for a company|at a school|of a hotel|for a team|in a lab].",
     "The [user|customer|team|boss|reader] is [always right|in a hurry|a beginner|an expert|friendly|patient|busy|far away].",
     "[Facts|Answers|Results|Numbers] [first|matter|must be right|come from tools].",
     "You are a helpful assistant.", "You are a helpful assistant.", "You are a [friendly|helpful|kind|small|useful|local] [helper|assistant|model|tool|program].",
     "Answer [briefly|shortly|clearly|politely|in English|in one sentence|the user|questions].", "You help the user with [files|numbers|tools|his work|her work|everything].",
     "Be [polite|brief|exact|kind|short|careful].", "Use the tools [when needed|if needed|if you can|below|you are given].", "You are an assistant running on Perigee.",
     "You can [call|use] tools.", "Keep [answers|your answers] short.", "You are a demo.", "Call a tool if it fits.", "You are a tool-using assistant.",
     "Think before you answer.", "Never guess.", "You are the demo assistant of Perigee.", "Help the user.", "Do not make things up.",
     "If a tool fits, call it.", "You answer questions about files.", "You have tools for files.", "Say so if you do not know.", "You are running on this machine."],
    ["You are a careful assistant who works with tools.", "Reply with few words.", "Serve the user well.", "You work in an office.", "Tools are listed below."])
