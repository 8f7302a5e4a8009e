# SPDX-License-Identifier: MIT
# The lints find what they are for: each is run on a small tree with one violation.
. "$(dirname "$0")/harness.sh"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
ci=$SOURCE_DIR/.ci

# tree: a fresh tree without violations in $tmp/t
tree() {
    rm -rf "$tmp/t"
    mkdir -p "$tmp/t"/{core/base,core/model,plugins/x,include/perigee,tests,examples,scripts/arch}
    for h in types perigee plugin op_check; do echo '/* SPDX-License-Identifier: MIT */' >"$tmp/t/include/perigee/$h.h"; done
    printf '%s\n' 'typedef struct peri_plugin {' '    int (*a)(void), (*b)(void), (*c)(void);' '    int (*d)(void);' '} peri_plugin;' \
        >>"$tmp/t/include/perigee/plugin.h"
    echo 'return {}' | sed '1i -- SPDX-License-Identifier: MIT' >"$tmp/t/scripts/arch/zebra9.lua"
    echo '# SPDX-License-Identifier: MIT' >"$tmp/t/CMakeLists.txt"
    { echo '/* SPDX-License-Identifier: MIT'; for i in 1 2 3 4; do echo " * head line $i"; done; echo ' */'; echo 'int peri_a;'; } >"$tmp/t/core/base/a.h"
    { echo '/* SPDX-License-Identifier: MIT */'; echo '#include "base/a.h"'; echo 'int peri_b(void) {'; echo '    return peri_a;'; echo '}'; } >"$tmp/t/core/model/b.c"
}
# caught LINT FRAGMENT: the lint fails on the tree and names FRAGMENT
caught() {
    local said
    said=$("$ci/$1" "$tmp/t" 2>&1) && fail "$1 found nothing: $2"
    has "$said" "$2"
}
passes() {
    local said
    n_check=$((n_check + 1))
    said=$("$ci/$1" "$tmp/t" 2>&1) || fail "$1 fails a good tree: $said"
}

tree
passes lint.sh
passes layers.sh
passes shape.py
echo '/* for Zebra9 models */' >>"$tmp/t/core/model/b.c"
caught lint.sh "architecture name in code: core/model/b.c:6"
tree
mark=TO
echo "int x; /* ${mark}DO later */" >>"$tmp/t/core/model/b.c"
caught lint.sh "open mark: core/model/b.c:6"
tree
echo 'int c(const char *s) { return atoi(s); }' >>"$tmp/t/core/model/b.c"
caught lint.sh "banned call"
tree
slash=/
echo "static const char *p = \"${slash}home/somebody/x\";" >>"$tmp/t/core/model/b.c"
caught lint.sh "path of one machine"
tree
echo "https:${slash}${slash}pypi.org/simple" >"$tmp/t/examples/x.txt"
caught lint.sh "registry address"
tree
sed -i 1d "$tmp/t/core/model/b.c"
caught lint.sh "no licence line: core/model/b.c"

tree
echo '#include "model/b.h"' >>"$tmp/t/core/base/a.h"
touch "$tmp/t/core/model/b.h"
caught layers.sh "core/base may not include model/b.h"
tree
echo '#include <lua.h>' >>"$tmp/t/core/base/a.h"
caught layers.sh "core/base may not include <lua.h>"
tree
echo '#include "../../core/base/a.h"' >"$tmp/t/plugins/x/x.c"
caught layers.sh "a plugin includes"
tree
echo '#include "model/b.c"' >"$tmp/t/tests/t.c"
caught layers.sh "includes the source file"
tree
echo '#include "perigee/plugin.h"' >>"$tmp/t/core/model/b.c"
caught layers.sh "core/model may not include perigee/plugin.h"
tree
echo '#include "perigee/op_check.h"' >>"$tmp/t/core/model/b.c"
caught layers.sh "core/model may not include perigee/op_check.h"

tree
{ echo 'int peri_long(int a, int b, int c, int d, int e, int f, int g, int h) {'; for _ in $(seq 101); do echo '    a++;'; done; echo '    return a;'; echo '}'; } >>"$tmp/t/core/model/b.c"
caught shape.py "peri_long: function 104"
caught shape.py "peri_long: parameters 8"
tree
echo 'void peri_deep(int a) { if (a) { if (a) { if (a) { if (a) { if (a) { a++; } } } } } }' >>"$tmp/t/core/model/b.c"
caught shape.py "peri_deep: nesting 5"
tree
for _ in $(seq 1000); do echo 'int peri_c;'; done >>"$tmp/t/core/model/b.c"
caught shape.py "lines 1006, at most 1000"
sed -i '1s|.*|/* SPDX-License-Identifier: MIT\n * Budget: lines - a list that belongs together */|' "$tmp/t/core/model/b.c"
passes shape.py
tree
for _ in $(seq 81); do echo '-- line'; done >>"$tmp/t/scripts/arch/zebra9.lua"
caught shape.py "zebra9.lua:1: 83 lines, at most 80"
# ---- cubins: a kernel with an array indexed at run time has a stack, and accesses to it ----
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
if [ -n "$nvcc" ]; then
    mkdir -p "$tmp/cubins"
    echo 'extern "C" __global__ void planted(float *x, int k) {
        float v[64];
        for (int i = 0; i < 64; i++) v[i * k & 63] = x[i];
        x[0] = v[k & 63];
    }' >"$tmp/planted.cu"
    "$nvcc" -cubin -arch=sm_80 -o "$tmp/cubins/planted.sm_80.cubin" "$tmp/planted.cu" || fail "nvcc"
    said=$("$ci/cuda_lint.py" "$tmp/cubins") && fail "cuda_lint.py found nothing"
    has "$said" "sm_80: planted: a stack frame of 256 bytes, expected none"
    has "$said" "accesses to local memory (STL), expected none"
    has "$said" "sm_80: planted: not in the table"
    has "$said" "sm_80: peri_add: in the table only"
    cp "$tmp/cubins/planted.sm_80.cubin" "$tmp/cubins/planted.compute_80.sm_80.cubin"
    said=$("$ci/cuda_lint.py" "$tmp/cubins" 2>&1) && fail "cuda_lint.py takes a kernel that is there twice"
    has "$said" "planted is in another cubin for 80, too"
else
    echo "not looked at: cuda_lint.py, there is no nvcc"
fi
said=$("$ci/cuda_lint.py" "$tmp/nothing" 2>&1) && fail "cuda_lint.py passes a folder without cubins"
has "$said" "no cubins in $tmp/nothing"

finish
