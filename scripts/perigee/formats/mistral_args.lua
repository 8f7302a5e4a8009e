-- SPDX-License-Identifier: MIT
-- [TOOL_CALLS]f[ARGS]{...}, with [CALL_ID]abcdefgh1 before [ARGS] in some; repeated.
-- Spoken by Mistral Small 3.2 (with ids), Devstral, Ministral 3 and Magistral (which think).
return {
  name = "mistral_args",
  shows = { { "[TOOL_CALLS]", "[ARGS]" } },
  thinking = { open = "[THINK]", close = "[/THINK]" },
  ids = { form = "call%05d", pattern = "^%w%w%w%w%w%w%w%w%w$" },
  call = {
    syntax = "named", open = "[TOOL_CALLS]", close = false, separator = "[ARGS]",
    id_separator = "[CALL_ID]",
  },
}
