#!/usr/bin/env bash
# The power is cut while platforms post: the real binary on a real ext4 whose block writes are written down; then 220 disks as a
# cut can leave them are mounted and the binary is started on each. power_cut.py says how. Needs root for loop devices and
# FUSE; without them it fails and says so. The same is then done with syncs that lie, and must find something.
# The binary is $DESKSPOOL, or the debug build. SEED=n repeats the choice of moments. Prints "ok …" or "not ok …: why".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
deskspool=${DESKSPOOL:-$PWD/target/debug/deskspool}
states=${STATES:-220}
lies=12
patience=220
lacks=
for command in python3 qemu-storage-daemon losetup mkfs.ext4 strace; do command -v "$command" >/dev/null || lacks="$lacks $command"; done
[ -z "$lacks" ] || { echo "not ok power cuts: not installed:$lacks" && exit 1; }
[ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && losetup -f >/dev/null 2>&1 ||
    { echo "not ok power cuts: this needs root, a free loop device and /dev/fuse" && exit 1; }

# In memory where there is room: what is tested is the order of writes, not this machine's disk.
shared=/dev/shm
[ "$(df --output=avail -k "$shared" 2>/dev/null | tail -n 1)" -gt 1500000 ] 2>/dev/null || shared=${TMPDIR:-/tmp}
room=$(mktemp -d -p "$shared")
clean_up() {
    # A cut in the middle of our own work leaves what is mounted.
    for device in $(losetup -nl -O NAME,BACK-FILE | awk -v room="$room/" 'index($2, room) { print $1 }'); do
        umount -l "$device" 2>/dev/null
        losetup -d "$device" 2>/dev/null
    done
    rm -rf --one-file-system "$room"
}
trap clean_up EXIT

# cut NAME OPTIONS…: says how it went; the code is 0 when no state is bad, 1 when one is.
cut() {
    local name=$1
    shift
    timeout -k 10 "$patience" python3 tests/system/power_cut.py "$deskspool" "$room/$name" ${SEED:+--seed "$SEED"} "$@" >"$room/$name.out" 2>&1
}

cut honest --states "$states"
code=$?
told=$(grep -E '^(seed|[0-9]+ of)' "$room/honest.out" | tr '\n' ' ')
if [ "$code" = 0 ]; then echo "ok the power was cut at $states moments, and nothing that had its 200 is lost: ${told% }"; else
    echo "not ok a power cut loses nothing: exit $code, $(tr '\n' ' ' <"$room/honest.out" | tail -c 3000)"
fi
rm -rf "$room/honest"

patience=60
cut liar --states "$lies" --liar
code=$?
bad=$(sed -nE 's/^([0-9]+) of [0-9]+ states are bad$/\1/p' "$room/liar.out")
if [ "$code" = 1 ] && [ "${bad:-0}" -gt 0 ]; then echo "ok syncs that lie are found out: $bad of $lies states are bad"; else
    echo "not ok syncs that lie are found out: exit $code, $(tr '\n' ' ' <"$room/liar.out" | tail -c 3000)"
fi
