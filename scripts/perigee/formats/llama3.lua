-- SPDX-License-Identifier: MIT
-- {"name": "f", "parameters": {...}} as the whole reply, without a marker; for tools the model
-- brought along, <|python_tag|>f.call(k="v").  One call a turn.
-- Spoken by Llama 3.1, 3.2 and 3.3.
return {
  name = "llama3",
  shows = { { "<|start_header_id|>", '"name": function name, "parameters": ' },
    { "<|python_tag|>" } },
  skip = { "<|eom_id|>" },
  call = {
    syntax = "python", open = "<|python_tag|>", close = false, bare = "{", name = "name",
    arguments = "parameters",
  },
}
