-- SPDX-License-Identifier: MIT
-- A width that is too wide.
-- expect: format_width.lua:5: invalid conversion
-- status: OTHER
return ("%99999d"):format(1)
