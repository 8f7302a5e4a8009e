-- SPDX-License-Identifier: MIT
-- A library that scripts do not have.
-- expect: os_execute.lua:5: 'os' is not available in scripts; use perigee.time, perigee.date
-- status: OTHER
os.execute("true")
