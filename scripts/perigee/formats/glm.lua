-- SPDX-License-Identifier: MIT
-- <tool_call>f
-- <arg_key>k</arg_key>
-- <arg_value>v</arg_value>
-- </tool_call>
-- Spoken by GLM 4.5 and later (without the line breaks from 4.7 on) and Laguna.
return {
  name = "glm",
  shows = { { "<arg_key>" } },
  thinking = { open = "<think>", close = "</think>" },
  call = {
    syntax = "tags", open = "<tool_call>", close = "</tool_call>",
    key = { open = "<arg_key>", close = "</arg_key>" },
    value = { open = "<arg_value>", close = "</arg_value>" },
    name = "name", arguments = "arguments",
  },
}
