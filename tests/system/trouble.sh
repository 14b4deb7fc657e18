#!/usr/bin/env bash
# README's "When something is wrong", typed as it stands: its commands, then its table row by row, what breaks it and what an
# admin types; each has to say what the table says. DESKSPOOL is the binary. Needs python3, curl; as root it has the network
# to itself, else the ports of the README must be free. Prints "ok …" or "not ok …: why".
set -u
cd "$(dirname "$0")/../.." || exit 1
# As the README has it, unless another binary is meant.
export BUILT=${DESKSPOOL%/deskspool}
if [ "$(id -u)" = 0 ] && unshare -n ip link set lo up 2>/dev/null; then
    exec unshare -n sh -c 'ip link set lo up && exec python3 tests/system/trouble.py'
fi
exec python3 tests/system/trouble.py
