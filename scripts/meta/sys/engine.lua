---@meta perigee.sys.engine
-- SPDX-License-Identifier: MIT
-- Models and sessions.  Each model runs on a thread of its own; sessions of one model are computed
-- together.  Methods marked async wait; all but those of streams return nil and an error when they
-- fail.

---@class perigee.sys.engine
---@field wrapped table<table, perigee.sys.engine.model>   objects of scripts -> the model they are
local engine = {}

---@class perigee.sys.engine.options
---@field ctx? integer        tokens of context; nil: the trained length, as far as memory allows
---@field sessions? integer   full contexts there is room for, 4 unless given
---@field batch? integer      most tokens in one step, 512 unless given
---@field kv? "f16"|"f32"|"q8_0"|"q4_0" type of the stored keys and values
---@field device? string      "cuda:0,cpu": these, the preferred first
---@field place? string       "experts on cpu; head on cuda:0": what must be where
---@field weights? "auto"|"map"|"copy"   where processors read weights: a copy in large pages where
---                           there is room, always the mapped file, always a copy

---What a model says about itself: model.info, chat:info().
---@class perigee.sys.engine.info
---@field path string
---@field architecture string
---@field name? string
---@field template? string     chat template of the file
---@field n_ctx integer
---@field n_session integer
---@field n_vocab integer
---@field device string        all that run something: "cuda:0,cpu"
---@field isa string
---@field placement string     why there
---@field bos? integer
---@field bos_text? string
---@field eos? integer
---@field eos_text? string
---@field add_bos? boolean     texts begin with bos
---@field sampling table<string, number>   parameters that the file recommends

---A piece of text to tokenize.
---@class perigee.segment
---@field text string
---@field input? boolean   never becomes control tokens

---Sampling parameters by name (engine.parameters lists them), and:
---@class perigee.sampling: { [string]: number|boolean }
---@field seed? integer
---@field samplers? string|(string|perigee.policy)[]   order of the links, "top_k;top_p;temperature"
---@field logit_bias? table<integer, number|false>   by token id; false bans it
---@field dry_sequence_breakers? string[]
---@field grammar? string              what the text must be, in GBNF
---@field grammar_trigger? string|string[]   it holds only from behind one of these texts on

---How text is generated.
---@class perigee.generate.options
---@field max? integer              most tokens; nil or 0: until the context is full
---@field stop? string|string[]     texts that end it; they are not given out
---@field stop_tokens? integer[]    tokens that end it, besides the model's own
---@field logprobs? integer         so many likeliest tokens with each event
---@field special? boolean          control tokens appear in the text
---@field ignore_eog? boolean       the model's end tokens are tokens like others
---@field without? integer[]        tokens that the first one is not
---@field beside? perigee.sys.engine.session   its prediction is shown to sampling policies, and it
---  is given every token too; what it is asked meanwhile waits

---An event of session:generate.
---@class perigee.sys.engine.event
---@field text string               what it adds; whole characters, "" where none is complete
---@field id? integer               the token; of the last event: the token that ended it ("eog")
---@field logprob? number           of the token, natural logarithm
---@field top? { id: integer, logprob: number, text: string }[]   likeliest first
---@field done? "eog"|"length"|"stop"|"cancelled"|"context"|"error"   in the last event only
---@field stop? string              which text ended it
---@field n_tok? integer            tokens of the session now, with done
---@field error? perigee.error      with done = "error"

---Open a model file, or share the one that is open with the same options.
---@param path string
---@param options? perigee.sys.engine.options
---@return perigee.sys.engine.model?
---@return perigee.error? err
---@async
function engine.open(path, options) end

---The path that open would take: of a relative one, that beside the script if there is such a file.
---@param path string
---@return string
function engine.find(path) end

---Where a file of a script really lies, if its grants cover it.
---@param path string
---@param way "read"|"write"
---@return string? path
---@return perigee.error? err
function engine.locate(path, way) end

---@class perigee.sys.engine.parameter
---@field name string
---@field meaning string
---@field default number
---@field ollama number   the default of Ollama
---@field lo number
---@field hi number

---The sampling parameters there are.
---@return perigee.sys.engine.parameter[]
function engine.parameters() end

---What a text is of a whole text of a grammar.
---@param gbnf string
---@param text? string   "" unless given
---@return "whole"|"beginning"|"no"|nil
---@return perigee.error? err   the grammar is none
function engine.grammar(gbnf, text) end

---The names of the samplers there are.
---@return string[]
function engine.links() end

---The name of the sampler that is called so, by any of its spellings.
---@param name string
---@return string?
function engine.link(name) end

---An order of samplers in words or letters ("top_k;temperature", "kt", "none") as a list of names.
---@param text string
---@return string[]?
---@return perigee.error? err
function engine.order(text) end

---The source of a sampling policy that comes with Perigee.
---@param name string
---@return string?
function engine.policy(name) end

---Load a sampling policy for a moment.
---@param policy perigee.policy   with text and settings
---@return boolean?
---@return perigee.error? err
function engine.check_policy(policy) end

---Are these rules of placement well formed?
---@param rules string   "layers 0-9 on cuda:0; experts on cpu"
---@return boolean?
---@return perigee.error? err   which column is wrong
function engine.check_place(rules) end

---Choose tokens by a chain from made-up logits: what a choice costs, and what was chosen.
---@param sampling perigee.sampling
---@param options { vocab?: integer, picks?: integer, seed?: integer, digest?: boolean }
---@param model? perigee.sys.engine.model   whose vocabulary to take
---@return { ns: number, digest?: integer, ids?: integer[] }?   ns: per token; digest: of the bits
---  of all candidates left
---@return perigee.error? err
function engine.measure(sampling, options, model) end

---@class perigee.sys.engine.model
local model = {}

---@return perigee.sys.engine.info
function model:info() end

---Text, or segments that are tokenized as one text, as token ids.
---@param text string|perigee.segment[]
---@param options? { add_special?: boolean, parse_special?: boolean }   true and false unless given
---@return integer[]
function model:tokenize(text, options) end

---@param ids integer[]
---@param want_special? boolean
---@return string
function model:detokenize(ids, want_special) end

---@param sampling? perigee.sampling
---@return perigee.sys.engine.session?
---@return perigee.error? err
---@async
function model:session(sampling) end

---@param path string
---@param sampling? perigee.sampling   instead of what was saved
---@return perigee.sys.engine.session?
---@return perigee.error? err
---@async
function model:restore(path, sampling) end

---Sessions of the model go on until they are closed.
function model:close() end

---@class perigee.sys.engine.session
local session = {}

---@param ids integer[]
---@param on_progress? fun(done: integer, total: integer)
---@return boolean?
---@return integer|perigee.error n_cached   tokens taken from the prefix cache
---@async
function session:feed(ids, on_progress) end

---Begin to generate; does not wait.
---@param options? perigee.generate.options
---@return perigee.sys.engine.stream?
---@return perigee.error? err
function session:generate(options) end

---@return integer[]?
---@return perigee.error? err
---@async
function session:tokens() end

---@return integer?
---@return perigee.error? err
---@async
function session:n_tok() end

---@return perigee.sys.engine.session?
---@return perigee.error? err
---@async
function session:fork() end

---@class perigee.mark

---@return perigee.mark?
---@return perigee.error? err
---@async
function session:mark() end

---@param to perigee.mark|integer
---@return boolean?
---@return perigee.error? err
---@async
function session:rewind(to) end

---@param path string
---@return boolean?
---@return perigee.error? err
---@async
function session:save(path) end

---Change parameters, from the next token on.
---@param params perigee.sampling
---@return boolean?
---@return perigee.error? err
---@async
function session:sampling(params) end

---@return table<string, integer>?
---@return perigee.error? err
---@async
function session:stats() end

function session:close() end

---Calling it is the same as next, so a for loop takes it as it is.
---@class perigee.sys.engine.stream
local stream = {}

---@return perigee.sys.engine.event?   nil after the last
---@async
function stream:next() end

---End it; the last event still comes.
function stream:cancel() end

---Forget it; nothing more comes.
function stream:close() end

return engine
