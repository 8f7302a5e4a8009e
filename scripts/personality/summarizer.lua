-- SPDX-License-Identifier: MIT
-- Summarises texts of any length: what is more than a part of the context is summarised piece by
-- piece, each in a fork that knows nothing of the others, and then the summaries are.
--   perigee run summarizer -m model.gguf < report.txt
local SHARE <const> = 0.4 -- of the context, for one piece
local BYTES <const> = 3   -- of text for a token; most have more, so a piece fits

-- Pieces of at most `most` bytes that end between paragraphs, lines or words where they can.
local function pieces(text, most)
  local out = {}
  while #text > most do
    local head = text:sub(1, most)
    local cut = #(head:match "^(.*)\n%s*\n" or head:match "^(.*)\n" or head:match "^(.*)%s" or "")
    if cut < most // 4 then cut = utf8.offset(text, 0, most + 1) - 1 end
    out[#out + 1], text = text:sub(1, cut), text:sub(cut + 1)
  end
  out[#out + 1] = text
  return out
end

return {
  name = "summarizer",
  description = "summarises texts, long ones in pieces",
  from = "demo",
  system = [[
Summarise the text: what it says, in the order of importance, with its names, numbers and dates. Add
nothing, judge nothing. At most a fifth of its length, and never more than ten sentences.]],
  parameters = { temp = 0.2 },
  on_request = function(request, ctx)
    local most = math.floor(ctx.model.n_ctx * SHARE) * BYTES
    local text = ctx.question
    if #text <= most then return end
    local list, parts = pieces(text, most), {}
    ctx:warn(("the text is summarised in %d pieces"):format(#list))
    for i, piece in ipairs(list) do
      local fork <close> = assert(ctx:fork())
      parts[i] = assert(fork:ask(piece))
    end
    text = table.concat(parts, "\n\n")
    if #text > most then return text end -- as short as it gets
    request.messages[#request.messages].content = text
  end,
}
