-- SPDX-License-Identifier: MIT
-- Parameters of filters, methods and functions, written as "old new count?": those with ? may be
-- left out.

---@class perigee.jinja.spec
---@field n integer
---@field required integer
---@field index table<string, integer>
---@field text string for error texts

local cache = {}

---@param text string
---@return perigee.jinja.spec
return function(text)
  local spec = cache[text]
  if not spec then
    spec = { n = 0, required = 0, index = {} }
    local names = {}
    for name, optional in text:gmatch("([%w_]+)(%??)") do
      spec.n = spec.n + 1
      spec[spec.n], spec.index[name] = name, spec.n
      names[spec.n] = optional == "?" and "[" .. name .. "]" or name
      if optional == "" then
        spec.required = spec.n
      end
    end
    spec.text = spec.n == 0 and "no arguments" or "(" .. table.concat(names, ", ") .. ")"
    cache[text] = spec
  end
  return spec
end
