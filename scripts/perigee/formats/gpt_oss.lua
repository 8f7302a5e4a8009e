-- SPDX-License-Identifier: MIT
-- Messages with headers: <|channel|>analysis<|message|>... is thinking, final and commentary are
-- text, and a header with to=functions.f calls f with the JSON behind it:
--   <|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>
-- Spoken by gpt-oss ("harmony").
return {
  name = "gpt_oss",
  shows = { { "<|channel|>", "<|message|>", "analysis" } },
  channels = {
    message = "<|message|>", recipient = "to=[^%s<]", channel = "<|channel|>%s*(%a+)",
    kinds = { analysis = "thinking", commentary = "text", final = "text", [""] = "text" },
    ends = { "<|end|>", "<|return|>", "<|call|>", "<|start|>" },
    begins = { "<|channel|>", "<|start|>", "<|message|>", "<|constrain|>", "assistant", "to=",
      "<|end|>", "<|return|>", "<|call|>" },
  },
  call = {
    syntax = "named", close = false, separator = "<|message|>", name_pattern = "to=([^%s<]+)",
    name_prefix = "functions.",
  },
}
