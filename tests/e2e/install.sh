# SPDX-License-Identifier: MIT
# The installed tree: an example builds out of it with pkg-config alone and runs; a moved copy of the tree finds its
# library, plugins and specs.
. "$(dirname "$0")/harness.sh"
prefix=$tmp/prefix
cmake --install "$BINARY_DIR" --prefix "$prefix" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "cmake --install"; finish; }
for f in bin/perigee include/perigee/perigee.h include/perigee/plugin.h include/perigee/types.h include/perigee/op.def \
    include/perigee/dtype.def include/perigee/grids.def include/perigee/op_check.h "$LIBDIR/pkgconfig/perigee.pc" "$LIBDIR/perigee/0/plugins/cpu.so" share/perigee/arch/llama.lua; do
    n_check=$((n_check + 1))
    [ -e "$prefix/$f" ] || fail "$f is not installed"
done
is "$(find "$prefix/include" -type f | wc -l)" 7

export PKG_CONFIG_PATH=$prefix/$LIBDIR/pkgconfig
flags=$(pkg-config --cflags --libs perigee)
[ -n "${SANITIZE:-}" ] && flags="$flags -fsanitize=$SANITIZE"
mkdir "$tmp/elsewhere"
cp "$SOURCE_DIR/examples/01_generate.c" "$tmp/elsewhere/"
cd "$tmp/elsewhere" || exit 1
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror 01_generate.c -o generate $flags -Wl,-rpath,"$prefix/$LIBDIR" 2>"$tmp/log" ||
    { cat "$tmp/log"; fail "the example does not build"; finish; }
# The public headers compile as C++ as well.
if command -v g++ >/dev/null; then
    printf '#include "perigee/perigee.h"\n#include "perigee/op_check.h"\nint main() { return 0; }\n' >header.cc
    g++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -I"$prefix/include" header.cc 2>"$tmp/log" || { cat "$tmp/log"; fail "C++"; }
fi
./generate 2>"$tmp/err" </dev/null
is $? 2
has "$(cat "$tmp/err")" usage
./generate "$tmp/none.gguf" Hello >"$tmp/out" 2>"$tmp/err" </dev/null
is $? 1
has "$(cat "$tmp/err")" none.gguf
if [ -f "$demo" ]; then
    ./generate "$demo" "Hello" >"$tmp/out" 2>"$tmp/err" </dev/null || fail "the example failed: $(cat "$tmp/err")"
    n_check=$((n_check + 1))
    [ -s "$tmp/out" ] || fail "the example printed nothing"
fi

mv "$prefix" "$tmp/moved folder"
PERIGEE="$tmp/moved folder/bin/perigee"
run devices --json
python3 - "$tmp/out" "$tmp/moved folder" <<'PYTHON' || fail "plugins of the moved tree"
import json, sys
files = {p["name"]: p for p in json.load(open(sys.argv[1]))["plugins"]}
assert files["cpu"]["state"] == "usable" and files["cpu"]["path"].startswith(sys.argv[2]), files
PYTHON
run show --arch llama
has "$out" llama
run help lua on_request
has "$out" on_request
if [ -f "$demo" ]; then
    run run translator "to German: Hello" # an assistant that comes along, on the model that does
    [ -n "$out" ] || fail "the assistant said nothing"
fi
[ -f "$demo" ] || echo "skipped: running the example: examples/demo-model/perigee-demo.gguf is not there"
finish
