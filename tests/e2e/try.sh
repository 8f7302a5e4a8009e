# SPDX-License-Identifier: MIT
# What ./try does after building: the assistant of examples/try.lua finds a random number in a file by calling a tool.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config
cd "$tmp" || exit 1
mkdir files # by short names: a folder's random letters are what the model miscopies, each time
example=$SOURCE_DIR/examples/try.lua
right=0 # the model miscopies a name or a number about once in a hundred times
for i in 1 2 3; do
    number=$((RANDOM % 9000 + 1000))
    file=files/notes_$((RANDOM % 900 + 100)).txt
    echo "The number is $number." >"$file"
    run run "$example" --allow fs.read=. -v "Find the number in $file."
    has "$err" "plugin cpu"
    case $err in *"read_file {\"path\":\"$file\"} -> The number is $number."*)
        case $out in *"$number"*) right=$((right + 1)) ;; esac ;;
    esac
done
[ "$right" -ge 2 ] || fail "of three numbers in files $right were found, expected 2"
run run "$example" --allow fs.read=. "What is 127 * 46?"
has "$out" 5842
run run "$example" --allow fs.read=. "What time is it?"
has "$out" ":"
run run "$example" --trace --allow fs.read=. "Find the number in $file."
for part in "--- prompt" "read_file(path: string)" "--- token ids" "--- call read_file" "--- result of read_file"; do has "$err" "$part"; done
finish
