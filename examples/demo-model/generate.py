#!/usr/bin/env python3
"""Conversations of the demo model's domain, as JSON lines: generated text only, the same bytes from the same seed.

  python3 generate.py --split train --count 1000 --seed 1 > train.jsonl

Each line is {"category", "tools", "messages"}. Messages and tools have the shape of OpenAI's chat API; an
assistant message without tool calls also has "expect": the strings that a right answer contains.

Splits:
  train           the training text
  eval-values     wordings of the training text around values (numbers, names, paths) that it never has
  eval-phrasings  as eval-values, and with wordings, tool names, descriptions and file contents it never has
A value belongs to evaluation when its hash says so, and each pool of wordings is cut in two, so the splits
cannot overlap, whatever the seed.
"""
import argparse
import json
import random
import re
import sys
import zlib

PARAMETERS = "4 million"          # what the model says about its size


class Pool:
    """Alternatives: some for training, some only for the split eval-phrasings."""

    def __init__(self, train, held):
        self.train = train
        self.held = held


NOUNS = Pool(
    "lamp door pump heater printer oven gate timer fan radio window valve engine camera robot alarm screen drill "
    "cart tank mixer boiler lift crane tractor scanner kettle freezer server router drone".split(),
    "toaster ladder compressor projector furnace elevator bicycle turbine".split())
VERBS = Pool(
    "start stop open close lock unlock check reset print clean test repair move paint load empty pause "
    "enable disable inspect restart measure".split(),
    "fold ignite polish rotate eject calibrate tighten".split())
ATTRIBUTES = Pool(
    "price height weight owner status stock color age speed length rating size version level balance address "
    "population score temperature code".split(),
    "depth budget volume distance salary capacity mood".split())
THINGS = Pool(
    "product user city river order account room ship book machine planet team package mountain ticket".split(),
    "bridge castle recipe island train".split())
STEMS = Pool(
    "notes report data config todo log number readme list secret draft image main test input output plan letter "
    "code table budget key result story index page memo info text file".split(),
    "journal invoice summary diary recipe backup schedule".split())
DIRS = Pool(
    "tmp home var etc docs src data work files logs opt usr projects mail share local music photos".split(),
    "archive media storage documents desk".split())
EXTENSIONS = Pool("txt md log csv json ini cfg dat c h py lua conf text".split(), ["rst", "out", "tsv", "yaml"])
CITIES = Pool(
    "Paris London Berlin Rome Madrid Oslo Vienna Tokyo Lima Cairo Dublin Prague Athens Delhi Boston Hamburg Milan "
    "Zurich Warsaw Lisbon".split(),
    "Helsinki Nairobi Seoul Bogota Munich Geneva Toronto".split())
UNITS = Pool(
    "km miles meters feet inches cm kg pounds grams ounces liters gallons celsius fahrenheit hours minutes "
    "seconds days yards mm".split(),
    "knots acres hectares pints stones tons".split())
LANGUAGES = Pool("German French Spanish Italian Polish Dutch Greek Turkish Latin Danish".split(),
                 "Swedish Finnish Korean Welsh".split())
LABELS = Pool("secret access door order batch serial ticket flight room lucky magic winning main final first".split(),
              "parking launch locker hidden member".split())
KEYS = Pool("port host user size mode speed color level name count limit path owner version depth width city "
            "state delay group".split(),
            "timeout retries theme region height budget".split())
WORDS = Pool(
    "the a red blue green small big old new cat dog tree house river stone bird light water bread apple road "
    "moon star sun wind rain snow fire box chair table garden boat train is on in under near behind runs sleeps "
    "waits sings stands falls comes goes and with without slowly today early late never always".split(),
    "purple lion castle forest mountain jumps over between quietly tomorrow cloud bridge soft island".split())
FRUITS = Pool("apples milk bread eggs rice tea salt butter sugar cheese".split(), "honey lemons flour pasta".split())
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS_IN = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# How a wish is put, {c} being an imperative clause.
WISHES = Pool(
    ["{C}.", "{C}.", "{C}", "{c}", "Please {c}.", "Can you {c}?", "Could you {c}?", "Could you please {c}?", "{C}, please.",
     "I want you to {c}.", "Now {c}.", "I need you to {c}.", "Hi, {c}.", "Hello, can you {c}?", "I would like you to {c}.",
     "{C} for me.", "Next, {c}."],
    ["Would you {c}?", "Kindly {c}.", "Go ahead and {c}.", "{C}, thanks.", "Your job: {c}.", "{C} right now, please.",
     "Be so kind and {c}."])

# The tools: names, descriptions, and parameters as (slot, names, type).
PATH = Pool(["path", "path", "file", "filename", "file_path", "name", "file_name"], ["filepath", "target", "location"])
FOLDER = Pool(["path", "path", "dir", "directory", "folder"], ["location", "dirname", "where"])
CITY = Pool(["city", "place", "location", "town"], ["where", "city_name"])
TOOLS = {
    "read": (Pool(["read_file", "read_file", "cat_file", "open_document", "get_text", "file_read", "readFile", "load_file", "cat",
                   "show_file", "read", "fs_read"],
                  ["view_file", "fetch_file", "get_file_contents", "ReadDocument"]),
             Pool(["Read a text file.", "Read a file.", "Return the text of a file.", "Get the contents of a file.",
                   "Reads a file and returns its text", "Show what a file contains.", "Open a document and return its text.",
                   "Read the file at the given path."],
                  ["View the contents of a document.", "Load the text stored in a file.", "Fetch a file from the disk."]),
             [("path", PATH, "string")]),
    "list": (Pool(["list_dir", "list_files", "ls", "list_directory", "dir", "get_files", "listDir", "show_folder", "fs_list"],
                  ["browse_folder", "enumerate_files", "list_folder_contents"]),
             Pool(["List a directory.", "List the files in a folder.", "Return the names of the files in a directory.",
                   "Lists the entries of a folder", "Show which files are in a folder."],
                  ["Enumerate the files of a directory.", "Give the names of all files in a folder."]),
             [("folder", FOLDER, "string")]),
    "time": (Pool(["get_time", "current_time", "clock", "now", "time", "get_datetime", "date_time", "getTime"],
                  ["what_time", "read_clock", "current_date_and_time"]),
             Pool(["Return the current date and time.", "Get the current time and date.", "Tells the date and the time",
                   "The clock: date and time now.", "Current date and time."],
                  ["Look at the clock and the calendar.", "Gives the time and the date of this moment."]),
             []),
    "calc": (Pool(["calculator", "calculate", "calc", "evaluate", "compute", "math", "eval_expression", "do_math"],
                  ["arithmetic", "solve_expression", "number_cruncher"]),
             Pool(["Evaluate an arithmetic expression.", "Calculate the value of an expression.", "A calculator.",
                   "Does arithmetic", "Compute the result of a calculation."],
                  ["Work out a sum or a product.", "Pocket calculator for arithmetic."]),
             [("expression", Pool(["expression", "expr", "formula", "input", "calculation"], ["sum", "arithmetic"]), "string")]),
    "convert": (Pool(["convert_units", "convert", "unit_converter", "units", "convertUnit", "unit_convert"],
                     ["change_units", "measurement_converter"]),
                Pool(["Convert a value from one unit to another.", "Convert units.", "Converts between units of measurement",
                      "Change a value into another unit."],
                     ["Translate a measurement into a different unit.", "Unit conversion."]),
                [("value", Pool(["value", "amount", "number", "quantity"], ["magnitude", "x"]), "number"),
                 ("from", Pool(["from", "from_unit", "source", "unit"], ["unit_in", "source_unit"]), "string"),
                 ("to", Pool(["to", "to_unit", "target", "new_unit"], ["unit_out", "target_unit"]), "string")]),
    "weather": (Pool(["get_weather", "weather", "forecast", "weather_now", "current_weather"],
                     ["weather_report", "check_sky"]),
                Pool(["Get the weather in a city.", "Return the current weather of a place.", "Tells the weather",
                      "Weather for a city."],
                     ["Report how the weather is somewhere.", "Look up weather conditions."]),
                [("city", CITY, "string")]),
    "search": (Pool(["search", "web_search", "search_web", "find", "lookup"], ["query_index", "search_online"]),
               Pool(["Search the web.", "Search for a text and return the results.", "Find pages about a topic."],
                    ["Look something up on the internet.", "Query a search engine."]),
               [("query", Pool(["query", "q", "text", "term"], ["keywords", "topic"]), "string")]),
    "write": (Pool(["write_file", "save_file", "write", "store_text", "file_write", "save"], ["put_file", "create_document"]),
              Pool(["Write text to a file.", "Save a text in a file.", "Writes a file", "Store text under a path."],
                   ["Create a file with the given text.", "Put text into a document."]),
              [("path", PATH, "string"), ("text", Pool(["content", "text", "data"], ["contents", "body"]), "string")]),
    "delete": (Pool(["delete_file", "remove_file", "rm", "delete", "erase_file"], ["unlink", "discard_file"]),
               Pool(["Delete a file.", "Remove a file.", "Deletes the file at a path"], ["Erase a document from the disk."]),
               [("path", PATH, "string")]),
    "timer": (Pool(["set_timer", "timer", "start_timer", "countdown", "set_alarm"], ["kitchen_timer", "wake_me"]),
              Pool(["Set a timer.", "Start a timer for some minutes.", "Rings after a number of minutes"],
                   ["Begin a countdown in minutes."]),
              [("minutes", Pool(["minutes", "duration", "time"], ["length", "mins"]), "integer")]),
    "message": (Pool(["send_message", "send", "message", "send_mail", "notify", "sendMessage"], ["deliver_note", "text_person"]),
                Pool(["Send a message to a person.", "Send text to somebody.", "Sends a message"],
                     ["Deliver a note to someone."]),
                [("to", Pool(["to", "recipient", "person", "name"], ["receiver", "addressee"]), "string"),
                 ("text", Pool(["text", "message", "body", "content"], ["note", "words"]), "string")]),
    "translate": (Pool(["translate", "translate_text", "translator", "to_language"], ["render_language", "interpret"]),
                  Pool(["Translate a text into a language.", "Translates words", "Return a text in another language."],
                       ["Say a text in a foreign language."]),
                  [("text", Pool(["text", "input", "words"], ["phrase", "original"]), "string"),
                   ("language", Pool(["language", "lang", "to", "target"], ["tongue", "into"]), "string")]),
    "random": (Pool(["random_number", "random", "dice", "pick_number", "rand"], ["draw_number", "roll"]),
               Pool(["Pick a random number.", "Return a random number between two numbers.", "Random integer from low to high."],
                    ["Draw a number by chance."]),
               [("low", Pool(["low", "min", "from", "start"], ["lower", "least"]), "integer"),
                ("high", Pool(["high", "max", "to", "end"], ["upper", "most"]), "integer")]),
}

# Clauses that ask for one call, by kind: imperatives (wrapped by WISHES) and whole questions.
ASK = {
    "weather": (Pool(["[get|check|tell me|show me|look up] the weather in {city}", "tell me how the weather is in {city}"],
                     ["report on the weather in {city}", "find out what the weather in {city} is like"]),
                Pool(["[What is|How is|What's] the weather in {city}?", "What is the weather like in {city}?", "Is it raining in {city}?",
                      "weather in {city}?", "How warm is it in {city}?"],
                     ["What sort of weather does {city} have?", "Do I need an umbrella in {city}?", "Is it cold in {city} today?"])),
    "search": (Pool(["search for {query}", "search the web for {query}", "look up {query}", "find {query}", "find something about {query}"],
                    ["do a web search on {query}", "google {query}"]),
               Pool(["What does the web say about {query}?", "What can you find about {query}?"],
                    ["Is there anything online about {query}?"])),
    "write": (Pool(["write {text} to {path}", "save {text} in {path}", "put {text} into {path}", "write the text {text} to the file {path}",
                    "store {text} in the file {path}"],
                   ["record {text} in {path}", "create {path} with the text {text}"]), None),
    "delete": (Pool(["delete {path}", "remove {path}", "delete the file {path}", "remove the file {path}"],
                    ["erase {path}", "get rid of {path}"]), None),
    "timer": (Pool(["set a timer for {minutes} minutes", "start a timer of {minutes} minutes", "set a {minutes} minute timer",
                    "remind me in {minutes} minutes"],
                   ["let it ring in {minutes} minutes", "count down {minutes} minutes"]), None),
    "message": (Pool(["send {to} the message {text}", "tell {to} {text}", "send {text} to {to}", "write {to} a message: {text}"],
                     ["let {to} know: {text}", "message {to}: {text}"]), None),
    "translate": (Pool(["translate {text} into {language}", "translate {text} to {language}", "say {text} in {language}"],
                       ["put {text} into {language}", "give me {text} in {language}"]),
                  Pool(["What is {text} in {language}?", "How do you say {text} in {language}?"],
                       ["What would {text} be in {language}?"])),
    "random": (Pool(["pick a random number between {low} and {high}", "give me a random number from {low} to {high}",
                     "choose a number between {low} and {high}", "roll a number from {low} to {high}"],
                    ["draw any number between {low} and {high}"]), None),
    "calc": (Pool(["calculate {sum}", "compute {sum}", "work out {sum}", "evaluate {sum}", "tell me what {sum} is"],
                  ["figure out {sum}", "solve {sum}", "find the result of {sum}"]),
             Pool(["[What is|What's|How much is] {sum}?", "{sum}", "{sum} = ?", "{sum}?"],
                  ["What do you get for {sum}?", "What does {sum} make?"])),
    "convert": (Pool(["convert {value} {from} to {to}", "convert {value} {from} into {to}", "change {value} {from} to {to}",
                      "turn {value} {from} into {to}", "express {value} {from} in {to}"],
                     ["give me {value} {from} as {to}", "recalculate {value} {from} in {to}"]),
                Pool(["[What is|What's|How much is] {value} {from} in {to}?", "How many {to} are {value} {from}?", "How many {to} is {value} {from}?",
                      "{value} {from} in {to}?", "{value} {from} to {to}"],
                     ["What are {value} {from} expressed in {to}?", "{value} {from} makes how many {to}?"])),
    "time": (Pool(["tell me the [time|date]", "tell me what time it is", "check the [time|date|clock]", "give me the current [time|date]"],
                  ["look at the clock", "find out what day it is"]),
             Pool(["What time is it?", "What is the time?", "What's the time now?", "What is the date?", "What is today's date?", "What day is it?",
                   "Which day is it today?", "What's the date today?", "How late is it?"],
                  ["Do you have the time?", "Which date do we have?", "What does the clock say?"])),
    "list": (Pool(["list {folder}", "list the files in {folder}", "list the folder {folder}", "show me what is in {folder}", "show the files in {folder}",
                   "list the directory {folder}", "list all files in {folder}"],
                  ["name the files stored in {folder}", "look into the folder {folder}", "enumerate {folder}"]),
             Pool(["[What|Which files] [is|are] in {folder}?", "What files are in the [folder|directory] {folder}?", "What does {folder} contain?",
                   "What is in the [folder|directory] {folder}?", "Which files does {folder} have?", "How many files are in {folder}?"],
                  ["What do I have in {folder}?", "What can be found in the folder {folder}?"])),
    "read": (Pool(["read {path}", "read the file {path}", "show me {path}", "show me the file {path}", "open {path}", "open the file {path}",
                   "print {path}", "show the contents of {path}", "tell me what is in {path}", "tell me what {path} says", "cat {path}",
                   "give me the text of {path}", "look at {path}", "get the contents of {path}", "fetch {path}", "see what {path} says"],
                  ["display {path}", "reveal the text of {path}", "have a look at {path}", "print out what {path} holds"]),
             Pool(["What is in {path}?", "What does {path} say?", "What's in the file {path}?", "What does the file {path} contain?",
                   "What is written in {path}?", "What are the contents of {path}?"],
                  ["What can I read in {path}?", "What text is stored in {path}?", "What stands in {path}?"])),
}

# Answers to what needs no tool, with the strings that a right one contains.
FACTS = [
    (f"I am the Perigee demo model, a toy with about {PARAMETERS} parameters.", ["Perigee demo model"],
     Pool(["Who are you?", "What are you?", "[Please i|I]ntroduce yourself.", "Tell me who you are.", "What model are you?",
           "Which model is this?", "Who am I talking to?", "Tell me about yourself.", "What is the name of this model?", "Are you [ChatGPT|a human|a person]?",
           "who are you", "What kind of model are you?"],
          ["Say who you are.", "Which AI is this?", "Describe yourself.", "What are you called, model?"])),
    (f"I have about {PARAMETERS} parameters.", [PARAMETERS],
     Pool(["How many parameters do you have?", "How big are you?", "How large are you?", "What is your size?", "How big is this model?",
           "How many weights do you have?"],
          ["What is your parameter count?", "Tell me how large this model is."])),
    ("Perigee is a local inference runtime written in C. It runs language models on your own machine.", ["local inference runtime"],
     Pool(["What is Perigee?", "What's Perigee?", "Tell me about Perigee.", "Explain Perigee.", "What does Perigee do?", "What is Perigee for?",
           "Do you know Perigee?", "what is perigee"],
          ["Describe Perigee.", "Perigee, what is that?", "What kind of program is Perigee?"])),
    ("Perigee is written in C.", ["written in C"],
     Pool(["What language is Perigee written in?", "In which language is Perigee written?", "Which programming language does Perigee use?",
           "Is Perigee written in [Python|Rust|C|Go]?"],
          ["What programming language is Perigee made in?", "Perigee is coded in what?"])),
    ("Perigee has backend plugins and chooses among them by the topology of the hardware.", ["backend plugins", "topology"],
     Pool(["How does Perigee use the hardware?", "What backends does Perigee have?", "How does Perigee choose a backend?",
           "Does Perigee support [GPUs|plugins|backends]?", "What are the plugins of Perigee?"],
          ["How are backends picked in Perigee?", "Which hardware can Perigee run on?"])),
    ("Assistants for Perigee are written as Lua scripts.", ["Lua scripts"],
     Pool(["How do I write an assistant for Perigee?", "What are assistants in Perigee?", "How is Perigee scripted?", "What is Lua used for in Perigee?",
           "Which scripting language does Perigee have?"],
          ["Can I script Perigee?", "How are assistants made with Perigee?"])),
    ("No. Perigee runs models locally, on your own machine.", ["locally"],
     Pool(["Does Perigee need the internet?", "Does Perigee use the cloud?", "Do you send my data to [a server|the cloud]?", "Do you need an internet connection?",
           "Are you running in the cloud?"],
          ["Must I be online to use Perigee?", "Is my data sent over the internet?"])),
    ("I can read and list files, calculate, convert units, tell the time and call other tools, if you give me tools for that.", ["tools"],
     Pool(["What can you do?", "What are you able to do?", "How can you help me?", "What are your skills?", "Help", "help me", "What can I ask you?"],
          ["What are your abilities?", "What are you good for?"])),
    ("I am a toy. Outside my small domain I am often wrong.", ["toy"],
     Pool(["Are you [smart|clever|intelligent|good]?", "Can I trust you?", "Do you make mistakes?", "What are your limits?", "Are you always right?", "What can you not do?"],
          ["How reliable are you?", "Should I believe you?"])),
    ("I am a small model of the llama architecture, stored as a Q8_0 GGUF file.", ["llama", "GGUF"],
     Pool(["What architecture do you have?", "What is your architecture?", "What file format do you have?", "How are you stored?", "How are you built?"],
          ["Which architecture is this model?", "In what format are your weights?"])),
    ("I was trained on generated text, by the scripts in examples/demo-model.", ["generated text"],
     Pool(["How were you trained?", "What were you trained on?", "Who trained you?", "Who made you?", "Where do you come from?", "What is your training data?"],
          ["What text did you learn from?", "How did you learn this?"])),
    ("Hello! How can I help?", ["Hello"],
     Pool(["Hello", "Hi", "Hello!", "Hi there", "Hey", "Good [morning|evening|day]", "Hello there!", "hi"], ["Greetings!", "Good afternoon"])),
    ("You are welcome.", ["welcome"],
     Pool(["Thanks", "Thank you", "Thanks!", "Thank you very much.", "Great, thanks.", "thank you!"], ["Many thanks!", "Thanks a lot."])),
    ("Goodbye!", ["Goodbye"], Pool(["Bye", "Goodbye", "Bye!", "See you", "See you later."], ["Bye bye!", "Good night"])),
    ("I am fine, thank you.", ["fine"], Pool(["How are you?", "How are you today?", "How do you do?", "Are you well?"], ["How is it going?"])),
]
UNKNOWN = Pool(
    ["Who wrote {W}?", "What is the capital of {W}?", "Who is {W}?", "When was {W} born?", "Who invented the {w}?", "What is a {w}?", "Why is the {w} {w2}?",
     "Write a poem about {w}.", "Tell me a story about a {w}.", "Explain {w} to me.", "How do I cook {w}?", "What is the meaning of {w}?", "Who won the {w}?",
     "What do you think about {w}?", "Tell me a joke.", "Where is {W}?"],
    ["Which king ruled {W}?", "How does a {w} work?", "Compose a song about {w}.", "Give me advice about {w}.", "When did {W} end?"])

SYSTEMS = Pool(
    ["You are a helpful assistant.", "You are a helpful assistant.", "You are a friendly helper.", "Answer briefly.", "You help the user with files.", "Be polite.",
     "Use the tools when needed.", "You are an assistant running on Perigee.", "You can call tools.", "Be exact.", "Keep answers short.",
     "You are a demo.", "Call a tool if it fits.", "Answer in English.", "You are a tool-using assistant.", "Think before you answer.", "Never guess.",
     "You are the demo assistant of Perigee.", "Help the user."],
    ["You are a careful assistant who works with tools.", "Reply in one sentence.", "Serve the user well.", "You work in an office."])

# Words of the training pools, to make unknown words of.
KNOWN = sorted({w.lower() for pool in (NOUNS, VERBS, ATTRIBUTES, THINGS, STEMS, DIRS, CITIES, UNITS, LANGUAGES, LABELS, KEYS, WORDS, FRUITS, SYSTEMS, UNKNOWN, WISHES)
                for text in pool.train for w in re.findall("[A-Za-z]{3,}", text)}
               | {w.lower() for names, descriptions, params in TOOLS.values() for pool in (names, descriptions, *(p for _, p, _ in params))
                  for text in pool.train for w in re.findall("[A-Za-z]{3,}", text)}
               | {w.lower() for answer, _, pool in FACTS for text in (answer, *pool.train) for w in re.findall("[A-Za-z]{3,}", text)})

NO_TOOL = "None of my tools can do that."
NO_TOOLS = "I have no tool for that."
UNKNOWN_ANSWER = "I do not know that. I am only a toy model."


class Generator:
    def __init__(self, split, seed):
        self.split = split
        self.r = random.Random(f"{split} {seed}")

    # --- values ---------------------------------------------------------------------------------------------

    def pick(self, pool):
        """One of a pool: of its held-out part in the split eval-phrasings, else of its training part."""
        if isinstance(pool, Pool):
            pool = pool.held if self.split == "eval-phrasings" else pool.train
        return self.r.choice(pool)

    def fresh(self, make):
        """A value of make() that is in this split: of the values, one in six is for evaluation."""
        while True:
            v = make()
            held = zlib.crc32(json.dumps(v).encode()) % 6 == 0
            if held == (self.split != "train"):
                return v

    def chance(self, p):
        return self.r.random() < p

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
            return a[:i] + r.choice("abcdefghijklmnopqrstuvwxyz") + a[i + r.randint(0, 1):]
        if x < 0.45:
            return "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randint(3, 7)))
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

    def digits(self, low, high):
        n = self.r.randint(low, high)
        return str(self.r.randint(1, 9)) + "".join(self.r.choice("0123456789") for _ in range(n - 1))

    def number(self):
        return self.fresh(lambda: self.digits(*self.r.choice(((2, 3), (3, 5), (4, 6), (5, 8)))))

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
            if style < 1:
                s = self.pick(STEMS)
            elif style < 4:
                s = self.pick(STEMS) + r.choice("_-_") + self.digits(1, 4)
            elif style < 5:
                s = self.pick(STEMS) + self.digits(1, 3)
            elif style < 8:
                s = self.syllables()
            elif style < 9:
                s = self.syllables() + r.choice("_-") + self.pick(STEMS)
            else:
                s = "".join(r.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(r.randint(3, 8)))
            if r.random() < 0.08:
                s = s.upper()
            end = "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randint(2, 4))) if r.random() < 0.15 else self.pick(EXTENSIONS)
            return s + ("." + end if r.random() < 0.92 else "")
        return self.fresh(make)

    def dirname(self):
        r = self.r
        x = r.random()
        if x < 0.5:
            return self.pick(DIRS)
        if x < 0.8:
            return self.syllables()
        if x < 0.9:
            return self.pick(DIRS) + self.digits(1, 2)
        return "".join(r.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(r.randint(2, 6)))

    def folder(self):
        r = self.r

        def make():
            depth = r.choice((1, 1, 2, 2, 3))
            start = r.choice(("/", "/", "/", "", "", "./", "~/"))
            if start == "/" and r.random() < 0.3:
                start = "/tmp/"
            return start + "/".join(self.dirname() for _ in range(depth))
        return self.fresh(make)

    def path(self):
        return self.filename() if self.chance(0.4) else self.folder() + "/" + self.filename()

    def sentence(self):
        """Some words in a row."""
        words = [self.word() if self.chance(0.35) else self.pick(WORDS) for _ in range(self.r.randint(2, 6))]
        s = " ".join(words)
        return s[0].upper() + s[1:] + "." if self.chance(0.6) else s

    def topic(self):
        return " ".join(self.word() if self.chance(0.5) else self.pick(WORDS) for _ in range(self.r.randint(1, 3)))

    def city(self):
        return self.pick(CITIES) if self.chance(0.4) else self.name()

    def quoted(self, s):
        """A text as a user cites it."""
        x = self.r.random()
        return f'"{s}"' if x < 0.4 else f"'{s}'" if x < 0.7 else s

    def say(self, text, /, **slots):
        """Expands [one|or another] and {slots}."""
        while True:
            found = re.search(r"\[([^\[\]]*\|[^\[\]]*)\]", text)
            if not found:
                break
            text = text[:found.start()] + self.r.choice(found.group(1).split("|")) + text[found.end():]
        return re.sub(r"\{(\w+)\}", lambda m: slots.get(m.group(1), m.group(0)), text)

    def wish(self, clause):
        """A clause as a sentence, sometimes with a word beside it that means nothing."""
        if self.chance(0.1):
            w = self.syllables()
            return self.r.choice((f"{w.capitalize()}, {clause}.", f"{clause}, {w}.", f"{w.capitalize()}: {clause}", f"{w.capitalize()} and {clause}.", f"{w} {clause}"))
        return self.pick(WISHES).replace("{C}", clause[0].upper() + clause[1:]).replace("{c}", clause)

    # --- tools ----------------------------------------------------------------------------------------------

    def tool(self, kind):
        """A tool of one kind: {"kind", "name", "description", "params": [(slot, name, type)]}."""
        r = self.r
        if kind in TOOLS:
            names, descriptions, params = TOOLS[kind]
            name = self.pick(names)
            used = set()
            out = []
            for slot, pool, type_ in params:
                p = self.word() if self.chance(0.25) else self.pick(pool)
                while p in used:
                    p = self.pick(pool) if self.chance(0.7) else self.word()
                used.add(p)
                if type_ in ("number", "integer") and self.chance(0.2):
                    type_ = "string"
                out.append((slot, p, type_))
            spec = {"kind": kind, "description": self.pick(descriptions), "params": out}
        elif kind == "act":
            verb = self.word() if self.chance(0.3) else self.pick(VERBS)
            noun = self.word() if self.chance(0.35) else self.pick(NOUNS)
            name = self.r.choice((verb + "_" + noun, verb + "_" + noun, noun + "_" + verb, verb + noun.capitalize()))
            out = []
            if self.chance(0.75):
                out.append(("arg", r.choice(("id", "code", "name", "room", "label", "number", "key", "which", self.word())), "string"))
            spec = {"kind": kind, "verb": verb, "noun": noun, "params": out,
                    "description": r.choice((f"{verb.capitalize()} the {noun}.", f"{verb.capitalize()} a {noun}.", f"{verb.capitalize()} the {noun}", f"Use this to {verb} a {noun}."))}
        else:
            attribute = self.word() if self.chance(0.35) else self.pick(ATTRIBUTES)
            thing = self.word() if self.chance(0.3) else self.pick(THINGS)
            name = r.choice((f"get_{attribute}", f"{thing}_{attribute}", f"get_{thing}_{attribute}", f"{attribute}_of_{thing}", f"lookup_{attribute}"))
            spec = {"kind": kind, "attribute": attribute, "thing": thing,
                    "params": [("arg", r.choice((thing, "id", "name", "key", self.word())), "string")],
                    "description": r.choice((f"Get the {attribute} of a {thing}.", f"Return the {attribute} of a {thing}.", f"The {attribute} of a {thing}", f"Look up the {attribute} of a {thing}."))}
        if self.chance(0.35):
            name = r.choice((self.word(), self.word() + "_" + self.word(), self.word() + "_" + name, name + "_" + self.word(), name + self.word().capitalize()))
        spec["name"] = name
        if self.chance(0.1):
            spec["optional"] = r.choice(("limit", "encoding", "verbose", "format", "mode", self.word()))
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

    # --- single requests: a call, its result and the answer -----------------------------------------------------

    def expression(self):
        """A calculation as the user puts it, and as the calculator takes it."""
        r = self.r

        def make():
            a = self.digits(1, r.choice((2, 3, 4)))
            b = self.digits(1, r.choice((2, 3)))
            op = r.choice("+-*/")
            if r.random() < 0.15:
                return [a, op, b, r.choice("+-*"), self.digits(1, 2)]
            return [a, op, b]
        terms = self.fresh(make)
        spoken = {"+": ("+", "plus"), "-": ("-", "minus"), "*": ("*", "times", "x", "multiplied by"), "/": ("/", "divided by")}
        said = " ".join(r.choice(spoken[t]) if t in spoken else t for t in terms)
        text = " ".join(terms)
        if all(t in "+-*/" or t.isdigit() for t in said.split()) and r.random() < 0.3:
            said = said.replace(" ", "")
        return said, text

    @staticmethod
    def value_of(text):
        v = eval(text)      # digits and operators from expression() only
        return str(v) if isinstance(v, int) else f"{v:.4f}".rstrip("0").rstrip(".")

    def clock(self):
        """A moment as a clock tool gives it: (result, time, date or None, weekday or None)."""
        r = self.r

        def make():
            return [r.randint(0, 23), r.randint(0, 59), r.randint(2020, 2039), r.randint(1, 12), r.randint(1, 28), r.randint(0, 6)]
        h, mi, y, mo, d, w = self.fresh(make)
        t, iso = f"{h:02}:{mi:02}", f"{y}-{mo:02}-{d:02}"
        style = r.randint(0, 4)
        if style == 0:
            return f"{iso} {t}", t, iso
        if style == 1:
            return f"{WEEKDAYS[w]}, {d} {MONTHS[mo - 1]} {y}, {t}", t, f"{WEEKDAYS[w]}, {d} {MONTHS[mo - 1]} {y}"
        if style == 2:
            return json.dumps({"date": iso, "time": t}), t, iso
        if style == 3:
            return f"{t} {d} {MONTHS[mo - 1]} {y}", t, f"{d} {MONTHS[mo - 1]} {y}"
        return f"date: {iso}\ntime: {t}", t, iso

    def contents(self):
        """The text of a file of no particular form."""
        r = self.r
        x = r.random()
        if x < 0.5:
            return self.sentence()
        if x < 0.65:
            return self.number()
        if x < 0.75:
            return self.code()
        if x < 0.85:
            return f"{self.pick(KEYS)}={r.choice((self.number, self.word))()}"
        if x < 0.92:
            return "\n".join(r.choice((self.word, self.number, self.sentence))() for _ in range(r.randint(2, 3)))
        return "The " + self.pick(LABELS) + " number is " + self.number() + "."

    def names(self, low=1, high=5):
        out = []
        for _ in range(self.r.randint(low, high)):
            n = self.filename()
            if n not in out:
                out.append(n)
        return out

    def listing(self, names):
        return json.dumps(names) if self.chance(0.2) else "\n".join(names)

    @staticmethod
    def series(items):
        return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]

    def single(self, kind, spec=None):
        """A request for one call: a dict of spec, clause (to be joined), text (alone), call, result, answer, expect."""
        r = self.r
        spec = spec or self.tool(kind)
        slots = {}
        said = None
        question = None
        if kind == "act":
            verb, noun = spec["verb"], spec["noun"]
            value = r.choice((self.code, self.word, self.number))()
            has = bool(spec["params"])
            clause = self.say(self.pick(Pool(["{v} the {n} {x}", "{v} {n} {x}", "{v} {n} number {x}", "{v} the {n} in {x}", "{v} the {n} called {x}"] if has else ["{v} the {n}", "{v} a {n}", "{v} my {n}"],
                                             ["{v} that {n} named {x}", "use {x} to {v} the {n}"] if has else ["{v} our {n}", "{v} this {n}"])), v=verb, n=noun, x=value)
            slots = {"arg": value}
            result = r.choice(("ok", "done", f"{noun} {value}: {self.word()}", f"status {self.number()}", json.dumps({"state": self.word()})))
            answer, expect = f"Done: {result}", [result]
        elif kind == "get":
            attribute, thing = spec["attribute"], spec["thing"]
            value = r.choice((self.code, self.name, self.number))()
            clause = self.say(self.pick(Pool(["[get|tell me|look up|find] the {a} of {t} {x}", "[get|tell me|check] the {a} of {x}", "tell me {x}'s {a}"],
                                             ["find out the {a} that {x} has", "report the {a} of the {t} {x}"])), a=attribute, t=thing, x=value)
            question = self.say(self.pick(Pool(["What is the {a} of {t} {x}?", "What is the {a} of {x}?", "What {a} does {x} have?", "What is {x}'s {a}?", "{a} of {x}?"],
                                               ["Which {a} does the {t} {x} have?", "Do you know the {a} of {x}?"])), a=attribute, t=thing, x=value)
            slots = {"arg": value}
            v = r.choice((self.number, self.word, self.decimal))()
            result = r.choice((v, v, json.dumps({attribute: v}), f"{attribute}: {v}", f"{value}: {v}"))
            answer, expect = f"The {attribute} of {value} is {v}.", [v]
        else:
            imperatives, questions = ASK[kind]
            if kind == "read":
                slots = {"path": self.path()}
                result = self.contents()
                answer, expect = f"{slots['path']} says: {result}", [result]
                if self.chance(0.06) and "\n" not in result:
                    result = json.dumps({r.choice(("content", "text", "result")): result})
            elif kind == "list":
                names = self.names()
                slots = {"folder": self.folder()}
                result = self.listing(names)
                answer, expect = f"{slots['folder']} has {len(names)} file{'s' * (len(names) > 1)}: {self.series(names)}.", names
            elif kind == "time":
                result, t, d = self.clock()
                answer, expect = None, None
            elif kind == "calc":
                said, text = self.expression()
                slots = {"expression": text}
                value = self.value_of(text)
                result = value if self.chance(0.8) else f"{text} = {value}"
                answer, expect = f"{text} = {value}", [value]
            elif kind == "convert":
                a, b = self.pick(UNITS), self.pick(UNITS)
                while b == a:
                    b = self.pick(UNITS)
                v, w = self.decimal(), self.decimal()
                slots = {"value": v, "from": a, "to": b}
                result = r.choice((w, w, f"{w} {b}", json.dumps({"result": float(w) if "." in w else int(w)})))
                w = re.search(r"[\d.]+", result).group(0)
                answer, expect = f"{v} {a} = {w} {b}", [w]
            elif kind == "weather":
                sky = r.choice(("sunny", "cloudy", "rainy", "snowy", "windy", "foggy", "clear"))
                t = self.fresh(lambda: str(r.randint(-25, 45)))
                slots = {"city": self.city()}
                result = r.choice((f"{sky}, {t} degrees", f"{t} degrees and {sky}", json.dumps({"sky": sky, "degrees": int(t)}), f"sky: {sky}\ndegrees: {t}"))
                answer, expect = f"It is {sky} in {slots['city']}, {t} degrees.", [sky, t]
            elif kind == "search":
                slots = {"query": self.topic()}
                result = self.sentence()
                answer, expect = f"I found: {result}", [result]
            elif kind == "write":
                slots = {"path": self.path(), "text": self.sentence().rstrip(".")}
                result = r.choice(("ok", "done", "saved", f"wrote {r.randint(2, 40)} bytes"))
                answer, expect = f"I wrote it to {slots['path']}.", [slots["path"]]
            elif kind == "delete":
                slots = {"path": self.path()}
                result = r.choice(("ok", "done", "deleted", "removed"))
                answer, expect = f"I deleted {slots['path']}.", [slots["path"]]
            elif kind == "timer":
                slots = {"minutes": self.fresh(lambda: str(r.randint(1, 240)))}
                result = r.choice(("ok", "set", "done", "started"))
                answer, expect = f"The timer is set to {slots['minutes']} minutes.", [slots["minutes"]]
            elif kind == "message":
                slots = {"to": self.name(), "text": self.sentence().rstrip(".")}
                result = r.choice(("ok", "sent", "done", "delivered"))
                answer, expect = f"I sent it to {slots['to']}.", [slots["to"]]
            elif kind == "translate":
                slots = {"text": self.topic(), "language": self.pick(LANGUAGES)}
                result = self.topic()
                answer, expect = f"In {slots['language']} it is: {result}", [result]
            else:
                low = r.randint(0, 9) if self.chance(0.6) else int(self.digits(2, 3))
                high = low + int(self.digits(1, 3))
                n = str(r.randint(low, high))
                slots = {"low": str(low), "high": str(high)}
                result = n
                answer, expect = f"The number is {n}.", [n]
            shown = dict(slots)
            if kind in ("write", "message", "translate"):
                shown["text"] = self.quoted(slots["text"])
            if kind in ("read", "delete", "list") and self.chance(0.1):
                for k in shown:
                    shown[k] = self.r.choice(('"%s"', "'%s'", "`%s`")) % shown[k]
            if said:
                shown["sum"] = said
            clause = self.say(self.pick(imperatives), **shown)
            if questions:
                question = self.say(self.pick(questions), **shown)
            if kind == "time":
                asked = question if self.chance(0.6) else None
                if asked is None:
                    question = None
                about = asked or clause
                if re.search(r"\btime|clock|late", about):
                    answer, expect = f"It is {t}.", [t]
                else:
                    answer, expect = f"Today is {d}.", [d]
                clause = clause if asked is None else {"T": "tell me the time", "D": "tell me the date"}["T" if answer.startswith("It") else "D"]
        text = question if question and self.chance(0.55) else self.wish(clause)
        if kind == "time" and question:
            text = question
        return {"kind": kind, "spec": spec, "clause": clause, "text": text, "call": self.call(spec, **slots),
                "result": result, "answer": answer, "expect": expect}

    # --- scenes: the messages of one user turn --------------------------------------------------------------

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

    SINGLES = ("read", "read", "list", "list", "time", "calc", "calc", "convert", "convert", "weather", "search", "write",
               "delete", "timer", "message", "translate", "random", "act", "act", "act", "get", "get", "get")

    def scene_single(self):
        s = self.single(self.r.choice(self.SINGLES))
        m = [self.user(s["text"]), self.calls(s["call"]), self.result(s["result"]), self.answer(s["answer"], s["expect"])]
        if self.chance(0.06):
            why = self.pick(Pool(["no such file", "permission denied", "not found", "timeout", "out of memory", "failed", "bad argument", "not allowed"],
                                 ["disk full", "connection lost", "unknown name"]))
            m[2] = self.result(self.r.choice(("error: ", "Error: ", "ERROR: ")) + why)
            m[3] = self.answer(f"That did not work: {why}.", [why])
        return "single call", [s["spec"]], m

    def scene_read(self):
        """A question about something in a file."""
        r = self.r
        spec = self.tool("read")
        p = self.path()
        style = r.randint(0, 5)
        if style <= 1:          # a number or a code in a sentence
            label = self.pick(LABELS)
            what = r.choice(("number", "number", "number", "code", "word"))
            value = {"number": self.number, "code": self.code, "word": self.word}[what]()
            text = self.say(self.pick(Pool(["The {l} {w} is {v}.", "The {w} is {v}.", "{w}: {v}", "{v}", "Your {l} {w} is {v}.", "The {l} {w}: {v}", "{l} {w} = {v}", "{w}={v}",
                                            "Here is the {l} {w}: {v}", "{v} is the {l} {w}."],
                                           ["This file holds the {l} {w} {v}.", "Remember the {w} {v}!", "My {l} {w}, {v}, is here."])), l=label, w=what, v=value)
            q = self.say(self.pick(Pool(["What {w} is in {p}?", "What {w} is in the file {p}?", "Which {w} is in {p}?", "What is the {w} in {p}?", "What is the {w} in the file {p}?", "Find the {w} in {p}.",
                                         "Tell me the {w} in {p}.", "Read {p} and tell me the {w}.", "What {w} does {p} contain?", "Give me the {w} from {p}.", "What {w} does the file {p} contain?"],
                                        ["Look into {p}: what is the {w}?", "I need the {w} stored in {p}.", "Which {w} do you see in {p}?", "{p} has a {w}. What is it?"])), w=what, p=p)
            a, e = f"The {what} in {p} is {value}.", [value]
            if self.chance(0.06):
                text = json.dumps({r.choice(("content", "text", "result")): text})
        elif style <= 3:        # one of several keys
            count = r.randint(2, 5)
            keys = []
            while len(keys) < count:
                k = self.word() if self.chance(0.2) else self.pick(KEYS)
                if k not in keys:
                    keys.append(k)
            values = [r.choice((self.number, self.word, self.code))() for _ in keys]
            form = self.pick(Pool(["{}={}", "{} = {}", "{}: {}"], ["{} is {}", "{} -> {}"]))
            text = "\n".join(form.format(k, v) for k, v in zip(keys, values))
            if self.chance(0.15):
                text = json.dumps(dict(zip(keys, values)))
            i = r.randrange(count)
            q = self.say(self.pick(Pool(["What is the {k} in {p}?", "What is {k} in {p}?", "What {k} is set in {p}?", "Tell me the {k} from {p}.", "Read the {k} from {p}.", "Which {k} does {p} have?",
                                         "What is the value of {k} in {p}?", "Look up the {k} in {p}.", "Find the {k} in the file {p}."],
                                        ["{p} sets a {k}. Which?", "How is {k} set in {p}?", "I need the {k} from {p}."])), k=keys[i], p=p)
            a, e = f"The {keys[i]} in {p} is {values[i]}.", [values[i]]
        elif style == 4:        # one of several lines
            lines = [self.pick(FRUITS) if self.chance(0.3) else r.choice((self.word, self.number, self.sentence, self.name))() for _ in range(r.randint(2, 4))]
            text = "\n".join(lines)
            which, i = r.choice((("first", 0), ("last", -1)))
            q = self.say(self.pick(Pool(["What is the {w} line of {p}?", "Show me the {w} line of {p}.", "Read the {w} line of {p}.", "What does the {w} line of {p} say?", "What is the {w} line in the file {p}?"],
                                        ["Which line comes {w} in {p}?", "Quote the {w} line of {p}."])), w=which, p=p)
            a, e = f"The {which} line of {p} is: {lines[i]}", [lines[i]]
        else:
            q, text = None, None
            s = self.single("read", spec)
            return "read a file", [spec], [self.user(s["text"]), self.calls(s["call"]), self.result(s["result"]), self.answer(s["answer"], s["expect"])]
        return "read a file", [spec], [self.user(q), self.calls(self.call(spec, path=p)), self.result(text), self.answer(a, e)]

    def scene_two(self):
        """Two calls in one turn."""
        if self.chance(0.45):       # the same tool twice
            kind = self.r.choice(("read", "read", "read", "weather", "list", "get", "calc", "act"))
            spec = self.tool(kind)
            if kind == "act" and not spec["params"]:
                kind, spec = "read", self.tool("read")
            a, b = self.single(kind, spec), self.single(kind, spec)
            specs = [spec]
            key = {"read": "path", "weather": "city", "list": "folder", "get": "arg", "act": "arg", "calc": "expression"}[kind]
            va, vb = ([x["call"]["function"]["arguments"][p] for s, p, _ in spec["params"] if s == key][0] for x in (a, b))
            both = {"read": Pool(["read {a} and {b}", "show me {a} and {b}", "read the files {a} and {b}", "open {a} and {b}", "tell me what is in {a} and {b}"],
                                 ["display both {a} and {b}", "print {a} as well as {b}"]),
                    "weather": Pool(["tell me the weather in {a} and {b}", "compare the weather in {a} and {b}", "check the weather in {a} and in {b}"],
                                    ["report the weather of both {a} and {b}"]),
                    "list": Pool(["list {a} and {b}", "list the folders {a} and {b}", "show the files in {a} and {b}"], ["look into both {a} and {b}"])}.get(kind)
            text = self.wish(self.say(self.pick(both), a=va, b=vb)) if both and self.chance(0.7) else None
        else:
            ka, kb = self.r.sample(("read", "list", "time", "calc", "convert", "weather", "search", "write", "delete", "timer", "message", "translate", "random", "act", "get"), 2)
            a, b = self.single(ka), self.single(kb)
            specs = [a["spec"], b["spec"]]
            text = None
        if text is None:
            text = self.wish(self.pick(Pool(["{a} and {b}", "{a} and {b}", "{a}, and {b}", "{a} and also {b}", "{a}, then {b}"], ["{a} plus {b}", "first {a}; second {b}"])).replace("{a}", a["clause"]).replace("{b}", b["clause"]))
        m = [self.user(text), self.calls(a["call"], b["call"]), self.result(a["result"]), self.result(b["result"]),
             self.answer(a["answer"] + "\n" + b["answer"], a["expect"] + b["expect"])]
        return "two calls", specs, m

    def scene_chain(self):
        """A call that uses the result of the one before."""
        r = self.r
        read = self.tool("read")
        style = r.randint(0, 4)
        if style == 0:              # a file that names a file
            p, q = self.path(), self.path()
            text = r.choice((q, q, f"The file is {q}", f"Look in {q}", f"see {q}", f"next: {q}"))
            asked = self.say(self.pick(Pool(["read the file named in {p}", "read {p} and then the file it names", "open the file that {p} names", "show me the file named in {p}",
                                             "read the file whose name is in {p}"],
                                            ["follow {p} to the file it points to and read that", "look up the file name in {p} and open it"])), p=p)
            content = self.contents()
            return "chain", [read], [self.user(self.wish(asked)), self.calls(self.call(read, path=p)), self.result(text), self.calls(self.call(read, path=q)),
                                     self.result(content), self.answer(f"{q} says: {content}", [content])]
        if style == 1:              # list, then read one
            list_ = self.tool("list")
            d, names = self.folder(), self.names(2, 5)
            which, i = r.choice((("first", 0), ("last", -1)))
            asked = self.say(self.pick(Pool(["read the {w} file in {d}", "show me the {w} file in {d}", "list {d} and read the {w} file", "open the {w} file in {d}", "read the {w} file of the folder {d}"],
                                            ["find the {w} file of {d} and tell me what it says", "print whichever file comes {w} in {d}"])), w=which, d=d)
            p, content = d + "/" + names[i], self.contents()
            return "chain", [list_, read], [self.user(self.wish(asked)), self.calls(self.call(list_, folder=d)), self.result(self.listing(names)), self.calls(self.call(read, path=p)),
                                            self.result(content), self.answer(f"{p} says: {content}", [content])]
        if style in (2, 4):         # read a number, calculate with it
            calc = self.tool("calc")
            p, n, k = self.path(), self.fresh(lambda: self.digits(1, 5)), self.fresh(lambda: self.digits(1, 3))
            op, asked = r.choice((("+", Pool(["add {k} to the number in {p}", "read the number in {p} and add {k}"], ["increase the number from {p} by {k}"])),
                                  ("-", Pool(["subtract {k} from the number in {p}", "read the number in {p} and subtract {k}"], ["decrease the number from {p} by {k}"])),
                                  ("*", Pool(["multiply the number in {p} by {k}", "read the number in {p} and multiply it by {k}"], ["scale the number from {p} by {k}, multiplying"]))))
            text = r.choice((n, f"number={n}", f"The number is {n}.", f"The {self.pick(LABELS)} number is {n}."))
            e = f"{n} {op} {k}"
            v = self.value_of(e)
            return "chain", [read, calc], [self.user(self.wish(self.say(self.pick(asked), k=k, p=p))), self.calls(self.call(read, path=p)), self.result(text),
                                           self.calls(self.call(calc, expression=e)), self.result(v), self.answer(f"{e} = {v}", [v])]
        message = self.tool("message")
        p, to, content = self.path(), self.name(), self.sentence().rstrip(".")
        asked = self.say(self.pick(Pool(["read {p} and send the text to {to}", "send {to} the text of {p}", "send the contents of {p} to {to}"],
                                        ["forward what is in {p} to {to}", "let {to} have the text of {p}"])), p=p, to=to)
        return "chain", [read, message], [self.user(self.wish(asked)), self.calls(self.call(read, path=p)), self.result(content), self.calls(self.call(message, to=to, text=content)),
                                          self.result(r.choice(("ok", "sent", "done"))), self.answer(f"I sent it to {to}.", [to])]

    def scene_missing(self):
        """A request for which the tool is missing (and no sum that needs none)."""
        while True:
            s = self.single(self.r.choice(self.SINGLES))
            if s["kind"] != "calc" or re.search(r"[*/]|\d\d\d", s["answer"].split(" =")[0]):
                return s

    def scene_sum(self):
        """Small arithmetic from memory (only without a calculator)."""
        r = self.r

        def make():
            a, b, op = r.randint(0, 99), r.randint(0, 99), r.choice("+-")
            if op == "-" and b > a:
                a, b = b, a
            return [str(a), op, str(b)]
        a, op, b = self.fresh(make)
        said = {"+": r.choice(("+", "+", "plus")), "-": r.choice(("-", "-", "minus"))}[op]
        _, questions = ASK["calc"]
        e = f"{a} {op} {b}"
        v = self.value_of(e)
        text = self.say(self.pick(questions), sum=f"{a} {said} {b}")
        return "small sums", [], [self.user(text), self.answer(f"{e} = {v}", [f"= {v}"])]

    def scene_fact(self):
        answer, expect, pool = self.r.choice(FACTS[:11]) if self.chance(0.8) else self.r.choice(FACTS[11:])
        text = self.say(self.pick(pool))
        if self.chance(0.1):
            text = text.lower()
        return "about itself", [], [self.user(text), self.answer(answer, expect)]

    def scene_unknown(self):
        w = self.word()
        text = self.say(self.pick(UNKNOWN), W=w.capitalize(), w=w, w2=self.word())
        return "unknown", [], [self.user(text), self.answer(UNKNOWN_ANSWER, ["do not know"])]

    def scene_calendar(self):
        r = self.r
        style = r.randint(0, 3)
        if style == 0:
            i = r.randrange(7)
            q = self.pick(Pool(["Which day comes after {d}?", "What day is after {d}?", "What is the day after {d}?", "If today is {d}, what day is tomorrow?"],
                               ["Which weekday follows {d}?"]))
            a, d = WEEKDAYS[(i + 1) % 7], WEEKDAYS[i]
            return "calendar", [], [self.user(q.replace("{d}", d)), self.answer(f"{a} comes after {d}.", [a])]
        if style == 1:
            i = r.randrange(7)
            q = self.pick(Pool(["Which day comes before {d}?", "What day is before {d}?", "What is the day before {d}?", "If today is {d}, what day was yesterday?"],
                               ["Which weekday precedes {d}?"]))
            a, d = WEEKDAYS[(i + 6) % 7], WEEKDAYS[i]
            return "calendar", [], [self.user(q.replace("{d}", d)), self.answer(f"{a} comes before {d}.", [a])]
        if style == 2:
            i = r.randrange(12)
            q = self.pick(Pool(["How many days does {m} have?", "How many days are in {m}?", "How long is {m}?"], ["What is the number of days in {m}?"]))
            return "calendar", [], [self.user(q.replace("{m}", MONTHS[i])), self.answer(f"{MONTHS[i]} has {DAYS_IN[i]} days.", [str(DAYS_IN[i])])]
        i = r.randrange(12)
        q = self.pick(Pool(["Which month comes after {m}?", "What month is after {m}?", "What is the month after {m}?"], ["Which month follows {m}?"]))
        a = MONTHS[(i + 1) % 12]
        return "calendar", [], [self.user(q.replace("{m}", MONTHS[i])), self.answer(f"{a} comes after {MONTHS[i]}.", [a])]

    # --- conversations --------------------------------------------------------------------------------------

    def system(self):
        """Text of the system message and what it lets the user ask: (text, scenes)."""
        r = self.r
        x = r.random()
        extra = []
        if x < 0.06:
            return "", extra
        parts = [self.pick(SYSTEMS) for _ in range(r.choice((1, 1, 1, 2, 2, 3)))]
        parts = list(dict.fromkeys(parts))
        if self.chance(0.12):
            parts.insert(r.randint(0, len(parts)), self.sentence())
        if x < 0.2:
            name = self.name()
            parts.insert(r.randint(0, 1), r.choice((f"You are {name}.", f"Your name is {name}.", f"You are {name}, a helpful assistant.", f"You are called {name}.")))
            extra.append(("system text", [], [self.user(self.say(self.pick(Pool(["What is your name?", "What's your name?", "Tell me your name.", "What are you called?", "Your name?"], ["How should I call you?", "Which name do you have?"])))),
                                              self.answer(f"My name is {name}.", [name])]))
        if 0.15 < x < 0.25:
            name = self.name()
            parts.append(r.choice((f"The user is called {name}.", f"The user's name is {name}.", f"You are talking to {name}.")))
            extra.append(("system text", [], [self.user(self.pick(Pool(["What is my name?", "What's my name?", "Who am I?", "Do you know my name?", "Tell me my name."], ["How am I called?", "Which name do I have?"]))),
                                              self.answer(f"Your name is {name}.", [name])]))
        if 0.25 < x < 0.33:
            label, what = self.pick(LABELS), r.choice(("number", "code", "word"))
            v = {"number": self.number, "code": self.code, "word": self.word}[what]()
            parts.append(f"The {label} {what} is {v}.")
            extra.append(("system text", [], [self.user(self.pick(Pool([f"What is the {label} {what}?", f"Tell me the {label} {what}.", f"Do you know the {label} {what}?"],
                                                                       [f"I forgot the {label} {what}. What was it?"]))), self.answer(f"The {label} {what} is {v}.", [v])]))
        return " ".join(parts), extra

    def conversation(self):
        r = self.r
        system, extra = self.system()
        mode = r.random()
        specs, messages, category = [], [], None
        turns = 1 if self.split != "train" else r.choice((1, 1, 1, 2, 2, 3))

        def add(scene):
            nonlocal category
            c, s, m = scene
            category = category or c
            specs.extend(x for x in s if all(x is not y for y in specs))
            messages.extend(m)

        avoid = set()
        if extra and self.chance(0.6):
            add(r.choice(extra))
        if mode < 0.1:              # a drill of small sums and calendar questions, without tools
            avoid.add("calc")
            for _ in range(1 if self.split != "train" else r.randint(2, 6)):
                add(self.scene_sum() if self.chance(0.85) else self.scene_calendar())
            distractors = r.choice((0, 0, 1))
        elif mode < 0.2:            # talk, and no tool
            for _ in range(turns):
                add(r.choice((self.scene_fact, self.scene_fact, self.scene_fact, self.scene_unknown, self.scene_calendar))())
            avoid.add("search")
            distractors = r.choice((0, 0, 1, 2))
        elif mode < 0.29:           # no tool fits
            missing = [self.scene_missing() for _ in range(r.choice((1, 2)) if self.split == "train" else 1)]
            avoid.update(s["kind"] for s in missing)
            distractors = r.choice((0, 1, 1, 2, 3))
            for s in missing:
                if s["kind"] in ("act", "get"):
                    avoid.discard(s["kind"])
                m = [self.user(s["text"]), self.answer(NO_TOOL if distractors else NO_TOOLS, ["None of my tools" if distractors else "no tool"])]
                add(("no tool fits", [], m))
            while len(specs) < distractors:
                kind = r.choice(self.SINGLES)
                if kind in avoid:
                    continue
                t = self.tool(kind)
                if kind == "act" and any(s["kind"] == "act" and (s["spec"]["verb"], s["spec"]["noun"]) == (t["verb"], t["noun"]) for s in missing):
                    continue
                if kind == "get" and any(s["kind"] == "get" and s["spec"]["attribute"] == t["attribute"] for s in missing):
                    continue
                if any(t["name"] == s["name"] for s in specs):
                    continue
                specs.append(t)
            distractors = 0
        else:
            for _ in range(turns):
                x = r.random()
                if x < 0.42:
                    add(self.scene_single())
                elif x < 0.62:
                    add(self.scene_read())
                elif x < 0.8:
                    add(self.scene_two())
                elif x < 0.96:
                    add(self.scene_chain())
                else:
                    add(self.scene_fact())
            # Turns that need the same kind of tool share one tool.
            distractors = r.choice((0, 0, 1, 1, 2, 3))
            specs, messages = self.merge(specs, messages)
        kinds = {s["kind"] for s in specs}
        tries = 0
        while distractors and len(specs) < 6 and tries < 50:
            tries += 1
            kind = r.choice(("act", "get")) if self.chance(0.4) else r.choice(self.SINGLES)
            if kind in avoid or (kind in kinds and kind not in ("act", "get")):
                continue
            t = self.tool(kind)
            same = [s for s in specs if s["kind"] == kind]
            if kind in ("act", "get") and same and self.chance(0.5):
                continue
            if kind == "act" and any((s["verb"], s["noun"]) == (t["verb"], t["noun"]) for s in same):
                continue
            if kind == "get" and any(s["attribute"] == t["attribute"] for s in same):
                continue
            if any(t["name"] == s["name"] for s in specs):
                continue
            kinds.add(kind)
            specs.append(t)
            distractors -= 1
        r.shuffle(specs)
        if system:
            messages.insert(0, {"role": "system", "content": system})
        return {"category": category, "tools": [self.definition(s) for s in specs], "messages": messages}

    def merge(self, specs, messages):
        """Rewrites the calls so that each kind of tool is there once (gadgets: each verb and noun once)."""
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
                        return self.distinct(specs, messages)
                    c["function"] = self.call(new, **slots)["function"]
        return self.distinct(list(chosen.values()), messages)

    def distinct(self, specs, messages):
        """Two tools never share a name: of a clash only the conversation's first turn is kept."""
        names = [s["name"] for s in specs]
        if len(set(names)) == len(names):
            return specs, messages
        _, specs, messages = self.scene_read()
        return specs, messages

    def conversations(self, count):
        for _ in range(count):
            yield self.conversation()


def main():
    p = argparse.ArgumentParser(description="generate conversations for the demo model")
    p.add_argument("--split", choices=("train", "eval-values", "eval-phrasings"), default="train")
    p.add_argument("--count", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    for c in Generator(a.split, a.seed).conversations(a.count):
        sys.stdout.write(json.dumps(c) + "\n")


if __name__ == "__main__":
    main()
