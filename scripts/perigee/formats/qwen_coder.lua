-- SPDX-License-Identifier: MIT
-- <tool_call>
-- <function=f>
-- <parameter=k>
-- v
-- </parameter>
-- </function>
-- </tool_call>
-- Spoken by Qwen3-Coder, Qwen 3.5, Nemotron 3.  The models forget <tool_call> at times.
return {
  name = "qwen_coder",
  shows = { { "<function=", "<tool_call>" } },
  thinking = { open = "<think>", close = "</think>" },
  section = { open = "<tool_call>", close = "</tool_call>" },
  call = {
    syntax = "tags", is_loose = true, open = "<function=", close = "</function>",
    name_close = ">", key = { open = "<parameter=", close = ">" },
    value = { close = "</parameter>", has_newlines = true },
  },
}
