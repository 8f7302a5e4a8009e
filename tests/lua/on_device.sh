# SPDX-License-Identifier: MIT
# on_device.sh DEVICE PERIGEE SPEC: a spec's models on a device of that plugin; 77 = there is none.
set -u
export PERIGEE_DEVICE=$1
"$2" devices --json 2>/dev/null | grep -q "\"plugin\": \"$1\"" || { echo "skipped: no device $1"; exit 77; }
exec "$2" test --allow fs.read=tests "$3"
