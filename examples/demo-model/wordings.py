"""The wordings of whole turns: questions about files, two requests at once, chains of calls."""
from pools import Pool

# A value in a text, {l} being a label and {w} number, code or word; and how it is asked for.
HOLDS = Pool(["[The|Your|My|Our|This|That|His|A] [{l} |right |new |old |correct |]{w}[ here| of today| for you| you asked for|] [is|was|reads|will be|became|equals|should be|must be|"
              "stays|: it is|has been set to|is now|would be] {v}[.||!|, remember it.|, please note.|, as you know.]",
              "[Here|There|Below|This|Look, this|See: here] [is|comes|you have|stands|you find|are we:] [the|a|your|our] [{l} |]{w}[: | |, | = | - ]{v}[.||!]",
              "{v}[ is| was|: this is| - | =|, that is| serves as| stands for| will be] [the|our|your|a] [{l} |]{w}[.|| here.| we use.| for now.]",
              "[Use|Enter|Type|Write|Give|Say|Try|Note|Choose|Put|Tell them] [{v} as [the|our|your] [{l} |]{w}|[the|our] [{l} |]{w} {v}|{v} for the [{l} |]{w}][.|| there.|!]",
              "[{l} |]{w}[ => | := | - | -- | > | is | , |; | .... | (|\t| \"| '| <]{v}[||)|.|\"|'|>]",
              "[In this file|In here|Inside|At last|Today|For you|Now|Therefore|As agreed], the [{l} |]{w} is {v}.",
              "[They|We|You|I|He] [gave|have|chose|wrote|got|found|need|know|sent] [the|this|a] [{l} |]{w}[ here|][:|,] {v}[.|]",
              "[The|This] {w}, [it is|namely|of course|as always|so far|I say|by the way|that is], {v}[.|, stands here.|, and no other.]",
              "[That|It|This|Answer|Value|Result]: {v}[.|]", "[{l} |]{w}s: {v}", "[Dear|Hello|Hi] [user|friend|all], [the|your] {w} is {v}. [Bye|Regards|Thanks].",
              "[Only|Just|Nothing but|Exactly] {v}[.|]", "<{w}>{v}</{w}>", "== {w} ==\n{v}",
               "The {l} {w} is {v}.", "The {w} is {v}.", "The {w} is: {v}", "{w}: {v}", "{v}", "{v}", "[Your|My|Our|This] {l} {w} is {v}.", "The {l} {w}: {v}", "{l} {w} = {v}", "{w}={v}",
               "{l}_{w}={v}",
              "Here is the {l} {w}: {v}", "{v} is the {l} {w}.", "[Please note|Note|Remember|Write down]: the {w} is {v}.", "The {w} you [want|need|look for] is {v}.", "{l} {w} {v}",
              "It is {v}.",
              "[This is|Here comes] the {w}: {v}", "The [magic|right|real|only] {w} is {v}[!|.]", "Use {v} as the {w}.", "We have the {w} {v}.", "# {l} {w}\n{v}"],
             ["This file holds the {l} {w} {v}.", "Keep the {w} {v} in mind!", "The {l} {w}, {v}, is here.", "As {l} {w} take {v}.", "{w} -> {v}"])
ASK_HELD = Pool(["[What|Which] [{l} |]{w} [can be found|do I find|is given|is noted|is kept|is saved|was written|was put|is hidden|do we have|is there|stands|is to be found] [in|inside|"
                 "within] [|the file |the document ]{p}[?|]",
                 "[Get|Fetch|Read|Obtain|Pull|Take|Retrieve|Tell us|Say|Report|Print|Copy|Determine|Check|Name] [me |][the|that|its] [{l} |]{w} [in|from|of|inside|given in|kept in|noted "
                 "in|hidden in|written in|out of] [|the file |the document ]{p}[.|, please.|!]",
                 "[What|Which] [is|was] the [{l} |]{w} [that is |][in|inside|within|from|according to|given by|noted in] {p}?",
                 "[Open|Look at|Read|Check|Search|Go through|Scan|Take|Load|Examine|See] [|the file |the document ]{p}[, and| and|, then| to|.|:|; then] [report|tell me|give|say|find|"
                 "return|print|show me|name|state|learn|get] [the|its] [{l} |]{w}[.|, please.|]",
                 "[The|My|Our|Some|A] [{l} |]{w} [is|was|stands|should be|must be|can be found|is kept|is noted] in {p}[.|:|;] [What is it?|Tell me.|Which is it?|Read it to me.|Get it.|"
                 "Can you get it?|I need it.|Say it.]",
                 "[|The file |The document ]{p} [contains|holds|keeps|knows|gives|stores|mentions|names] [a|the|some|my] [{l} |]{w}[. |: |; |, ][tell me|which|which one|what is it|read "
                 "it|say it|get it|I need it][?|.]",
                 "[I|We] [would like|want|have|must know|am asked|like] [to know |to see |to get |][the|what] {w} [in|from|of|inside] [the file |]{p}[.| is.]",
                 "[Can|Could|Will|Would|Do] you [see|give me|look up|read me|get me|know|tell|show me|extract|return] [the|what|which] {w} [is in|in|from|of|inside|that is in] [the file "
                 "|]{p}?", "{p}[: | - |, |? ][the {w}|which {w}|what {w} is there|the {l} {w}|{w}][?|, please.|.]",
                 "[In|From|Inside|According to] [the file |]{p}[,|:| -| there:|] [what is the {w}|which {w} do you see|which is the {w}|what {w} stands there|tell me the {w}|find the "
                 "{w}|give me the {w}]?", "[{w}|The {w}|And the {w}|The {l} {w}] [in|of|from|inside] {p}[?|, please.|.|: what is it?]",
                "[What|Which] {w} is in [|the file ]{p}[?|]", "[What is|What's|Find|Tell me|Show me|Give me|Get|Look up|Read|Fetch] the {w} [in|from|of] [|the file ]{p}[.|]",
                "[Read|Open|Look at|Check] {p} and [tell me|give me|find|say] the {w}[.|]",
                 "What {w} does [|the file ]{p} [contain|have|hold|say][?|]", "[Which|What] {w} [stands|is written|is stored|do you find] in {p}?",
                 "There is a {w} in {p}[.|:] [What is it?|Which one?|Tell me.|Find it.]",
                 "I need the {w} [in|from] {p}.", "[Can|Could] you [find|tell me|read|get] the {w} in {p}?", "{p}: what is the {w}?", "What is the {l} {w} in {p}?",
                 "Tell me the {l} {w} [from|in] {p}.", "Find the {l} {w} in {p}."],
                ["Look into {p}: what is the {w}?", "Please extract the {w} stored in {p}.", "Which {w} do you see in {p}?", "{p} has a {w}. What is it?", "The {w} I want is inside {p}."])
ASK_KEY = Pool(["[What|Which] [{k} |value of {k} |value for {k} ][is|was|stands|is there|is given|is chosen|is used|has been set|do you find|is configured|does one find] [in|inside|"
                "within|by|according to] [|the file |the document ]{p}?",
                "[Tell me|Give me|Show me|Fetch|Say|Report|Get me|State|Print|Return|Name|Extract|Learn] [the value of |the |what is the |]{k} [from|in|of|inside|given in|set in|"
                "according to] [|the file ]{p}[.|, please.|!|]",
                "[What|Which value|What value|How much] [does|did|will] {p} [give|have|hold|use|choose|take|define|state|contain|set|assign] [for|as|to] [the |]{k}?",
                "[In|From|According to|Inside|By] {p}[,|:] [what is|which is|tell me|give me|what about|how is|find] [the |]{k}[?| set?|.]",
                "[Open|Look into|Look at|Search|Scan|See|Go to|Take|Load] [the file |]{p} [and|to|, then] [find|report|say|get|read out|look up|print|return|show me] [the |its |][{k}|"
                "value of {k}|{k} there][.|, please.|]", "[I|We] [need|want|would like|must know|look for|ask for] [the |to know the |]{k} [in|of|from|set in|given in] {p}[.|]",
                "[Can|Could|Will|Would] you [tell me|read|get|find|look up|show me|say] [the |]{k} [in|of|from|inside] [the file |]{p}?",
                "{p}[: |, | - ][the {k}|what {k}|which {k} does it have|its {k}|{k}][?|, please.|.]",
                "[And|So|Now|OK,] [the|what is the|what about the|which is the] {k} [in|of|from] {p}?",
                "[Is|Was] [a|the|any] {k} [set|given|defined|there] in {p}[?| and which?|, and to what?]", "[The|Which] [value of |]{k} [in|of|from] {p}[?|, please.|.]",
               "[What is|What's] [the |]{k} in [|the file ]{p}?", "[What|Which] {k} is [set|given|written] in {p}?",
               "[Tell me|Give me|Show me|Read|Look up|Find|Get] the {k} [from|in|of] [|the file ]{p}[.|]", "[Which|What] {k} does {p} [have|set|say|contain]?",
                "What is the value of {k} in {p}?", "What does {p} [say|have] for {k}?", "[Read|Open|Check] {p} and [tell me|give me] [the |]{k}.", "{k} in {p}?",
                "I want to know the {k} in {p}."],
               ["{p} sets a {k}. Which?", "How is {k} set in {p}?", "Look what {p} gives as {k}.", "To what is {k} set in {p}?"])
KEY_FORMS = Pool(["{}: {},", "{} := {}", "{}={};", "{} | {}", "{}\t{}", "set {} {}", "[{}] {}", "{}, {}", "{} - {}", "'{}': '{}'", "{}  {}", "{} equals {}", "Our {} is {}.", "{} was {}.",
                  "{} => {}", "{}; {}", "\"{}\" = \"{}\"", "let {} = {}", "{}..{}", "the {}: {}", "<{}>{}", "{} > {}", "+ {} {}", "> {}: {}", "{}: {} # ok", "export {}={}", "{} ({})",
                  "{}/{}", "{} stands at {}", "for {} use {}", "# {}\n{}",
               "{}={}", "{} = {}", "{}: {}", "{}: {}", "- {}: {}", "{} {}", "The {} is {}."], ["{} is {}", "{} -> {}", "* {} = {}"])
ASK_LINE = Pool(["[What|Which words|Which text|What text] [is|are|stands|stand|is there|comes|do you find|can be read|appears] [in|on|at|as] the {w} line [of|in|from] [|the file |the "
                 "document ]{p}?",
                 "[Give|Read|Say|Copy|Show|Tell|Print|Report|Return|Fetch|Get|Display|Extract|Recite|Repeat|Pick|Take] [me |us |][|out |only |just ]the {w} line [of|in|from|out of|"
                 "contained in] [|the file |the document ]{p}[.|, please.|!|]",
                 "[Open|Look at|Load|Take|Look into|See|Go to|Search] [the file |]{p} [and|, then|to] [read|copy|say|give me|get|return|report|find|look for|pick] the {w} line[.| there.|"
                 ", please.|]", "[How|What] does the {w} line [of|in] {p} [look|go|tell|state|contain|hold|have]?",
                 "[In|From|Of] {p}[,|:] [read|show me|give me|I want|what is|what does it say in|print|only] the {w} line[.|?|, please.]",
                 "[I|We] [want|need|would like|must see|ask for] [to see |to read |to know |]the {w} line [of|in|from] {p}[.|]",
                 "[Can|Could|Will|Would] you [read|show|give|tell|print|get] [me |]the {w} line [of|in|from] {p}?",
                 "{p}[: |, | - ][the {w} line|{w} line|read the {w} line|only the {w} line][.|?|, please.]", "[And|Now|So] the {w} line of {p}[?|.|, please.]",
                 "[The|What is the|Which is the] {w} [of the lines|one of the lines|line] [of|in|that is in] {p}[?|, please.]",
                 "[With|By] [what|which] [words|text|line] does {p} [start|begin] - [I mean |]the {w} line?",
               "[What is|Show me|Read|Tell me|Give me|Print|Get] the {w} line [of|in|from] [|the file ]{p}[.|]", "What does the {w} line of {p} say?",
               "What is [in|on|written in] the {w} line of {p}?", "[Read|Open] {p} and [tell me|show me|print] the {w} line.",
                 "The {w} line of {p}, please.", "{w} line of {p}?"],
                ["Which line comes {w} in {p}?", "Quote the {w} line of {p}.", "How does the {w} line of {p} read?"])
AGAIN = Pool(["[And|Now|Then|Also|But|OK,] [the|which|what is the|what about the|tell me the|its|give me the] {k}[?|, please.|.| there?| too?| in that file?]",
              "[What|Which] [is|was|about|value has] [the|its|that] {k}[?| then?| there?| of this file?| given there?]",
              "[Which|What] {k} [is there|stands there|do you see|is given|is in the same file|did it give|is noted][?| too?]",
              "[Tell me|Give me|Read|Say|Find|Show me|I need|I want] [the|its|also the|now the] {k}[.|, please.| too.| as well.]", "{k}[?|, please.| too?| there?]",
              "The [same|file] [again, the {k}|file's {k}|for {k}][.|?|, please.]",
               "What is the {k} [in it|there]?", "And the {k}?", "What about the {k}?", "And what is the {k}?", "Now the {k}[.|, please.]", "What {k} does it have?"], ["And which {k} does it set?",
               "How about the {k}?"])
BOTH = {
    "read": Pool(["[read|show me|open|print|fetch|present|load|get me|give me|see|view|examine|output|copy out] [the file |the files |the document |the text of |the contents of |both |"
    "]{a}[ and|, and|,| and then| and after that| &| +| and the file|, then| and finally| and in the same way| together with| next to| besides| along with] [the file |also "
    "|]{b}[ too|]", "[tell me|say|report|show me|find out|see] what [is in|stands in|is written in] {a} and [in |what is in |]{b}",
    "[take|use|pick|look at] the [two |]files {a} and {b} [and read them|and show them|; read both]", "[read|open|show me|print] [two files|these files|the following]: {a}[,| and|;] {b}",
             "[read|show me|open|print|show|get|cat|tell me what is in|read the files|look at] {a} and [also |]{b}", "read both {a} and {b}"], ["display both {a} and {b}",
             "print {a} as well as {b}"]),
    "weather": Pool(["[tell me|compare|check|show me|get|report|find out|give me] [the weather|how the weather is|the temperature|how warm it is] [in|for|at|of] {a}[ and|, and|,| and "
    "then| &| and also| together with| next to| besides| along with] [in |for |also in |]{b}[ too|]",
    "[compare|check] {a} and {b}[: which is warmer|: how is the weather|, I mean their weather]", "the weather [in|of|for] [two cities|these places]: {a} and {b}",
             "[tell me|compare|check|show me|get] the weather in {a} and [in |]{b}"], ["report the weather of both {a} and {b}", "say how the weather is in {a} and in {b}"]),
    "list": Pool(["[list|show me|print|see|look into|enumerate|open|inspect|give me|name the files in|tell me what is in|check] [the folders |the files in |what is in |the directories |"
    "the contents of |]{a}[ and|, and|,| and then| and after that| &| +| and also| together with| next to| besides| along with] [in |the folder |also |]{b}[ too|]",
    "[list|show|open] [two folders|these folders|the following]: {a}[,| and|;] {b}",
             "[list|list the folders|show the files in|show me what is in|list the files in] {a} and [also |]{b}"], ["look into both {a} and {b}", "list {a} as well as {b}"])}
JOINS = Pool(["{a} and {b}", "{a}[ & | + | / | - | ... |; |. |! |, |: | -> |, and |. And |. Then |. Next |\n|.\n]{b}",
              "{a}[, and| and|,|. Then|;|.] [then|also|next|after that|afterwards|finally|again|now|later|please|besides|moreover|besides that|further|furthermore|at the same time|"
              "meanwhile|last|likewise|even|after this|once done|when done|when that is done|with that done] {b}",
              "[both|first|1.|1)|a)|at first|to begin with|one:|do this:|start:|initially] {a}[ and|, and|,|, then|;|. 2.|, 2)|; b)|; two:|, afterwards| and then|. Next,|. After it,] {b}",
             "[do two things|two things|two tasks|two wishes|do both|I need two things|two jobs for you|do the following two]: {a}[ and|;|,|. And|, and also] {b}",
             "{a}[, not only that, but| and, if you can,| and while you do that| and, while at it,| and before I forget| and on top of it| and, as a second thing,| and not to forget|, "
             "as I also want you to| and do not forget to| and help me to| and I want you to| and could you] {b}",
             "{a}[ and after that| before you| but first of all| but also| or rather also|, but then| and at once| and again| and as well] {b}",
             "{a} and {b}", "{a} and {b}", "{a}, and {b}", "{a} and also {b}", "{a}, then {b}", "{a} and then {b}", "{a}, {b}", "both {a} and {b}", "{a}. Also {b}", "{a}; {b}"], ["{a} plus {b}",
             "first {a}; second {b}", "{a}, and in addition {b}"])
POINTERS = Pool(["[The|A|My|This|Our|Next] [right |next |real |second |other |][file|document|path|text][ is| is called| is named|:| you want is| to read is| name is| has the name| "
                 "stands in| lies at| path:] {q}", "[Look|See|Search|Find it|It stands|It is written|Go|All is|More is|You find it|The rest is] [at|in|under|inside] {q}",
                 "[See|Read|Open|Use|Take|Try|Load|Follow|Check|Go to|Start with|Now read|Please open|Have] [the file |file |also |now |]{q}",
                 "[file|path|next|name|target|document|where|see|at|link|ref|go|include][: |=| = |: | - | ]{q}",
                 "{q}[ is the file| is next| has it| is what you need| is the right one| please|!| (read it)| <-]", "[|* |- |> |# |=> |>> |1. |@|: |* see ]{q}",
                "{q}", "{q}", "{q}", "The file is {q}", "Look in {q}", "see {q}", "next: {q}", "read {q}", "file={q}", "Go on with {q}", "It is in {q}"], ["Continue at {q}", "-> {q}",
                "the name: {q}"])
NAMED = Pool(["[read|open|show me|print|show|load|fetch|give me|get|view|tell me what is in|tell me the text of] the [file|document|text|one] [named in|named by|given in|given by|"
              "written in|noted in|cited in|whose name is inside|whose path is given in|whose path stands in|whose name stands in|which is named in|referred to in|referenced by|linked "
              "in|listed in] {p}",
              "[open|load|look at|look into|check|go to|take|see|start with] {p}[ and| and then|, then|; then|. Then|, find the file name there and|, and] [read|open|show me|print|load|"
              "display|get|tell me the text of|give me] [the file that is named there|the file whose name is there|what it names|the file it mentions|the document it names|the named "
              "file|the file written there|the file whose path it has|the file it tells you|the other file|that other file|the next file]",
              "{p} [names|contains the name of|has the name of|gives|mentions|tells you|holds the path of|knows|has the path of] [a|another|the next|some|the right] [file|document][. |; "
              "|: |, ][read it|open it|show me that file|read that one|print it|tell me what is in it]",
              "[read|see|take|get] the [path|name|file name|filename] [in|from|inside|that is in|written in] {p}[ and| and then|, then|;] [read|open|load|show me|print|display|view] "
              "[that file|it|the file|the document|what is there]",
              "[in|inside] {p} [is|stands|you find|there is] [the name of a file|a path|a file name|another file|a name][. |: |; |, ][read it|open it|read that file|show me that file|"
              "print it|load that]",
              "[go from|hop from|move on from|start at|jump from] {p} to the [file|document] [it names|named there|it mentions|it tells] and [read it|show it|print it|open it]",
              "[what is in|what does] the file [named in|that is named in|given in|written in|mentioned in] {p}[ say|]",
               "[read|open|show me|print|show|tell me what is in] the file [named in|that {p} names|whose name is in|that is named in|whose path is in|mentioned in] {p}",
               "read {p} and [then |][the file it names|open the file it names|the file named there|show me the file it names]",
              "look in {p} for the name of a file and [read|open|show me] [that file|it]"],
             ["follow {p} to the file it points to and read that", "look up the file name in {p} and open it", "read the file to which {p} points"])
PART = Pool(["[read|show me|open|print|show|load|fetch|give me|view|display|get|see|tell me the text of|look at|output] the {w} [file|document|of the files|one of the files|entry|item] "
             "[in|of|inside|from|that is in|you find in|listed in|within|under] [|the folder |the directory |folder |my folder ]{d}[, please|]",
             "[list|look into|see|check|scan|go to|browse|inspect|open|search|enter|take] [the folder |the directory |the files in |]{d}[ and| and then|, then|;|. Then|, and] [read|open|"
             "show me|print|load|give me|display|tell me what is in|tell me the text of|look at|fetch] [the {w} file|the {w} one|its {w} file|the {w} of the files|the {w} file there|the "
             "{w} document|the {w} one there|whatever is {w}]",
             "[what|which text] [is in|stands in|is written in|does one find in] the {w} [file|document|one] [in|of|inside|from] [the folder |]{d}",
             "[from|in|of|inside] [the folder |]{d}[,|] [read|open|take|show me|print|get|load|pick] the {w} [file|document|one|entry][ and read it| and show it|]",
             "[find|pick|choose|take|select|get|determine] the {w} [file|document|entry|one] [in|of|from|inside] [the folder |]{d}[ and| and then|, then|; then] [read it|open it|show it "
             "to me|print it|load it|give me its text|tell me its contents|display it]", "[what does|how does] the {w} file [of|inside|under|from] {d} [say|read|look|contain]",
             "[which|what] file is {w} in {d}[? Read it|, and what is in it|; open it|: show it to me]", "[in|inside] {d} there is a {w} file[. Read it|; read it|: show it|, open it]",
             "[read|show me|open|print|show|tell me what is in|cat] the {w} file [in|of] [|the folder |the directory ]{d}", "list {d} and [read|open|show me|print] the {w} file",
             "look in {d} and [read|open] the {w} file", "what does the {w} file in {d} say"],
            ["find the {w} file of {d} and tell me what it says", "print whichever file comes {w} in {d}", "see which file is {w} in {d} and read it"])
WITH_NUMBER = {
    "+": Pool(["[add|put] {k} [to|onto] [the|that] [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] [the file |]{p}",
    "[read|get|fetch|look up|find|open the file for|obtain] [the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p}|{p}|the file "
    "{p}][ and| and then|, then|, and|;] [add {k}|add {k} to it|add {k} to that number|increase it by {k}|calculate it plus {k}|put {k} on top|make it {k} more|raise it by {k}]",
    "[what is|calculate|compute|find|tell me|work out|how much is] [the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p} [plus|"
    "and|increased by|with another|+] {k}|{k} [plus|and|more than|added to|+] the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] "
    "{p}|the sum of {k} and the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p}]",
    "[increase|raise] the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p} by {k}",
    "[open|look at|check] {p}[: how much is its number|, what is its number| and tell me the number] plus {k}",
    "[the|a] [number|value|figure|count|amount] is in {p}[.|;|:] [add {k} to it|what is it plus {k}|add {k}]",
              "add {k} to the number in {p}", "read the number in {p} and add {k}[ to it|]", "[what is|calculate] the number in {p} plus {k}"], ["take the number from {p} and add {k}",
              "sum up {k} and the number that {p} has"]),
    "-": Pool(["[subtract|deduct|take off|take away|remove] {k} from [the|that] [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] "
    "[the file |]{p}",
    "[read|get|fetch|look up|find|obtain] [the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p}|{p}|the file {p}][ and| and then|"
    ", then|, and|;] [subtract {k}|subtract {k} from it|take {k} away|take {k} off|reduce it by {k}|calculate it minus {k}|make it {k} less|lower it by {k}|deduct {k}]",
    "[what is|calculate|compute|find|tell me|work out|how much is] [the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p} [minus|"
    "less|reduced by|without|-] {k}|{k} less than the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p}|the difference of the "
    "[number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p} and {k}]",
    "[decrease|reduce|lower] the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p} by {k}",
    "[open|look at|check] {p}[: how much is its number|, what is its number| and tell me the number] minus {k}",
    "[the|a] [number|value|figure|count|amount] is in {p}[.|;|:] [subtract {k} from it|what is it minus {k}|take {k} off]",
              "subtract {k} from the number in {p}", "read the number in {p} and subtract {k}[ from it|]", "[what is|calculate] the number in {p} minus {k}"], ["have {k} subtracted from the number that {p} has",
              "take the number from {p} and subtract {k}"]),
    "*": Pool(["[multiply|take] [the|that] [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] [the file |]{p} [by|with|times] {k}",
    "[read|get|fetch|look up|find|obtain] [the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p}|{p}|the file {p}][ and| and then|"
    ", then|, and|;] [multiply by {k}|multiply it with {k}|multiply that by {k}|take it {k} times|calculate it times {k}|calculate {k} times it|scale it by {k}|make it {k} times as much]",
    "[what is|calculate|compute|find|tell me|work out|how much is] [the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p} [times|"
    "multiplied by|*] {k}|{k} [times|multiplied by|lots of] the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p}|the product of "
    "{k} and the [number|value|figure|count|amount] [in|from|of|inside|noted in|given in|kept in|written in|stored in] {p}|the product of the [number|value|figure|count|amount] [in|from|"
    "of|inside|noted in|given in|kept in|written in|stored in] {p} and {k}]", "[open|look at|check] {p}[: how much is its number|, what is its number| and tell me the number] times {k}",
    "[the|a] [number|value|figure|count|amount] is in {p}[.|;|:] [multiply it by {k}|what is it times {k}|take it {k} times]",
              "multiply the number in {p} by {k}", "read the number in {p} and multiply it by {k}", "[what is|calculate] the number in {p} times {k}",
              "calculate {k} times the number in {p}"], ["take the number from {p} and multiply it by {k}", "have the number that {p} has multiplied by {k}"])}
TOTAL = Pool(["[add|sum up|total|count together|put together|join|add up|sum|combine] the [two |]numbers [in|of|from|inside|given in|kept in|stored in] [the files |both |]{p} and {q}",
              "[what is|calculate|compute|find|tell me|work out|give me|get|determine] the [sum|total|addition] of [the [two |]numbers [in|of|from|inside|given in] [the files |]{p} and "
              "{q}|the number in {p} and the number in {q}|the number in {p} and the one in {q}|what is in {p} and {q}|both numbers in {p} and {q}]",
              "[read|open|get|look at|load] [the files |both |the numbers in |]{p} and {q}[ and| and then|, then|, and|;] [add up the numbers|sum the numbers|add them|sum them up|"
              "calculate the sum|calculate their sum|tell me the total|give me the sum|add both numbers|total them]",
              "[what is|calculate|how much is] the number in {p} [plus|and|added to] the [number|one] in {q}",
              "[there is a number in|a number is in] {p} and [one|another] in {q}[.|;|:] [add them|what is the sum|give me the total]",
              "[add|sum] [up |]{p} and {q}[, I mean their numbers|: their numbers|]",
               "add the numbers in {p} and {q}", "[what is|calculate] the sum of the numbers in {p} and {q}", "read {p} and {q} and add the numbers",
               "add the number in {p} to the number in {q}"],
             ["make the sum of the numbers that {p} and {q} have", "sum up the numbers which {p} and {q} contain"])
CONVERTED = Pool(["[convert|change|transform|turn|recalculate|bring] [the|that] [number|value|measure|figure] [in|from|of|inside|stored in|given in] [the file |]{p}[, given in {a},| "
                  "from {a}|, a number of {a},|, it is in {a},|, {a},| (in {a})] [to|into] {b}",
                  "[read|open|get|fetch|look up|look at] [the [number|value] [in|from|of] {p}|{p}|the file {p}][ and| and then|, then|, and|;] [convert|change|turn|transform] [it|that|"
                  "the number|the value|the {a}|the {a} there] [from {a} |][to|into] {b}",
                  "[how many|how much in] {b} [are|make|is|do you get for|is that:] the {a} [in|from|given in|stored in|of] {p}",
                  "[what is|what are|tell me|give me|find|show me] the [{a}|number of {a}|value in {a}|amount of {a}] [in|from|of|given in|noted in] {p} in {b}",
                  "[the|a] [number|value|figure] [of {a} |]in {p} [is|was|is given|is measured] in {a}[.|;|:|,] [what is it in {b}|change it to {b}|turn it into {b}|how many {b} is that|"
                  "I need {b}|give me {b}]",
                  "{p} [has|gives|contains|holds|states] [a [number|value] in {a}|so many {a}|some {a}|an amount of {a}][.|;|:|,] [how many {b} is that|convert it to {b}|turn it into "
                  "{b}|what is it in {b}]", "[use|express|give me|state] [the {a} of|the {a} in] {p} in {b}",
               "[read|take] the number in {p} and convert it from {a} to {b}", "convert the number in {p} from {a} to {b}", "the number in {p} is in {a}[.|;] convert it to {b}"],
                 ["take the {a} that {p} gives and convert them to {b}", "change the number from {p}, which is in {a}, into {b}"])
FORWARD = Pool(["[read|open|get|load|look at|take] [the file |]{p}[ and| and then|, then|;|, and] [send|mail|forward|write|pass|give|tell|transmit] [the text|it|the contents|what it "
                "says|what is in it|the words|its text|everything|all of it|the result] [on |over |]to {to}",
                "[send|mail|forward|write|pass|tell|transmit|message] {to} [the text|the contents|the words|all|the whole text|the content|everything] [of|in|from|inside|that is in] "
                "[the file |]{p}", "[send|mail|forward|pass|transmit|deliver] [the|all|the whole] [contents|text|words|content|file text] [of|in|from] [the file |]{p} [on |over |]to {to}",
                "[tell|inform|send|mail|write|let] {to} [what {p} says|what is in {p}|what stands in {p}|what is written in {p}|what the file {p} says|about what {p} says|know what is "
                "in {p}]", "[send|mail|forward] what [{p} says|is in {p}|stands in {p}|the file {p} says] to {to}",
                "{to} [wants|needs|has|would like] [to know what is in|to read|the text of|the contents of] {p}[: send it|. Send it|; send it to {to}]",
                "[the text|what is] in {p} [must|should|is to] [go|be sent] to {to}",
               "read {p} and send [the text|it|the contents|what it says] to {to}", "send {to} the [text|contents|words] of {p}", "send the [contents|text] of {p} to {to}",
               "[tell|send] {to} what {p} says"], ["send what is in {p} over to {to}", "give {to} a message with the text of {p}"])
COPY = Pool(["[copy|duplicate|transfer|clone|replicate|cp] [|the file |the text of |the contents of |the words of |all of |the text in ]{p} [to|into|over to|in|as|under the name] [the "
             "file |a new file |]{q}",
             "[read|open|load|get|take] [the file |the text of |]{p}[ and| and then|, then|;|, and] [write|save|store|put|copy|record] [it|the text|the contents|that|what it says|its "
             "text|the same|all of it] [to|in|into|under|as] [the file |]{q}",
             "[write|save|store|put|record|place] the [text|contents|content|words|whole text] [of|in|from|inside] [the file |]{p} [to|in|into|under|as] [the file |a new file |]{q}",
             "[make|create|produce|get me] [a duplicate|a clone|a second version] of {p}[ called {q}| named {q}| in {q}| at {q}]",
             "[fill|make|create|overwrite] {q} with [the text of|what is in|the contents of|what stands in] {p}",
             "[save|store|write] what [is in {p}|stands in {p}|the file {p} says] [to|in|into|as] {q}",
             "{q} [should|must|shall] [have|say|contain|get] [the text of|the same as|what is in] {p}",
               "copy [|the text of |the contents of ]{p} to {q}", "read {p} and [write|save] [it|the text] to {q}", "[write|save] the [text|contents] of {p} [to|in] {q}"], ["write a copy of {p} to {q}",
               "put what {p} says into {q}"])
THEN = {
    "+": Pool(["[And|Now|Then|Next|OK,|So] [add|plus|with|increase it by|and] {k}[?|.| more.|, please.| to it.]", "[Plus|+|Add] {k}[?|.|, please.]",
    "[What|How much|And what] [is that|is it|do we get|does it make|would that be] [plus|with another|and|increased by] {k}?", "[Put|Take|Count] [another|also] {k} [on top|to it|more].",
    "[Now |]add {k}[ to it| to that|].", "Plus {k}?", "And plus {k}?", "Add {k} to [that|the result]."], ["What if you add {k}?"]),
    "*": Pool(["[And|Now|Then|Next|OK,|So] [times|multiply it by|multiply by|take it times|multiplied by] {k}[?|.|, please.]", "[Times|*|Multiply by] {k}[?|.|, please.]",
    "[What|How much|And what] [is that|is it|do we get|would that be] [times|multiplied by] {k}?", "{k} times [that|as much|the result]?", "[Now |]multiply [it|that|the result] by {k}.",
    "Times {k}?", "And times {k}?"], ["What if you multiply that by {k}?"]),
    "-": Pool(["[And|Now|Then|Next|OK,|So] [subtract|minus|less|reduce it by|take off] {k}[?|.|, please.]", "[Minus|-|Less|Subtract] {k}[?|.|, please.]",
    "[What|How much|And what] [is that|is it|do we get|would that be] [minus|less|without|reduced by] {k}?", "[Take|Remove] {k} [off|from that|from it|from the result].",
    "[Now |]subtract {k}[ from it| from that|].", "Minus {k}?", "And minus {k}?"], ["What if you take {k} away?"])}
