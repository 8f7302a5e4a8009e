# SPDX-License-Identifier: MIT
# What ./try does after building: the assistant of examples/try.lua finds a random number in a file by calling a tool.
. "$(dirname "$0")/harness.sh"
need_demo
export XDG_CONFIG_HOME=$tmp/config
cd "$SOURCE_DIR" || exit 1
# The model miscopies a name or a number about once in a hundred times, and a folder that it miscopies in every question
# (one of 260 here): each number has a folder of its own, as in ./try.
right=0 folders=() known=
trap 'rm -rf "$tmp" "${folders[@]}"' EXIT
for i in 1 2 3; do
    folder=$(mktemp -d)
    folders+=("$folder")
    number=$((RANDOM % 9000 + 1000))
    file=$folder/notes_$((RANDOM % 900 + 100)).txt
    echo "The number is $number." >"$file"
    run run examples/try.lua --allow fs.read=. --allow "fs.read=$folder" -v "Find the number in $file."
    has "$err" "plugin cpu"
    case $err in *"read_file {\"path\":\"$file\"} -> The number is $number."*)
        case $out in *"$number"*) right=$((right + 1)) known=$file ;; esac ;;
    esac
done
[ "$right" -ge 2 ] || fail "of three numbers in files $right were found, expected 2"
run run examples/try.lua --allow fs.read=. "What is 127 * 46?"
has "$out" 5842
run run examples/try.lua --allow fs.read=. "What time is it?"
has "$out" ":"
run run examples/try.lua --trace --allow fs.read=. --allow "fs.read=${known%/*}" "Find the number in $known."
for part in "--- prompt" "read_file(path: string)" "--- token ids" "--- call read_file" "--- result of read_file"; do has "$err" "$part"; done
finish
