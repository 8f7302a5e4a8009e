-- SPDX-License-Identifier: MIT
return "below/deep"
