# SPDX-License-Identifier: MIT
# The families of call formats against real chat templates: tests/lua/format_templates.lua.
. "$(dirname "$0")/harness.sh"
data=${PERIGEE_TEST_DATA:-}
[ -d "$data/chat-templates" ] || { echo "skipped: PERIGEE_TEST_DATA names no folder with chat-templates"; exit 77; }
cd "$data" || exit 1
run test --allow fs.read=chat-templates "$SOURCE_DIR/tests/lua/format_templates.lua"
printf '%s\n' "$out"
finish
