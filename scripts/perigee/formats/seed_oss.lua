-- SPDX-License-Identifier: MIT
-- <seed:tool_call><function=f><parameter=k>v</parameter></function></seed:tool_call>
-- Spoken by Seed-OSS.
return {
  name = "seed_oss",
  shows = { { "<seed:tool_call>" } },
  thinking = { open = "<seed:think>", close = "</seed:think>" },
  section = { open = "<seed:tool_call>", close = "</seed:tool_call>" },
  call = {
    syntax = "tags", open = "<function=", close = "</function>",
    name_close = ">", key = { open = "<parameter=", close = ">" },
    value = { close = "</parameter>", has_newlines = true },
  },
}
