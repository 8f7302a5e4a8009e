# SPDX-License-Identifier: MIT
# Same bytes at the level of scripts and across processes, on the bundled model: see same.lua.
. "$(dirname "$0")/harness.sh"
need_demo
mkdir "$tmp/saved" && ln -s "$demo" "$tmp/model.gguf"
cd "$tmp" || exit 1
for step in first second; do
    { printf 'local STEP, DIR, N, CHAINS = "%s", "saved", 40, nil\n' "$step"
      cat "$SOURCE_DIR/tests/e2e/same.lua"; } >"$step.lua"
    run run "$step.lua" --allow fs.read=saved --allow fs.write=saved
    cp "$tmp/out" "$step.txt"
done
is "$(wc -l <first.txt)" 9
is "$(cat second.txt)" "$(cat first.txt)"
finish
