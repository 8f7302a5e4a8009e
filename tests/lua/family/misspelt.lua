-- SPDX-License-Identifier: MIT
return {
  from = "base.lua",
  parameters = {
    temprature = 1,
  },
}
