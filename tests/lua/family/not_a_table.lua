-- SPDX-License-Identifier: MIT
return 5
