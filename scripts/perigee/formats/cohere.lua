-- SPDX-License-Identifier: MIT
-- <|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {...}}]<|END_ACTION|>
-- Spoken by Command R7B and Command A.
return {
  name = "cohere",
  shows = { { "<|START_ACTION|>" } },
  thinking = { open = "<|START_THINKING|>", close = "<|END_THINKING|>" },
  skip = { "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>" },
  call = {
    open = "<|START_ACTION|>", close = "<|END_ACTION|>", name = "tool_name",
    arguments = "parameters", id = "tool_call_id",
  },
}
