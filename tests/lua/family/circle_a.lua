-- SPDX-License-Identifier: MIT
return {
  system = "a",
  from = "circle_b.lua",
}
