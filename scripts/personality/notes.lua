-- SPDX-License-Identifier: MIT
-- Answers from your notes: text files in the folder "notes" where you are, which it asks to read.
--   perigee run notes -m model.gguf --allow fs.read=notes "When does the bus leave?"
local perigee = require "perigee"

local FOLDER <const> = "notes"
local MOST <const> = 4000 -- bytes of a note that the model gets to see

local function read(name)
  if name:find "/" then return nil, "give the name alone, as list_notes tells it" end
  return perigee.fs.read(FOLDER .. "/" .. name)
end

local list_notes = perigee.tool {
  name = "list_notes", description = "List the names of the notes.",
  run = function() return perigee.fs.list(FOLDER) end,
}

local read_note = perigee.tool {
  name = "read_note", description = "Read a note.", parameters = { name = "string" },
  run = function(args)
    local text, err = read(args.name)
    if not text then return nil, err end
    return #text <= MOST and text or text:sub(1, MOST) .. "\n(cut: the note is longer)"
  end,
}

local search_notes = perigee.tool {
  name = "search_notes", description = "Find the lines of all notes that contain a word.",
  parameters = { word = "string" },
  run = function(args)
    local names, err = perigee.fs.list(FOLDER)
    if not names then return nil, err end
    local found = {}
    for _, name in ipairs(names) do
      for line in (read(name) or ""):gmatch "[^\n]+" do
        local has = line:lower():find(args.word:lower(), 1, true)
        if has and #found < 40 then found[#found + 1] = name .. ": " .. line end
      end
    end
    return #found > 0 and table.concat(found, "\n") or "no note has this word"
  end,
}

return {
  name = "notes",
  description = "answers from the files in the folder notes",
  from = "demo",
  system = "Answer from the user's notes: search them, read what fits, and name the note. If they "
    .. "do not tell, say so.",
  tools = { search_notes, list_notes, read_note },
  capabilities = { fs = { read = { FOLDER } } },
}
