#!/usr/bin/env bash
# The package's life in a real systemd: a fresh Debian is booted, the package is installed as the README says, and has to live
# through what a daemon of its kind lives through. Prints "ok …" or "not ok …: why".
# DESKSPOOL is the binary; MACHINE_ROOT the Debian, made when it is not there. Needs root, systemd-nspawn, mmdebstrap, python3.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/system/machine
posts=$PWD/tests/system/posts.py
scratch=$(mktemp -d)
trap 'machine_off; rm -rf "$scratch"' EXIT

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; }
# shows NAME WANTED GOT: does GOT contain WANTED?
shows() { case $3 in *"$2"*) ok "$1" ;; *) not_ok "$1" "no \"$2\" in: $3" ;; esac; }
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "wanted \"$2\", got \"$3\""; fi; }
# until SECONDS COMMAND…: false when it has not come true by then.
until_() {
    local tries=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.2
    done
}
property() { machine "systemctl show --value -p $1 deskspool"; }
is_active() { [ "$(machine 'systemctl is-active deskspool')" = active ]; }
is_idle() { machine 'deskspool queue' 2>/dev/null | grep -q '^The spool is empty'; }
has_restarted() { is_active && [ "$(property NRestarts)" -gt "$1" ]; }
event() { machine "curl -sS -o /dev/null -w '%{http_code}' -H 'Authorization: chat-secret' -H 'Content-Type: application/json' --max-time 60 \
    -d '{\"event_id\":\"$1\",\"conversation_id\":\"$1\",\"email\":\"ana@example.com\",\"text\":\"$1\"}' http://127.0.0.1:8085/in/chat"; }
tickets() { machine "curl -sS -u sandbox-key:X 'http://127.0.0.1:8090/api/v2/tickets?per_page=100'" | grep -o '"id":[0-9]*,"' | wc -l; }
load() { machine_shares python3 "$posts" post "$scratch/$1" 60 & loader=$!; }
# met NAME FILE: were all of its posts answered, and did each become a ticket or a note, once?
met() {
    wait "$loader"
    local sent faults
    sent=$(python3 -c 'import json,sys; print(len(json.load(open(sys.argv[1]))["sent"]))' "$scratch/$2")
    faults=$(python3 -c 'import json,sys; print(*json.load(open(sys.argv[1]))["faults"][:3])' "$scratch/$2")
    if [ "$sent" -gt 20 ] && [ -z "$faults" ]; then ok "$1: no post refused or cut off"; else not_ok "$1: no post refused or cut off" "$sent sent, $faults"; fi
    until_ 60 is_idle
    is "$1: each event once in Freshdesk" "once $sent never 0 twice 0" "$(machine_shares python3 "$posts" count "$scratch/$2")"
}
# version FILE.deb VERSION: the same package under another version.
version() {
    local tree=$scratch/tree
    rm -rf "$tree"
    dpkg-deb -R "$1" "$tree"
    sed -i "s/^Version: .*/Version: $2/" "$tree/DEBIAN/control"
    echo "# a line of the next version" >>"$tree/etc/deskspool/deskspool.toml"
    dpkg-deb -Zgzip -z1 --root-owner-group -b "$tree" "$machine_room/root/root/next/deskspool_$2.deb" >/dev/null
}
units() { machine 'systemctl is-active deskspool.service deskspool.socket; systemctl is-enabled deskspool.service deskspool.socket' | tr '\n' ' ' | sed 's/ $//'; }
freshdesk() { machine 'systemctl stop "freshdesk-*" 2>/dev/null; systemd-run --quiet --collect --unit=freshdesk-$RANDOM /usr/bin/deskspool sandbox --plan unlimited'; }
apt() { machine "DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --allow-downgrades -o Dpkg::Options::=--force-confold $1" 2>&1; }

package=${PACKAGE:-$(ls -t target/packages/deskspool_*_"$(dpkg --print-architecture)".deb | head -n 1)}
this=$(dpkg-deb -f "$package" Version)
newer=$this.newer
root=${MACHINE_ROOT:-target/system/bookworm.tar}
machine_root "$root" || { not_ok "a Debian to boot" "mmdebstrap failed" && exit 1; }
machine_boot "$root" || { not_ok "a Debian to boot" "see above" && exit 1; }
cp "$package" "$machine_room/root/root/"
mkdir "$machine_room/root/root/next"
version "$package" "$newer"

# --- as the README says ---
# block N: the Nth block of commands of the README's "A first configuration".
block() { awk -v wanted="$1" '/^## A first configuration/ {on = 1} !on {next} /^```/ {n++; next} n == 2 * wanted - 1 {print}' README.md; }
# The one word that the README does not have: which Freshdesk it is.
init() { machine_types "$1 --url http://127.0.0.1:8090" 'API key' sandbox-key 'Which platforms?' generic 'Public URL' https://hooks.acme.com; }
while IFS= read -r line; do
    case $line in
    "apt install"*)
        said=$(machine "$line" 2>&1)
        shows "$line" "Next: deskspool init" "$said"
        is "a fresh installation starts and enables nothing" "inactive inactive disabled disabled" "$(units)"
        is "who may read what" "/etc/deskspool/deskspool.toml 640 root:deskspool /etc/deskspool/secrets 750 root:deskspool /var/lib/deskspool 700 deskspool:deskspool " \
            "$(machine 'stat -c "%n %a %U:%G" /etc/deskspool/deskspool.toml /etc/deskspool/secrets /var/lib/deskspool' | tr '\n' ' ')"
        is "the files are as they were packaged" "" "$(machine 'dpkg --verify deskspool')"
        freshdesk
        ;;
    "deskspool init")
        said=$(init "$line")
        shows "$line" "systemctl enable --now deskspool" "$said"
        is "what it wrote is for root and the daemon" "640 root:deskspool 640 root:deskspool " \
            "$(machine 'stat -c "%a %U:%G" /etc/deskspool/deskspool.toml /etc/deskspool/secrets/generic' | tr '\n' ' ')"
        ;;
    *)
        if said=$(machine "$line" 2>&1); then ok "$line"; else not_ok "$line" "$said"; fi
        ;;
    esac
done < <(block 1)
is "it runs, and will after a boot" "active active enabled enabled" "$(units)"
is "the README's post is answered" '{"ok":true}' "$(machine "$(block 2)" 2>/dev/null)"
until_ 30 is_idle
is "one post, one ticket" "1 Where is my order?" "$(tickets) $(machine "curl -sS -u sandbox-key:X http://127.0.0.1:8090/api/v2/tickets" | grep -o 'Where is my order?' | head -n 1)"
until_ 15 machine 'systemctl status deskspool | grep -q "Status: \"receiving 1"'
shows "systemctl status tells how it stands" 'Status: "receiving 1/h, delivering 1/h; 0 waiting, 0 dead; freshdesk ok' "$(machine 'systemctl status deskspool' 2>&1)"
is "the daemon is nobody" "deskspool" "$(machine 'stat -c %U /proc/$(systemctl show --value -p MainPID deskspool)')"

cat >"$machine_room/root/etc/deskspool/deskspool.toml" <<TOML
[freshdesk]
url = "http://127.0.0.1:8090"
api_key = { file = "/etc/deskspool/secrets/freshdesk_api_key" }
rate_per_minute = 100000
[delivery]
backoff = { first = "1s", max = "2s" }
[spool]
disk_free_min = "1MiB"
[source.chat]
preset = "generic@1"
secret = { file = "/etc/deskspool/secrets/chat" }
TOML
machine 'cd /etc/deskspool/secrets; umask 027; echo chat-secret >chat; chgrp deskspool chat; systemctl reload deskspool' || not_ok "another configuration" "$(machine 'journalctl -u deskspool -o cat -n 9')"

# --- the journal ---
machine "curl -sS -o /dev/null -H 'Authorization: wrong' -d '{}' http://127.0.0.1:8085/in/chat"
shows "journalctl -p warning has the refused request" "event refused" "$(machine 'journalctl -u deskspool -p warning -o cat')"
is "journalctl -p warning leaves out what is well" "" "$(machine 'journalctl -u deskspool -p warning -o cat' | grep -E 'event accepted|attempt delivered')"
shows "what is well has priority info" "event accepted" "$(machine 'journalctl -u deskspool PRIORITY=6 -o cat')"
# fields OUTCOME: of the last entry that journalctl finds by it.
fields() {
    machine "journalctl -u deskspool DESKSPOOL_OUTCOME=$1 -o json -n 1" | python3 -c '
import json, sys
entry = json.loads(sys.stdin.readline() or "{}")
print(*(entry.get(name, "-") for name in ["PRIORITY", "SYSLOG_IDENTIFIER", "DESKSPOOL_SOURCE", "DESKSPOOL_ID", "DESKSPOOL_TICKET"]))'
}
is "journalctl finds a delivery by its fields" "6 deskspool generic 1 1" "$(fields delivered)"
is "and a refused request" "4 deskspool chat - -" "$(fields refused)"

# --- reload ---
machine 'sed -i "s/^rate_per_minute.*/rate_per_minute = 90000/" /etc/deskspool/deskspool.toml'
pid=$(property MainPID)
if said=$(machine 'systemctl reload deskspool' 2>&1); then
    shows "systemctl reload applies a good configuration" "rate_per_minute" "$(machine 'journalctl -u deskspool -o cat' | grep reloaded)"
else
    not_ok "systemctl reload applies a good configuration" "$said"
fi
machine 'cp -p /etc/deskspool/deskspool.toml /root/good.toml; echo "presett = 1" >>/etc/deskspool/deskspool.toml'
if machine 'systemctl reload deskspool' >/dev/null 2>&1; then
    not_ok "systemctl reload fails on a bad configuration" "it did not"
else
    shows "systemctl reload fails on a bad configuration" "not applied; still running" "$(machine 'journalctl -u deskspool -o cat -n 20')"
fi
is "and the old one goes on" "$pid 200" "$(property MainPID) $(event after-bad-reload)"

# --- upgrades that meet a bad configuration ---
said=$(apt "--reinstall ./deskspool_*.deb")
shows "an upgrade that refuses the configuration warns" "deskspool was not restarted" "$said"
is "and leaves the old daemon running" "$pid 200" "$(property MainPID) $(event after-refused-upgrade)"
machine 'cp -p /root/good.toml /etc/deskspool/deskspool.toml; systemctl restart deskspool' || not_ok "restart with the mended configuration" "$(machine 'systemctl status deskspool')"

# --- killed ---
machine 'deskspool pause delivery' >/dev/null
freshdesk
for n in 1 2 3 4 5; do event "before-kills-$n" >/dev/null; done
restarts=$(property NRestarts)
machine 'systemctl kill -s KILL deskspool'
until_ 30 has_restarted "$restarts" && ok "kill -9: systemd starts it again" || not_ok "kill -9: systemd starts it again" "$(machine 'systemctl status deskspool')"

machine 'mkdir -p /run/systemd/system/deskspool.service.d; printf "[Service]\nWatchdogSec=8\n" >/run/systemd/system/deskspool.service.d/watchdog.conf; systemctl daemon-reload; systemctl restart deskspool'
restarts=$(property NRestarts)
machine 'systemctl kill -s STOP deskspool'
until_ 60 has_restarted "$restarts"
shows "a daemon that hangs is killed by the watchdog" "Watchdog timeout (limit 8s)" "$(machine 'journalctl -u deskspool -o cat -n 60')"
has_restarted "$restarts" && ok "and is back" || not_ok "and is back" "$(machine 'systemctl status deskspool')"
machine 'rm /run/systemd/system/deskspool.service.d/watchdog.conf; systemctl daemon-reload; systemctl restart deskspool'

# The kernel's own OOM killer, in a memory group of this host: inside the machine a unit's MemoryMax= has no effect.
oom=/sys/fs/cgroup/memory/deskspool-test-$$
main=$(property MainPID)
for pid in $(pgrep -x deskspool); do
    [ "$(readlink "/proc/$pid/ns/pid")" = "$(readlink "/proc/$machine_leader/ns/pid")" ] &&
        [ "$(awk '/^NSpid/ {print $NF}' "/proc/$pid/status")" = "$main" ] && victim=$pid
done
if mkdir "$oom" 2>/dev/null && echo 1M >"$oom/memory.limit_in_bytes" && echo "$victim" >"$oom/cgroup.procs"; then
    restarts=$(property NRestarts)
    head -c 8000000 /dev/zero | tr '\0' x >"$machine_room/root/root/large"
    machine "curl -sS -o /dev/null --max-time 20 -H 'Authorization: chat-secret' --data-binary @large http://127.0.0.1:8085/in/chat" >/dev/null 2>&1
    until_ 30 has_restarted "$restarts"
    killed=$(awk '/^oom_kill / {print $2}' "$oom/memory.oom_control")
    if [ "${killed:-0}" -ge 1 ] && has_restarted "$restarts"; then ok "killed for memory by the kernel, it is back"; else
        not_ok "killed for memory by the kernel, it is back" "oom_kill ${killed:-?}, $(machine 'systemctl status deskspool')"
    fi
    rmdir "$oom" 2>/dev/null
else
    not_ok "killed for memory by the kernel, it is back" "no memory group can be made on this host"
fi
machine 'deskspool resume delivery' >/dev/null
until_ 60 is_idle
is "nothing was lost or doubled by three kills" 5 "$(tickets)"

# --- the socket ---
load restarts
for _ in 1 2 3 4 5; do
    sleep 0.5
    machine 'systemctl restart deskspool' || not_ok "restart under load" "$(machine 'systemctl status deskspool')"
done
kill "$loader"
met "five restarts under load" restarts
machine 'systemctl stop deskspool' 2>/dev/null
is "a stopped daemon is started by the next request" "200 active" "$(event wakes) $(machine 'systemctl is-active deskspool')"

# --- credentials ---
machine 'cd /etc/deskspool; chown root:root secrets/*; chmod 600 secrets/*; sed -i "s#{ file = \"/etc/deskspool/secrets/#{ credential = \"#" deskspool.toml
    mkdir -p /etc/systemd/system/deskspool.service.d
    printf "[Service]\nLoadCredential=freshdesk_api_key:/etc/deskspool/secrets/freshdesk_api_key\nLoadCredential=chat:/etc/deskspool/secrets/chat\n" >/etc/systemd/system/deskspool.service.d/credentials.conf
    systemctl daemon-reload; systemctl restart deskspool'
is "LoadCredential=: secrets that only root can read" "200" "$(event credential)"
machine 'cd /etc/deskspool/secrets; systemd-creds encrypt --name=chat chat chat.cred 2>/dev/null && rm chat
    sed -i "s#LoadCredential=chat:.*#LoadCredentialEncrypted=chat:/etc/deskspool/secrets/chat.cred#" /etc/systemd/system/deskspool.service.d/credentials.conf
    systemctl daemon-reload; systemctl restart deskspool'
is "LoadCredentialEncrypted=" "200 once" "$(event encrypted) $(until_ 30 is_idle && echo once)"

# --- upgrade and downgrade ---
load upgrade
sleep 1
pid=$(property MainPID)
said=$(apt "./next/deskspool_$newer.deb")
kill "$loader"
is "an upgrade is the new version, restarted" "$newer active yes" \
    "$(machine 'dpkg-query -W -f \${Version} deskspool; echo " $(systemctl is-active deskspool)"') $([ "$(property MainPID)" = "$pid" ] || echo yes)"
met "an upgrade under load" upgrade
shows "an upgrade keeps the configuration" 'credential = "chat"' "$(machine 'cat /etc/deskspool/deskspool.toml')"
is "and what was changed in the new one lies beside it" "# a line of the next version" "$(machine 'tail -n 1 /etc/deskspool/deskspool.toml.dpkg-dist')"
machine 'deskspool pause delivery' >/dev/null
event waits >/dev/null
apt ./deskspool_*.deb >/dev/null
is "a downgrade on the same format keeps what waits" "$this 1" "$(machine 'dpkg-query -W -f \${Version} deskspool; echo " $(deskspool status --json | grep -o "\"queued\":[0-9]*" | cut -d: -f2)"')"
machine 'deskspool resume delivery; systemctl stop deskspool.socket deskspool.service' >/dev/null 2>&1

# format NUMBER: the newest segment of the journal says from now on that it is of that format; prints what it said.
format() {
    python3 - "$machine_room/root/var/lib/deskspool/journal" "$1" <<'PY'
import os, struct, sys, zlib
newest = os.path.join(sys.argv[1], max(name for name in os.listdir(sys.argv[1]) if name.endswith(".seg")))
with open(newest, "r+b") as file:
    head = bytearray(file.read(64))
    print(struct.unpack("<I", head[8:12])[0])
    head[8:12] = struct.pack("<I", int(sys.argv[2]))
    head[12:16] = struct.pack("<I", zlib.crc32(bytes(head[:12] + head[16:])))
    file.seek(0)
    file.write(head)
PY
}
format=$(format 999)
before=$(machine 'cd /var/lib/deskspool/journal && sha256sum *')
machine 'timeout 20 systemctl start --no-block deskspool.service; sleep 2; systemctl stop deskspool.socket deskspool.service' >/dev/null 2>&1
shows "a downgrade below the format of the spool is refused" "was written by a newer deskspool" "$(machine 'journalctl -u deskspool -o cat -n 20')"
is "and changes nothing" "$before" "$(machine 'cd /var/lib/deskspool/journal && sha256sum *')"
format "$format" >/dev/null
machine 'systemctl reset-failed deskspool.socket deskspool.service; systemctl start deskspool'
until_ 30 is_idle
is "with the right version it goes on where it was" 200 "$(event after-downgrade)"

# --- boot ---
# A service that comes up like sshd, a start of ours that takes long, and no network but a loopback.
cat >"$machine_room/root/etc/systemd/system/other.service" <<'UNIT'
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
UNIT
machine 'systemctl enable -q other; printf "[Service]\nExecStartPre=/bin/sleep 5\n" >/etc/systemd/system/deskspool.service.d/slow.conf'
machine_down
machine_again other.service || not_ok "a boot" "see above"
is "a slow start holds up no other service" "active activating" "$(machine 'systemctl is-active other deskspool' | tr '\n' ' ' | sed 's/ $//')"
until_ 30 is_active
is "it starts at boot, with no network" "active running" "$(machine 'systemctl is-active deskspool; systemctl is-system-running --wait' | tr '\n' ' ' | sed 's/ $//')"
is "and takes events in while nobody outside can be reached" 200 "$(event offline)"
is "it waits for neither network nor time" "" "$(property After | tr ' ' '\n' | grep -E 'network-online|time-s')"
machine 'rm /etc/systemd/system/deskspool.service.d/slow.conf; systemctl daemon-reload; echo "presett = 1" >>/etc/deskspool/deskspool.toml; journalctl --rotate -q; journalctl --vacuum-time=1s -q' >/dev/null 2>&1
machine_down
machine_again other.service || not_ok "a boot with a bad configuration" "see above"
shows "a boot with a bad configuration goes on, and the journal has the line" "presett" "$(until_ 20 machine 'journalctl -b -u deskspool | grep -q presett'; machine 'journalctl -b -u deskspool -o cat')"
machine 'cp -p /root/good.toml /etc/deskspool/deskspool.toml; rm -r /etc/systemd/system/deskspool.service.d; rm /etc/deskspool/secrets/*
    cd /etc/deskspool/secrets; umask 027; echo sandbox-key >freshdesk_api_key; echo chat-secret >chat; chgrp deskspool *
    systemctl daemon-reload; systemctl reset-failed; systemctl start deskspool'
until_ 30 is_active && ok "mended, it starts" || not_ok "mended, it starts" "$(machine 'systemctl status deskspool')"

# --- removed ---
said=$(machine 'DEBIAN_FRONTEND=noninteractive apt-get -qq remove -y deskspool' 2>&1)
is "a removal stops it and closes its address" "inactive 000" "$(machine 'systemctl is-active deskspool.socket') $(event gone 2>/dev/null)"
is "and keeps events, configuration and secrets" "chat freshdesk_api_key 1" "$(machine 'ls /etc/deskspool/secrets; ls -d /var/lib/deskspool/journal | wc -l' | tr '\n' ' ' | sed 's/ $//')"
apt "./next/deskspool_$newer.deb" >/dev/null
machine 'systemctl start deskspool'
shows "installed again, it knows what it knew" "1  delivered  generic" "$(machine 'deskspool show 1')"
said=$(machine 'DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y deskspool' 2>&1)
is "a purge removes it" "" "$(machine 'find / -xdev -name "*deskspool*" -not -path "/proc/*" -not -path "/root/*" -not -path "/tmp/*"')"
