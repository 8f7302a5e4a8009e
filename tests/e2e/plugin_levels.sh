# SPDX-License-Identifier: MIT
# perigee plugin-check of the cpu plugin on its fast instruction sets; the others: plugin_check.sh.
. "$(dirname "$0")/harness.sh"
. "$(dirname "$0")/kit.bash"
check_levels avx2vnni avx512 avx512vnni avx512bf16 avx512amx
[ "$n_check" -gt 0 ] || { echo "skipped: this processor has none of them"; exit 77; }
finish
