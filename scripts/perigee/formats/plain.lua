-- SPDX-License-Identifier: MIT
-- Replies without calls: text, and thinking between <think> and </think>.
return {
  name = "plain",
  thinking = { open = "<think>", close = "</think>" },
}
