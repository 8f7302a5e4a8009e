-- SPDX-License-Identifier: MIT
-- <|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}
-- <|tool_call_end|><|tool_calls_section_end|>
-- Spoken by Kimi K2.  functions.f:0 is the call's id; it calls in its thinking, too.
return {
  name = "kimi_k2",
  shows = { { "<|tool_call_argument_begin|>" } },
  thinking = { open = "<think>", close = "</think>" },
  section = { open = "<|tool_calls_section_begin|>", close = "<|tool_calls_section_end|>" },
  call = {
    syntax = "named", is_loose = true, in_thinking = true, open = "<|tool_call_begin|>",
    close = "<|tool_call_end|>", separator = "<|tool_call_argument_begin|>", name_is_id = true,
    name_pattern = "^(.-):%d+$", name_prefix = "functions.",
  },
}
