-- SPDX-License-Identifier: MIT
return { value = 5, inner = { name = "trusted", list = { 1, 2, 3 } } }
