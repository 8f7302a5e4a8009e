#!/bin/bash
# SPDX-License-Identifier: MIT
# .ci/lint.sh [ROOT] - what no compiler checks: names of architectures stay in scripts/arch, no open marks, no addresses of
# package registries, no paths of one machine, banned libc calls, the licence line.  Prints file:line for each.
set -u
cd "${1:-$(dirname "$0")/..}"
bad=0

# report TITLE < matches ("file:line:text")
report() {
    local found
    found=$(cat)
    [ -z "$found" ] && return
    printf '%s\n' "$found" | cut -c1-160 | sed "s|^|$1: |"
    bad=$((bad + $(printf '%s\n' "$found" | wc -l)))
}
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    mapfile -d '' -t all < <(git ls-files -z --cached --others --exclude-standard)
else
    mapfile -d '' -t all < <(find . -name build -prune -o -name .git -prune -o -type f -printf '%P\0')
fi
code=() text=()
for f in "${all[@]}"; do
    [ -f "$f" ] || continue
    case $f in
    *.gguf | *.png | *.xml | .ci/lint.sh) continue ;;
    esac
    text+=("$f")
    case $f in core/*.[ch] | core/*.def | core/*.lua | plugins/*.[ch] | include/*.h | include/*.def | kernels-cl/*) code+=("$f") ;; esac
done

# 1. Architectures are data: their names (the file names of scripts/arch) do not occur as words in the code.
names=$(for f in scripts/arch/*.lua; do basename "$f" .lua; done | paste -sd '|')
[ -n "$names" ] || { echo "lint: no specs in scripts/arch"; exit 1; }
report "architecture name in code" < <(
    grep -nEi "(^|[^a-z0-9_.])($names)([^a-z0-9_-]|$)" "${code[@]}" /dev/null |
        grep -vE '^core/model/(pretok\.def|tok_|tokenizer\.h|unicode)|^core/app/.*perigee show --arch')

# 2. Marks of unfinished work.
report "open mark" < <(grep -nE '\b(TODO|FIXME|XXX|HACK)\b' "${text[@]}" /dev/null | grep -v '^CONTRIBUTING.md:')

# 3. Addresses of package registries and mirrors.
report "registry address" < <(grep -nEi '(https?|git|ftp)://[^ "]*(pypi|pythonhosted|npmjs|crates\.io|rubygems|luarocks|hub\.docker|deb\.debian|archive\.ubuntu|proxy\.golang)' \
    "${text[@]}" /dev/null)

# 4. Paths that exist on one machine only.
report "path of one machine" < <(
    grep -nE '(^|[^A-Za-z0-9_.$}/-])/(home|root|Users|work|mnt)/[A-Za-z0-9_]' "${text[@]}" /dev/null |
        grep -v '^examples/demo-model/generate\.py:')

# 5. libc calls with no place here (compiler.h poisons them in the core; plugins and the program have no poison).
mapfile -t sources < <(printf '%s\n' "${all[@]}" | grep -E '^(core|plugins|examples)/.*\.[ch]$')
report "banned call" < <(
    grep -nE '\b(strcpy|strcat|strncpy|strncat|stpcpy|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|alloca|tmpnam|tempnam|mktemp|system|popen|rand|srand|localtime|gmtime|asctime|ctime)\(' \
        "${sources[@]}" /dev/null | grep -vE '^core/base/compiler.h:|^[^:]*:[0-9]+: *(\*|/\*|//)')

# 6. First line.
report "no licence line" < <(for f in "${text[@]}"; do
    case $f in
    *.c | *.h | *.def | *.clh | *.cl | *.cu | *CMakeLists.txt | *.cmake | *.sh | *.lua | .ci/run | try | check)
        head -n 3 "$f" | grep -q 'SPDX-License-Identifier: MIT' || echo "$f:1:" ;;
    esac
done)

# 7. Environment variables, all told, within the budget of ten.
count=$(grep -ohE '(getenv|environ\.get|environ)[[(] ?"PERIGEE_[A-Z_]+"|\$\{?PERIGEE_[A-Z_]+' "${text[@]}" | grep -oE 'PERIGEE_[A-Z_]+' | sort -u | wc -l)
[ "$count" -le 10 ] || { echo "environment variables: $count, at most 10"; bad=$((bad + 1)); }

echo "lint: ${#text[@]} files, $bad findings"
[ "$bad" -eq 0 ]
