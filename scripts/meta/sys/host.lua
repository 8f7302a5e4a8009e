---@meta perigee.sys.host
-- SPDX-License-Identifier: MIT
-- What our drivers (perigee/cli/*.lua) get from the program around the script.

---@class perigee.sys.host
---@field arguments table   what the program gave to the driver
---@field version string    of the program
---@field seed integer      of what is random and was given no seed
---@field home? string      the person's folder
---@field data_home? string   $XDG_DATA_HOME, where it is an absolute path
---@field scripts? string   the folder that holds perigee/, arch/ and personality/
local host = {}

---@param stream 1|2   standard output or error
---@param text string   as it is, no newline is added
---@param is_dim? boolean   text about the answer: dimmed where that is possible
function host.write(stream, text, is_dim) end

---So far has the work come; shown where that is wanted, and taken away when it is done.
---@param done integer
---@param total integer
function host.progress(done, total) end

---One line from the terminal or from standard input; the other tasks go on.
---@param prompt string
---@return string? line          nil at the end of the input
---@return perigee.error? err    code "cancelled" after Ctrl-C
---@async
function host.read_line(prompt) end

---Are the lines read from now on to be kept for later sessions?
---@param is_kept boolean
---@return boolean ok   false where no lines are kept anyway
function host.keep_history(is_kept) end

---What an interrupt does from now on; nil: it ends the script.  So does one that comes while the
---function for the one before still runs.
---@param fn? fun()
function host.on_interrupt(fn) end

---Load the user's script; its folder becomes that of its require, which reads all modules anew.
---@param path string
---@return function?
---@return perigee.error? err   "FILE:LINE: ..." when it does not compile
function host.load(path) end

---The same for text.
---@param name string
---@param text string
---@return function?
---@return perigee.error? err
function host.load_text(name, text) end

---What require(name) returns to the user's script.
---@param name string
---@param value any
function host.provide(name, value) end

---A Lua library where the distribution installs it.
---@param name string
---@param env table   its globals
---@return function?
---@return perigee.error? err
function host.library(name, env) end

---A file that the person at the terminal named; no grant is asked for.
---@param path string
---@return string?
---@return perigee.error? err
function host.read_file(path) end

---Replace such a file, as a whole or not at all.
---@param path string
---@param text string
---@return boolean?
---@return perigee.error? err
function host.write_file(path, text) end

---@class perigee.sys.host.found
---@field kind "file"|"folder"|"other"
---@field path string      absolute, without links
---@field is_gguf boolean
---@field stamp string     another one once the file was changed or replaced
---@field names? string[]  of a folder

---What lies at a path that the person named.
---@param path string
---@return perigee.sys.host.found?
---@return perigee.error? err
function host.look(path) end

---The files beside the script that its require has read.
---@return string[]
function host.modules() end

---Make a folder, and those it is in, for what the person wants to keep.
---@param path string
---@return boolean?
---@return perigee.error? err
function host.make_folder(path) end

return host
