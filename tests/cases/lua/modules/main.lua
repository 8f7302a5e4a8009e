-- SPDX-License-Identifier: MIT
local counter = require "counter"
print(counter.next(), require("counter").next())
print(require "counter" == counter)
print(require "below.deep")
print((select(2, pcall(require, "missing")):match("there is no") or "?") .. " such file")
print(select(2, pcall(require, "circle_a")):match("required while it is being loaded"))
local ours = require "perigee.helper"
print(select(2, pcall(function() ours.value = 1 end)):match("read%-only"))
print(select(2, pcall(function() ours.inner.list[1] = 1 end)):match("read%-only"))
print(ours.inner.name, #ours.inner.list, rawget(ours, "value"))
