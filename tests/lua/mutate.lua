-- SPDX-License-Identifier: MIT
-- Damage for texts that parsers read: bytes replaced, cut out, put in, and cut off.

---A text with at most `most` changes; never empty.
---@param text string
---@param pieces string[]     what may be put in
---@param most integer
---@param longest integer     bytes cut out at once, at most
---@return string
return function(text, pieces, most, longest)
  for _ = 1, math.random(1, most) do
    local at, how = math.random(#text), math.random(4)
    if how == 1 then
      text = text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + 1)
    elseif how == 2 then
      text = text:sub(1, at - 1) .. text:sub(at + math.random(1, longest))
    elseif how == 3 then
      text = text:sub(1, at) .. pieces[math.random(#pieces)] .. text:sub(at + 1)
    else
      text = text:sub(1, at)
    end
    if text == "" then return "x" end
  end
  return text
end
