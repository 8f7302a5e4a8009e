-- SPDX-License-Identifier: MIT
-- [TOOL_CALLS][{"name": "f", "arguments": {...}, "id": "abcdefgh1"}]
-- Spoken by Mistral 7B v0.3 and Nemo.  Their templates refuse ids of another length.
return {
  name = "mistral",
  shows = { { "[TOOL_CALLS]" } },
  ids = { form = "call%05d", pattern = "^%w%w%w%w%w%w%w%w%w$" },
  call = {
    open = "[TOOL_CALLS]", close = false, name = "name", arguments = "arguments", id = "id",
  },
}
