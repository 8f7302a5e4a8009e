# SPDX-License-Identifier: MIT
# The conversation on a terminal: repl.py plays the person, repl.lua the assistant.
. "$(dirname "$0")/harness.sh"
need_demo
python3 -c 'import pty' 2>/dev/null || { echo "skipped: no python3"; exit 77; }
mkdir -p "$tmp/state"
exec_dir=$(cd "$(dirname "$0")" && pwd)
python3 -B "$exec_dir/repl.py" "$PERIGEE" "$exec_dir/repl.lua" "$demo" "$tmp/state"
