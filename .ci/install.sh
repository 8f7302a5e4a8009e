#!/bin/bash
# SPDX-License-Identifier: MIT
# .ci/install.sh KIND... - install the packages of .ci/packages of these kinds (build, test, long, other) that are missing.
# Says nothing and changes nothing when all are there.  Without apt it checks the tools and says what it misses.
set -u
here=$(cd "$(dirname "$0")" && pwd)
kinds=" $* "
missing=()

wanted() {
    while read -r kind package; do
        case $kind in '' | '#'*) continue ;; esac
        [[ $kinds == *" $kind "* ]] && echo "$package"
    done <"$here/packages"
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    for tool in cmake ninja cc pkg-config; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    for library in lua5.4 libhwloc:hwloc libpcre2-8 libutf8proc jansson libcrypto libevent_core; do
        pkg-config --exists "${library#*:}" 2>/dev/null || missing+=("${library%:*}")
    done
    [ ${#missing[@]} -eq 0 ] && exit 0
    echo "This system has no apt-get, so packages cannot be installed here. Missing: ${missing[*]}." >&2
    echo "Install what corresponds to these Debian packages, then try again:" >&2
    wanted | tr '\n' ' ' >&2
    echo >&2
    exit 1
fi

for package in $(wanted); do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Packages are missing, and there is no sudo. As root, run:" >&2
        echo "  apt-get install ${missing[*]}" >&2
        exit 1
    fi
    sudo=(sudo)
fi
echo "Installing packages: ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600)
if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    # A mirror may be out of reach while the lists at hand suffice.
    if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        echo "The packages could not be installed; see above. Try: apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi
