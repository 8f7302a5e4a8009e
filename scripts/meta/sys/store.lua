---@meta perigee.sys.store
-- SPDX-License-Identifier: MIT
-- Folders of a store of models, for our own modules: names stay below the folder whatever links
-- lie in it, files appear whole and synced, bytes are hashed on their way.

local store = {}

---A folder; names below it cannot leave it by "..", a link or an absolute name.
---@param path string
---@param want_create? boolean   make it and the folders it lies in
---@return perigee.sys.store.folder?
---@return perigee.error? err
function store.open(path, want_create) end

---A file to be hashed.
---@param path string
---@return perigee.sys.store.blob?
---@return perigee.error? err
function store.source(path) end

---@class perigee.sys.store.description
---@field architecture? string
---@field name? string
---@field type? string          general.type
---@field template? string      the chat template
---@field file_type? integer    general.file_type
---@field n_file? integer       files of a split model
---@field n_ctx? integer
---@field d_model? integer
---@field n_parameter integer   elements of all tensors

---What a model file says about itself; its whole header is checked.
---@param path string
---@return perigee.sys.store.description?
---@return perigee.error? err
function store.describe(path) end

---@param text string
---@return string   64 hexadecimal digits
function store.hash(text) end

---The variables of the environment that say where stores lie, those that are set.
---@return table<string, string>
function store.environment() end

---@class perigee.sys.store.folder
local store_folder = {}

---@return string   absolute
function store_folder:path() end

---@param name string
---@return { kind: "file"|"folder"|"other", size: integer, mtime: integer }?
---@return perigee.error? err
function store_folder:stat(name) end

---@param name string
---@param max_bytes integer
---@return string?
---@return perigee.error? err
function store_folder:read(name, max_bytes) end

---@param name string   "." is the folder itself
---@return { names: string[], kinds: table<string, "file"|"folder"|"link"|"other"> }?   names sorted
---@return perigee.error? err
function store_folder:list(name) end

---Make a folder and those it lies in.
---@param name string
---@return boolean?
---@return perigee.error? err
function store_folder:make(name) end

---Remove a file or an empty folder.
---@param name string
---@return boolean?   false: a folder that is not empty
---@return perigee.error? err
function store_folder:remove(name) end

---The lock that a file stands for; the kernel gives it back when the process ends.
---@param name string
---@return perigee.sys.store.lock|false|nil   false: another process has it
---@return perigee.error? err
function store_folder:lock(name) end

---A file to be hashed.
---@param name string
---@return perigee.sys.store.blob?
---@return perigee.error? err
function store_folder:source(name) end

---A file that is not visible yet, in the folder `name`: a copy of the file at `path`, by step; or
---texts, by write.
---@param name string
---@param path? string
---@return perigee.sys.store.blob?
---@return perigee.error? err
function store_folder:draft(name, path) end

function store_folder:close() end

---@class perigee.sys.store.lock
local store_lock = {}

function store_lock:close() end

---Bytes on their way.  Closing removes a draft that was not published.
---@class perigee.sys.store.blob
local store_blob = {}

---@param text string
---@return boolean?
---@return perigee.error? err
function store_blob:write(text) end

---Hash, and copy, the next piece.
---@return integer? done
---@return integer|perigee.error total
---@return boolean? is_over
function store_blob:step() end

---SHA-256 of all bytes, 64 digits; nothing can be written afterwards.
---@return string
function store_blob:digest() end

---@return integer
function store_blob:size() end

---Make the draft the file `name` of its folder: synced, then renamed, then the folder synced.
---@param name string
---@return boolean?
---@return perigee.error? err
function store_blob:publish(name) end

function store_blob:close() end

return store
