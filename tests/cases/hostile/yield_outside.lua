-- SPDX-License-Identifier: MIT
-- A yield to the host.
-- expect: attempt to yield from outside a coroutine
-- status: OTHER
coroutine.yield(1)
