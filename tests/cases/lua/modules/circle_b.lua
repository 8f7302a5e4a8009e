-- SPDX-License-Identifier: MIT
require "circle_a"
