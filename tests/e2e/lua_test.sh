# SPDX-License-Identifier: MIT
# perigee test: exit status and what it says.
. "$(dirname "$0")/harness.sh"
cd "$tmp" || exit 1
cat >sum_spec.lua <<'LUA'
local lu = require "luaunit"
local T = {}
function T.test_sum() lu.assertEquals(1 + 1, 2) end
function T.test_other() lu.assertEquals("a", "a") end
return T
LUA
"$PERIGEE" test sum_spec.lua >out 2>err </dev/null
if [ $? -ne 0 ] && grep -q "luaunit is missing" err; then
    echo "skipped: no luaunit (lua-unit)"
    exit 77
fi
run test sum_spec.lua
has "$out" "Ran 2 tests"
run test sum_spec.lua --pattern sum$
has "$out" "Ran 1 test"
run 77 test sum_spec.lua --pattern nothing
sed 's/, 2)/, 3)/' sum_spec.lua >wrong_spec.lua
run 1 test sum_spec.lua wrong_spec.lua
has "$out" "expected: 3, actual: 2"
has "$out" "wrong_spec.lua:3"
run 1 test nowhere_spec.lua
has "$err" "nowhere_spec.lua"
run 2 test
finish
