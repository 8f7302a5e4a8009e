-- SPDX-License-Identifier: MIT
-- <|tool_call>call:f{k:<|"|>v<|"|>,n:2,o:{u:<|"|>c<|"|>}}<tool_call|>
-- Spoken by Gemma 4.
return {
  name = "gemma4",
  shows = { { "<|tool_call>call:" } },
  thinking = { open = "<|channel>thought", close = "<channel|>" },
  call = { syntax = "gemma", open = "<|tool_call>", close = "<tool_call|>", quote = '<|"|>' },
}
