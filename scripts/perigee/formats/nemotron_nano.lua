-- SPDX-License-Identifier: MIT
-- <TOOLCALL>[{"name": "f", "arguments": {...}}]</TOOLCALL>
-- Spoken by Nemotron Nano v2.
return {
  name = "nemotron_nano",
  shows = { { "<TOOLCALL>" } },
  thinking = { open = "<think>", close = "</think>" },
  call = { open = "<TOOLCALL>", close = "</TOOLCALL>", name = "name", arguments = "arguments" },
}
