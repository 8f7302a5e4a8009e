-- SPDX-License-Identifier: MIT
-- Text in, one JSON object out: what is no JSON goes back to the model, and a fence around it is
-- taken away, so that the output can be piped on.
--   perigee run extractor -m model.gguf "name, date, amount:" < invoice.txt
local perigee = require "perigee"

local function object_in(text)
  text = text:match "```%w*%s*\n(.-)\n?```" or text:match "{.*}" or text
  local value, err = perigee.json.decode(text)
  if value == nil then return nil, tostring(err) end
  if perigee.json.kind(value) ~= "object" then return nil, "it is no object" end
  return perigee.json.encode(value, { indent = 2 })
end

return {
  name = "extractor",
  description = "text in, a JSON object out",
  from = "demo",
  system = [[
Extract what the user asks for from the text as one JSON object. Use the names the user gives as
keys, in that order. A value that the text does not tell is null; never guess. Reply with the JSON
object alone.]],
  parameters = { temp = 0 },
  on_message = function(message)
    local json, err = object_in(message.content)
    if json then return json end
    return false, ("That was no JSON object (%s). Reply with the JSON object alone."):format(err)
  end,
}
