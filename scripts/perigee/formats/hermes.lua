-- SPDX-License-Identifier: MIT
-- <tool_call>{"name": "f", "arguments": {...}}</tool_call>, repeated for several calls.
-- Spoken by Hermes 2 and 3, Qwen 2.5, Qwen 3, QwQ and the model in examples/demo-model.
return {
  name = "hermes",
  shows = { { "<tool_call>" } },
  thinking = { open = "<think>", close = "</think>" },
  call = { open = "<tool_call>", close = "</tool_call>", name = "name", arguments = "arguments" },
}
