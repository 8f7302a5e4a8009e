-- SPDX-License-Identifier: MIT
-- <|tool_call|>[{"name": "f", "arguments": {...}}], without a closing marker.
-- Spoken by Granite 3.
return {
  name = "granite",
  shows = { { "<|tool_call|>" } },
  thinking = { open = "<think>", close = "</think>" },
  skip = { "<response>", "</response>" },
  call = { open = "<|tool_call|>", close = false, name = "name", arguments = "arguments" },
}
