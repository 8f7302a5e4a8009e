# SPDX-License-Identifier: MIT
# The guide of examples/plugin-template, followed to the letter: the commands of its section 1, as they stand there, in a
# copy of what they name, with nothing of the tree's headers or libraries in reach but the installed ones.
. "$(dirname "$0")/harness.sh"
command -v make >/dev/null || { echo "skipped: make is not there"; exit 77; }
need_demo
guide=$SOURCE_DIR/examples/plugin-template/README.md
n_check=$((n_check + 1))
[ "$(wc -l <"$SOURCE_DIR/examples/plugin-template/plugin.c")" -le 200 ] || fail "plugin.c has more than 200 lines"
mkdir -p "$tmp/tree/examples/demo-model"
cp -r "$SOURCE_DIR/examples/plugin-template" "$tmp/tree/examples/"
rm -f "$tmp/tree/examples/plugin-template/template.so"
cp "$demo" "$tmp/tree/examples/demo-model/"

# Lines of section 1 that are indented are commands; BUILD, PREFIX and its lib are what the text says they stand for.
sed -n '/^## 1/,/^## 2/s/^    //p' "$guide" >"$tmp/commands"
has "$(cat "$tmp/commands")" "make"
is "$(wc -l <"$tmp/commands")" 9
sed "s#PREFIX/lib/#PREFIX/$LIBDIR/#; s#PREFIX#$tmp/prefix#g; s#BUILD#$BINARY_DIR#" "$tmp/commands" |
    sed 's/^\(perigee [^ ]*\).*/echo "== \1"; &; printf "\\nexit %s\\n" $?/' >"$tmp/steps"
(cd "$tmp/tree" && export CC="${CC:-cc}" CFLAGS="-O2 -Werror" && . "$tmp/steps") >"$tmp/said" 2>"$tmp/complaints" </dev/null
said=$(cat "$tmp/said")
complaints=$(cat "$tmp/complaints")
has "$said" "plugin name template"
has "$said" "level 0: 12 of 15 operations"
has "$said" "passed

exit 0"
is "$(grep -c '^exit 0$' "$tmp/said")" 3
is "$complaints" ""

cd "$tmp/tree/mine" || exit 1
is "$(nm -D --defined-only template.so | awk '$2 == "T" { print $3 }')" perigee_plugin_v0
is "$(readelf -d template.so | grep -c perigee)" 0

# The text is the one that the cpu plugin's reference gives.
run run "$demo" --raw -n 12 --temp 0 --set cpu.isa=reference --device cpu "Hello"
n_check=$((n_check + 1))
[ -n "$out" ] || fail "the model said nothing"
has "$said" "$out
exit 0"
finish
