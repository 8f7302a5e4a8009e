# SPDX-License-Identifier: MIT
# The prompt of ./try is what the bundled model's chat template makes of one system message, one tool and the question.
. "$(dirname "$0")/harness.sh"
python3 -c 'import jinja2' 2>/dev/null || { echo "skipped: no Python Jinja2 (python3-jinja2)"; exit 77; }
n_check=1
python3 -B - "$SOURCE_DIR/examples/demo-model" <<'PYTHON' || fail "examples/demo-model/try-prompt.txt"
import sys
sys.path.insert(0, sys.argv[1])
from template import Template
tool = {"type": "function", "function": {"name": "read_file", "description": "Read a file.", "parameters": {
    "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}}
messages = [{"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Find the number in @PATH@."}]
expected = Template().render(messages, [tool], True)
with open(sys.argv[1] + "/try-prompt.txt") as f:
    found = f.read()
if found != expected:
    sys.exit(f"found {found!r}, expected {expected!r}")
PYTHON
finish
