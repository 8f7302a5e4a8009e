# SPDX-License-Identifier: MIT
# examples/plugin-template by its own README: from an installed tree alone it builds with make and pkg-config, passes
# plugin-check with all of level 0, and runs the bundled model to the same text as the cpu plugin's reference.
. "$(dirname "$0")/harness.sh"
command -v make >/dev/null || { echo "skipped: make is not there"; exit 77; }
prefix=$tmp/prefix
cmake --install "$BINARY_DIR" --prefix "$prefix" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "cmake --install"; finish; }
cp -r "$SOURCE_DIR/examples/plugin-template" "$tmp/mine"
cd "$tmp/mine" || exit 1
rm -f template.so
# pkg-config knows the prefix from where it found the file.
PKG_CONFIG_PATH=$prefix/$LIBDIR/pkgconfig make CC="${CC:-cc}" CFLAGS="-O2 -Werror" \
    FLAGS="-std=c11 -Wall -Wextra -fPIC -fvisibility=hidden -ffp-contract=off $(PKG_CONFIG_PATH=$prefix/$LIBDIR/pkgconfig pkg-config --define-prefix --cflags perigee)" \
    >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "the template does not build"; finish; }
is "$(nm -D --defined-only template.so | awk '$2 == "T" { print $3 }')" perigee_plugin_v0
is "$(readelf -d template.so | grep -c perigee)" 0
PERIGEE=$prefix/bin/perigee
run plugin-check ./template.so
has "$out" "level 0: 15 of 15 operations"
has "$out" "plugin name template"
if [ -f "$demo" ]; then
    run run "$demo" --raw -n 12 --temp 0 --set cpu.isa=reference --device cpu "Hello"
    expected=$out
    run run "$demo" --raw -n 12 --temp 0 --plugin "$tmp/mine/template.so" --device template "Hello"
    is "$out" "$expected"
    n_check=$((n_check + 1))
    [ -n "$out" ] || fail "the model said nothing"
else
    echo "skipped: running the bundled model: it is not there"
fi
finish
