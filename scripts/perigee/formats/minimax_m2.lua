-- SPDX-License-Identifier: MIT
-- <minimax:tool_call><invoke name="f"><parameter name="k">v</parameter></invoke>
-- </minimax:tool_call>
-- Spoken by MiniMax M2.
return {
  name = "minimax_m2",
  shows = { { "<minimax:tool_call>" } },
  thinking = { open = "<think>", close = "</think>" },
  section = { open = "<minimax:tool_call>", close = "</minimax:tool_call>" },
  call = {
    syntax = "tags", open = '<invoke name="', close = "</invoke>", name_close = '">',
    key = { open = '<parameter name="', close = '">' }, value = { close = "</parameter>" },
  },
}
