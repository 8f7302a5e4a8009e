-- SPDX-License-Identifier: MIT
-- A module outside the folder.
-- expect: require_escape.lua:5: module name "../loop"
-- status: OTHER
require "../loop"
