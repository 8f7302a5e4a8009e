-- SPDX-License-Identifier: MIT
-- <tool_calls>[{"name": "f", "arguments": {...}}]</tool_calls>
-- Spoken by Apriel.
return {
  name = "apriel",
  shows = { { "<tool_calls>[" } },
  call = {
    open = "<tool_calls>", close = "</tool_calls>", name = "name", arguments = "arguments",
    id = "id",
  },
}
