-- SPDX-License-Identifier: MIT
std = "lua54"
max_line_length = 100
exclude_files = { "build/", "tests/cases/", "tests/lua/family/broken.lua" }
-- Helpers that core/script/arch_prelude.lua gives to specs.
files["scripts/arch/"] = { std = "none", read_globals = {
  "every", "first", "pattern", "has", "pick", "rsqrt", "sqrt", "ratio", "DROP",
} }
-- Stubs: heads without bodies.
files["scripts/meta/"] = { ignore = { "212", "241" } }
