# SPDX-License-Identifier: MIT
# What a newcomer does wrong, and what is said of it: tests/cases/mistakes/*.case (README.md there).
. "$(dirname "$0")/harness.sh"
need_demo
mkdir "$tmp/cases"
# Case N becomes the folder N: its files, and run, says or warns beside it as N.PART.
awk -v to="$tmp/cases" '
FNR == 1 { out = "" }
/^== / { n++; out = ""; print substr($0, 4) > (to "/" n ".name"); system("mkdir " to "/" n); next }
/^-- / && n {
    part = substr($0, 4)
    out = part ~ /^(run|says|warns)$/ ? to "/" n "." part : to "/" n "/" part
    folder = out; sub(/\/[^\/]*$/, "", folder); system("mkdir -p " folder)
    next
}
out != "" { print > out }' "$SOURCE_DIR"/tests/cases/mistakes/*.case
n_case=$(ls -d "$tmp"/cases/*/ | wc -l)
[ "$n_case" -ge 40 ] || fail "found $n_case cases, expected 40 and more"
for folder in "$tmp"/cases/*/; do
    folder=${folder%/}
    name=$(cat "$folder.name")
    cd "$folder" || exit 1
    ln -s "$demo" model.gguf
    status=1 expected=$folder.says
    [ -f "$folder.warns" ] && status=0 expected=$folder.warns
    [ -f "$folder.run" ] && [ -f "$expected" ] || { fail "$name: found no run, or neither says nor warns"; continue; }
    read -r line <"$folder.run"
    # shellcheck disable=SC2086
    run $status $line
    n_line=0
    while IFS= read -r text; do
        [ -z "$text" ] && continue
        n_line=$((n_line + 1))
        case $err in *"$text"*) n_check=$((n_check + 1)) ;; *) fail "$name: found '$err', expected in it '$text'" ;; esac
    done <"$expected"
    [ "$n_line" -gt 0 ] || fail "$name: expects nothing"
done
finish
