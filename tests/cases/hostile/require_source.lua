-- SPDX-License-Identifier: MIT
-- What finds the files that assistants name.
-- expect: require_source.lua:5: module 'perigee.lineage' is not for scripts
-- status: OTHER
require "perigee.lineage"
