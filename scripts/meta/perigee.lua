---@meta perigee
-- SPDX-License-Identifier: MIT
-- What `local perigee = require "perigee"` gives to scripts.  Whatever can fail returns nil and an
-- error, a table { code =, message = } that prints as its message; a caller's mistake raises at the
-- caller's line.  Everything that waits lets other tasks run meanwhile.

---@class perigee
---@field version string
---@field json perigee.json
---@field null any            null in JSON
---@field fs perigee.fs
---@field time fun(): number   seconds since 1970
---@field date fun(format?: string, time?: number): string|table   as os.date
local perigee = {}

---@class perigee.json
---@class perigee.fs

---Open a model file; waits while it loads.  The same file with the same options is opened once.
---@param path string                  relative to the script, or to the current folder
---@param options? perigee.model.options
---@return perigee.model?
---@return perigee.error? err
---@async
function perigee.model(path, options) end

---@alias perigee.chat.of string|perigee.assistant   a path, a name, or a table

---A conversation with an assistant, a table or the path or name of one; waits for the model.
---@class perigee.chat.module
---@overload fun(assistant: perigee.chat.of, options?: table): perigee.chat?
perigee.chat = {}

---A chat saved before.
---@param assistant string|perigee.assistant
---@param path string
---@param options? perigee.chat.options
---@return perigee.chat?
---@return perigee.error? err
---@async
function perigee.chat.restore(assistant, path, options) end

---Check an assistant's table; a mistake in it raises at the caller's line.
---@class perigee.assistant.module
---@overload fun(t: perigee.assistant): perigee.assistant
perigee.assistant = {}

---An assistant that differs from another in some keys: parameters, capabilities and budget are
---merged, tools of the same name replaced and others added, every other key taken from the changes.
---@param base perigee.assistant
---@param changes table
---@return perigee.assistant
function perigee.assistant.with(base, changes) end

---Check a tool's table; a mistake in it raises at the caller's line.
---@class perigee.tool.module
---@overload fun(t: perigee.tool): perigee.tool
perigee.tool = {}

---What a text must look like, as grammars in GBNF.
---@class perigee.grammar.module
perigee.grammar = {}

---The grammar of a format: "json", a JSON Schema, { choice = { ... } } or { regex = "..." }.
---@param format perigee.format_of_reply
---@param path? string   for messages
---@return string? gbnf
---@return string? message
function perigee.grammar.of(format, path) end

---What a text is of a whole text of a grammar.
---@param gbnf string
---@param s string
---@return "whole"|"beginning"|"no"|nil
---@return perigee.error? err   the grammar is none
function perigee.grammar.match(gbnf, s) end

---Ask for capabilities: what --allow gave, else the person at the terminal decides.
---@param capabilities table   { fs = { read = { "." }, write = { "out" } }, env = { "HOME" } }
---@return boolean? ok
---@return perigee.error? err   its message shows the option to add
---@async
function perigee.request(capabilities) end

---Run a function beside the others.  An error in it is reported unless somebody waits for it.
---@param fn fun(...): ...
---@param ... any   its arguments
---@return perigee.task
function perigee.spawn(fn, ...) end

---Let the others run for so long.
---@param seconds number
---@async
function perigee.sleep(seconds) end

---Wait for several tasks.  When one fails, the others are cancelled.
---@param tasks perigee.task[]
---@return any[]? results       the first result of each, in their order
---@return perigee.error? err   of the first one, in their order, that failed
---@async
function perigee.all(tasks) end

---Generate from a session, without certain phrases: where one is complete, the session goes back to
---where it began and the text goes on another way.
---@param session perigee.session
---@param options perigee.backtrack.options
---@return perigee.backtrack.text stream   callable, as that of session:generate
function perigee.backtrack(session, options) end

---The scripted model of specs: perigee.fake.model.
---@class perigee.fake
perigee.fake = {}

---A model that says what it is told to say, and counts what it was fed.
---@param options perigee.fake.options
---@return perigee.fake.model
function perigee.fake.model(options) end

---Generate from a session without certain phrases: when one is complete, the session goes back to
---where it began, and the text goes on another way.
---@param session perigee.session
---@param options perigee.backtrack.options
---@return fun(): perigee.backtrack.event?   for a for loop
---@async
function perigee.backtrack(session, options) end

return perigee
