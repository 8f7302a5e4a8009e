-- SPDX-License-Identifier: MIT
-- A C module.
-- expect: require_sys.lua:5: module 'perigee.sys.fs' is not for scripts
-- status: OTHER
require "perigee.sys.fs"
