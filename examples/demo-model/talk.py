"""What needs no tool: questions about the model and Perigee, small talk, and what the model cannot do."""
from pools import Pool

PARAMETERS = "4 million"          # what the model says about its size

# Answers with the strings that a right one contains, and how they are asked for.
FACTS = [
    (f"I am the Perigee demo model, a toy with about {PARAMETERS} parameters.", ["Perigee demo model"],
     Pool(["[Who|What] are you[?||, please?]", "[Please i|I]ntroduce yourself.", "Tell me [who you are|about yourself|what you are|something about you].", "[What|Which] model [are you|is this|am I using]?",
           "[Who|What] am I talking [to|with]?", "What is the name of this model?", "Are you [ChatGPT|a human|a person|a robot|an AI|a machine|real|a bot]?", "who are you", "what are you", "What kind of [model|AI|assistant] are you?",
           "What is [|the ]Perigee demo?", "[Hello|Hi], who are you?", "Who is this?", "What is this model?", "And who are you?", "I want to know what you are.", "[Can|Could] you tell me who you are?", "What are you exactly?", "Do you have a name, model?", "Say something about yourself.", "What is your model name?"],
          ["Say who you are.", "Which AI is this?", "Describe yourself.", "What are you, model?", "I want to know who you are."])),
    (f"I have about {PARAMETERS} parameters.", [PARAMETERS],
     Pool(["How many [parameters|weights] [do you|does this model|does the demo model] have?", "How [big|large|small] [are you|is this model|is the demo model]?", "What is [your size|the size of this model|your number of parameters]?",
           "[Number of parameters|Your size|Model size]?", "What size [are you|do you have|is this model]?", "[Tell me|Say|I want to know] how [big|many parameters] you [are|have].", "Are you [big|large|a large model|small]?"],
          ["What is your parameter count?", "Tell me how large this model is.", "How many parameters are in you?"])),
    ("Perigee is a local inference runtime written in C. It runs language models on your own machine.", ["local inference runtime"],
     Pool(["What is Perigee[?||, please?]", "What's Perigee?", "[Tell me about|Explain|Tell me what is|I want to know about] Perigee[.|]", "What does Perigee do?", "What is Perigee [for|good for|used for|about]?",
           "Do you know [Perigee|what Perigee is]?", "what is perigee", "What can Perigee do?", "What [sort of |kind of ][program|software|thing] is Perigee?", "What do you know about Perigee?", "What is this Perigee?", "Perigee?", "[Can|Could] you [explain|tell me about] Perigee?", "What does the name Perigee stand for?", "Say what Perigee is.", "I do not know Perigee. What is it?", "Give me a description of Perigee."],
          ["Describe Perigee.", "Perigee, what is that?", "Say something about Perigee.", "Explain to me what Perigee is."])),
    ("Perigee is written in C.", ["written in C"],
     Pool(["[What|Which] [programming |]language is Perigee [written|programmed|made] in?", "In [which|what] [programming |]language is Perigee [written|programmed]?", "[Which|What] programming language does Perigee use?",
           "Is Perigee [written|programmed] in [Python|Rust|C|Go|Java|Lua]?", "How is Perigee programmed?", "Tell me the [programming |]language of Perigee.", "The language Perigee is written in?"],
          ["Perigee is coded in what?", "In what programming language did they write Perigee?"])),
    ("Perigee has backend plugins and chooses among them by the topology of the hardware.", ["backend plugins", "topology"],
     Pool(["How does Perigee use [the|my] hardware?", "[What|Which] [backends|plugins] does Perigee have?", "How does Perigee choose [a backend|the hardware|a plugin]?", "Does Perigee [support|have|use] [GPUs|plugins|backends|a GPU|my GPU]?",
           "What are the [plugins|backends] of Perigee?", "On [what|which] hardware does Perigee run?", "What hardware does Perigee [use|need|support]?", "Tell me about the [plugins|hardware] of Perigee.", "Can Perigee use [my GPU|GPUs|several devices]?"],
          ["How are backends picked in Perigee?", "Which hardware can Perigee run on?", "Tell me about the backends of Perigee."])),
    ("Assistants for Perigee are written as Lua scripts.", ["Lua scripts"],
     Pool(["How [do I|can I|does one] [write|make|build] an assistant [for|with|in] Perigee?", "What are assistants in Perigee?", "How is Perigee scripted?", "What is Lua [used |]for in Perigee?", "[Which|What] scripting language does Perigee [have|use]?",
           "Does Perigee [use|have|run] Lua?", "How do I [write|make] scripts for Perigee?", "In what language are assistants [written|made]?", "Tell me about [scripts|assistants] in Perigee.", "Can Perigee be scripted?"],
          ["Can I script Perigee?", "How are assistants made with Perigee?", "Tell me how to write assistants for Perigee."])),
    ("No. Perigee runs models locally, on your own machine.", ["locally"],
     Pool(["Does Perigee [need|use] [the internet|the cloud|a network|a server]?", "Do you send my [data|files|questions] to [a server|the cloud|the internet]?", "Do you [need|use] [an internet connection|the internet|the cloud]?",
           "Are you running in the cloud?", "Is my data [sent|going] [to the cloud|to a server|away]?", "Do I need the internet for [this|Perigee]?", "Does [anybody|somebody] see my [data|files]?", "Where do you run?", "Is Perigee [an online service|a cloud service]?", "Can Perigee run [offline|without the internet]?"],
          ["Must I be online to use Perigee?", "Is my data sent over the internet?", "Do you work without the internet?"])),
    ("I can read and list files, calculate, convert units, tell the time and call other tools, if you give me tools for that.", ["tools"],
     Pool(["What can you do[?|| for me?| here?]", "What are you able to do?", "How can you help[ me|]?", "What are your [skills|capabilities|tricks]?", "[Help|help|Help me|help me]", "What can I ask[ you|]?", "what can you do", "What do you do?",
           "What do you know?", "[Tell me|Show me] what you can do.", "[What|Which] things can you do?", "What should I ask you?", "What are your tasks?", "What do you do here?", "[Say|List] what you can do.", "How do I use you?", "What are you for?"],
          ["What are your abilities?", "What are you good for?", "Which tasks can you do?"])),
    ("I am a toy. Outside my small domain I am often wrong.", ["toy"],
     Pool(["Are you [smart|clever|intelligent|good|reliable|a good model]?", "Can I [trust|believe] you?", "Do you [make mistakes|make errors|ever lie]?", "What are your limits?", "Are you [always|ever] [right|wrong]?", "What can you not do?", "Are you a toy?", "How [good|smart|clever] are you?", "Do you know everything?", "[Are|Can] your answers be [wrong|right]?", "How often are you wrong?", "Is what you say [true|right|correct]?"],
          ["How reliable are you?", "Should I believe you?", "Are your answers always right?"])),
    ("I am a small model of the llama architecture, stored as a Q8_0 GGUF file.", ["llama", "GGUF"],
     Pool(["What [architecture|file format] do you have?", "What is your [architecture|file format|format]?", "How are you [stored|built]?", "Which [architecture|format] [do you have|is this model]?", "What kind of architecture do you [have|use]?", "What file are you stored in?", "Tell me [how you are built|about your architecture|your file format].", "Are you a [llama|GGUF|llama model]?", "What is inside your file?"],
          ["What architecture is this model?", "In what format are your weights?", "Tell me your architecture."])),
    ("I was trained on generated text, by the scripts in examples/demo-model.", ["generated text"],
     Pool(["How were you [trained|made]?", "What were you trained on?", "Who [trained|made|built|created] you?", "Where do you come from?", "What is your training data?", "On [what|which] [data|text] were you trained?", "Where were you [trained|made]?", "What is your training text?", "Tell me about your training.", "What did they train you on?", "How did you become what you are?", "Did you learn from [the internet|books|web pages]?"],
          ["What text did you learn from?", "How did you learn this?", "What data made you?"])),
    ("Hello! How can I help?", ["Hello"],
     Pool(["[Hello|Hi|Hey][|!|.| there| there!| again| you| model]", "Good [morning|evening|day][|!|.]", "hi", "hello", "hey", "[Hello|Hi], [model|assistant|Perigee][|!|.]", "Hello, hello!"], ["Greetings!", "Good afternoon", "Hiya!"])),
    ("You are welcome.", ["welcome"],
     Pool(["[Thanks|Thank you|thanks|thank you][|!|.| very much.| so much!| for that.| for your help.]", "[Great|Good|OK|Fine|Super|Perfect|Nice|Cool], [thanks|thank you][.|!|]", "That was [good|great|helpful|nice], thanks."], ["Many thanks!", "Thanks a lot.", "I thank you."])),
    ("Goodbye!", ["Goodbye"], Pool(["[Bye|Goodbye|bye][|!|.| for now.]", "See you[| later| later.| soon!]", "[Thanks|OK], bye[.|!|]", "I have to go."], ["Bye bye!", "Good night", "Until next time!"])),
    ("I am fine, thank you.", ["fine"], Pool(["How are you[?| today?| doing?]", "how are you", "Are you [well|OK|fine]?", "[Hello|Hi], how are you?", "How do you feel?"], ["How is it going?", "How do you feel today?"])),
]

# What is beyond the model, tools or not.
UNKNOWN = Pool(
    ["Who [wrote|painted|invented|discovered|founded] [{W}|the {w}]?", "What is the capital of {W}?", "Who [is|was] {W}?", "When was {W} [built|founded|made]?", "What is a[n|] {w}?", "Why is the {w} {w2}?", "Why do {w} {w2}?",
     "[Write|Make|Give me] a [poem|song|story|joke|letter|recipe] [about|for] {w}.", "Tell me a [story|joke|tale] about [a |]{w}.", "Explain {w}[ to me|].", "How do I [cook|make|build|grow|learn] {w}?", "What is the meaning of {w}?",
     "Who won the {w}?", "What do you think [about|of] {w}?", "Tell me a joke.", "Where is {W}?", "What is your favorite {w}?", "Do you like {w}?", "Who is the [king|president|queen] of {W}?", "Is {W} [good|big|far]?",
     "Write a [program|script|book] [that {w}s|about {w}].", "What does {w} mean?", "What should I [eat|wear|do|buy] today?", "Draw a {w}.", "Sing a song.", "Book a flight to {W}."],
    ["Which king ruled {W}?", "How does a {w} work?", "Compose a song about {w}.", "Give me advice about {w}.", "When did {W} end?", "What do people say of {w}?"])

NO_TOOL = "I cannot do that: none of my tools fits, and I know little myself."
NO_TOOLS = "I cannot do that: I have no tools here, and I know little myself."
CANNOT = ["cannot do that"]

# The calendar: (how it is asked, with {d} or {m}), by what is asked.
AFTER_DAY = Pool(["[Which|What] day [comes|is] after {d}?", "What is the day after {d}?", "If today is {d}, what [day |]is tomorrow?", "Today is {d}. What [day |]is tomorrow?", "What day follows {d}?", "The day after {d}?", "What comes after {d}?", "[Say|Name|Give me] the [next |]day after {d}.", "Do you know the day after {d}?", "{d}: which day comes next?",
                  "What is the next day after {d}?", "Which day do we have after {d}?", "[Can you tell me|I want to know] which day [is|comes] after {d}[?|.]"],
                 ["Which weekday follows {d}?", "Tell me the day that comes after {d}."])
BEFORE_DAY = Pool(["[Which|What] day [comes|is] before {d}?", "What is the day before {d}?", "If today is {d}, what [day |]was yesterday?", "Today is {d}. What [day |]was yesterday?", "The day before {d}?", "What comes before {d}?", "[Say|Name|Give me] the day before {d}.", "Do you know the day before {d}?", "{d}: which day came before?",
                   "Which day do we have before {d}?", "[Can you tell me|I want to know] which day [is|comes] before {d}[?|.]"],
                  ["Which weekday is before {d}?", "Tell me the day that comes before {d}."])
DAYS_OF = Pool(["How many days [does {m} have|are in {m}|has {m}]?", "How long is {m}?", "[Number of days|Days] in {m}?", "How many days are there in {m}?", "[Say|Name|Give me] the number of days in {m}.", "Do you know how [long {m} is|many days {m} has]?", "{m} has how many days?",
                "[Can you tell me|I want to know] how many days are in {m}[?|.]"], ["What is the number of days in {m}?", "Tell me how many days {m} has."])
AFTER_MONTH = Pool(["[Which|What] month [comes|is] after {m}?", "What is the month after {m}?", "What comes after {m}?", "The month after {m}?", "If it is {m}, what is the next month?", "[Say|Name|Give me] the [next |]month after {m}.", "Do you know the month after {m}?", "{m}: which month comes next?",
                    "What is the next month after {m}?", "[Can you tell me|I want to know] which month comes after {m}[?|.]"], ["Which month follows {m}?", "Tell me the month that comes after {m}."])

# Questions about what the system text says, and how it says it.
ASK_NAME = Pool(["What is your name?", "What's your name?", "[Tell me|Say] your name.", "What are you called?", "Your name?", "[Do|Don't] you have a name?", "what is your name", "And what is your name?", "[Hello|Hi], what is your name?", "[Please tell|Give] me your name.", "I want to know your name.", "What name do you go by?", "[Can|Could] you tell me your name?", "Do you know your name?", "So what is your name?"],
                ["How should I call you?", "Which name do you have?", "What do people call you?"])
ASK_USER = Pool(["What is my name?", "What's my name?", "Who am I?", "Do you know [my name|who I am]?", "Tell me my name.", "What am I called?", "My name?", "what is my name", "Can you tell me my name?", "Do you remember [my name|who I am]?", "What name do I go by?", "Who is talking to you?", "[Please tell|Give] me my name.", "I forgot my name. What is it?", "Do I have a name?", "Tell me who I am.",
                 "So what is my name?", "I want to know my name."],
                ["How am I called?", "Which name do I have?", "Say my name."])
ASK_LABEL = Pool(["What is [the|my] {l}?", "What's the {l}?", "Tell me the {l}.", "Do you know the {l}?", "[Give|Show] me the {l}.", "{l}?", "The {l}, please.", "Which {l} [is it|do I need|do I have]?", "I need the {l}.", "Do you remember the {l}?", "Please tell me the {l}.", "I want to know the {l}.", "What was the {l}?",
                  "Can you give me the {l}?", "what is the {l}", "So what is the {l}?", "[Write|Show] the {l}.", "Could you tell me the {l}?"],
                 ["I forgot the {l}. What was it?", "Can you remind me of the {l}?", "Say the {l}."])
YOU_ARE = Pool(["You are {n}.", "Your name is {n}.", "You are {n}, a [helpful|friendly] assistant.", "You are called {n}.", "The [assistant|name of the assistant] is {n}.", "{n} is your name.", "They call you {n}.", "You are an assistant [called|named|with the name] {n}.", "Your name: {n}."],
               ["You go by the name {n}.", "You are the assistant {n}."])
USER_IS = Pool(["The user is [called |]{n}.", "The user's name is {n}.", "You are talking [to|with] {n}.", "[User|Name of the user]: {n}.", "The name of the user is {n}.", "{n} is talking to you.", "You [help|talk to|work for] {n}.", "Your user is {n}.",
                "The person you talk to is {n}.", "The user calls himself {n}."], ["The one you help is {n}.", "{n} is the name of your user."])
LABEL_IS = Pool(["The {l} is {v}.", "The {l}: {v}.", "{l} = {v}.", "Remember that the {l} is {v}.", "The {l} is now {v}.", "Our {l} is {v}.", "Keep in mind that the {l} is {v}.", "If asked, the {l} is {v}.", "{l}: {v}", "This is the {l}: {v}."], ["Know that the {l} is {v}.", "{v} is the {l}."])
