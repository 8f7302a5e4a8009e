-- SPDX-License-Identifier: MIT
-- Nothing, repeated 10^18 times.
-- expect: done
-- status: OK
return #(""):rep(1000000000000000000), print("done")
