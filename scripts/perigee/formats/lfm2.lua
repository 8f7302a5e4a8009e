-- SPDX-License-Identifier: MIT
-- <|tool_call_start|>[f(a="x"), g()]<|tool_call_end|>
-- Spoken by LFM2.
return {
  name = "lfm2",
  shows = { { "<|tool_call_start|>" }, { "<|tool_list_start|>" } },
  thinking = { open = "<think>", close = "</think>" },
  call = { syntax = "python", open = "<|tool_call_start|>", close = "<|tool_call_end|>" },
}
