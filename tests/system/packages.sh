#!/usr/bin/env bash
# What packaging/build made: lintian's and rpm's opinion, what is inside, and the tarball and the .rpm installed, used and
# removed in a real systemd. Prints "ok …" or "not ok …: why".
# DESKSPOOL is the binary; MACHINE_ROOT the Debian to boot. Needs root, lintian, piuparts, rpm, openssl, systemd-nspawn, mmdebstrap, python3.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/system/machine
scratch=$(mktemp -d)
trap 'machine_off; rm -rf "$scratch"' EXIT

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; }
shows() { case $3 in *"$2"*) ok "$1" ;; *) not_ok "$1" "no \"$2\" in: $3" ;; esac; }
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "wanted \"$2\", got \"$3\""; fi; }

deb=$(ls -t target/packages/deskspool_*_"$(dpkg --print-architecture)".deb | head -n 1)
rpm=$(ls -t target/packages/deskspool-*."$(uname -m)".rpm | head -n 1)
tarball=$(ls -t target/packages/deskspool-*-"$(uname -m)"-linux.tar.gz | head -n 1)

# --- on paper ---
if said=$(lintian --allow-root --fail-on error,warning "$deb" 2>&1); then ok "lintian has neither errors nor warnings"; else
    not_ok "lintian has neither errors nor warnings" "$said"
fi
wanted="etc/deskspool/deskspool.toml usr/bin/deskspool usr/lib/systemd/system/deskspool.service usr/lib/systemd/system/deskspool.socket
usr/lib/sysusers.d/deskspool.conf usr/lib/tmpfiles.d/deskspool.conf usr/share/bash-completion/completions/deskspool
usr/share/fish/vendor_completions.d/deskspool.fish usr/share/man/man5/deskspool.toml.5.gz usr/share/man/man8/deskspool.8.gz"
for name in Caddyfile LICENSE.gz THIRD-PARTY.gz alerts.yml cloudflared.yml deskspool.cdx.json deskspool.toml nginx.conf tailscale.md; do
    wanted="$wanted usr/share/doc/deskspool/$name"
done
# lacks LIST WANTED…: what is not in it.
lacks() {
    local name list=$1
    shift
    for name; do grep -qxF "$name" <<<"$list" || echo "$name"; done
}
# shellcheck disable=SC2086
is "the .deb has all its files" "" "$(lacks "$(dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's#^\./##')" $wanted \
    usr/share/zsh/vendor-completions/_deskspool usr/share/doc/deskspool/copyright usr/share/doc/deskspool/changelog.Debian.gz)"
# shellcheck disable=SC2086
is "the .rpm has all its files" "" "$(lacks "$(rpm -qlp "$rpm" 2>/dev/null | sed 's#^/##')" $wanted usr/share/zsh/site-functions/_deskspool)"
shows "the .rpm's digests are right" "digests OK" "$(rpm -K "$rpm")"
is "the .rpm's configuration is kept and for the group alone" "/etc/deskspool/deskspool.toml 100640 deskspool" \
    "$(rpm -qp --qf '[%{FILENAMES} %{FILEMODES:octal} %{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]' "$rpm" 2>/dev/null | sed -n 's/ cn$//p')"
is "both ask for no newer C library than 2.28" "libc6 (>= 2.28) glibc >= 2.28" \
    "$(dpkg-deb -f "$deb" Depends | grep -o 'libc6 ([^)]*)') $(rpm -qp --requires "$rpm" 2>/dev/null | grep '^glibc')"
# A text for each is what packaging/licences insists on; here, that it left nobody out.
gzip -dc target/packaging/root/usr/share/doc/deskspool/THIRD-PARTY.gz >"$scratch/third-party"
crates=$(cargo tree --locked --edges normal,no-proc-macro --prefix none --no-dedupe --target "$(rustc -vV | sed -n 's/^host: //p')" 2>/dev/null |
    awk 'NR > 1 {print $1 " " substr($2, 2)}' | sort -u)
is "the licences of all crates are in it" "" \
    "$([ -n "$crates" ] || echo "cargo tree says nothing"; while read -r crate; do grep -qF "  $crate: " "$scratch/third-party" || echo "$crate"; done <<<"$crates")"

# --- in a real systemd ---
root=${MACHINE_ROOT:-target/system/bookworm.tar}
machine_root "$root" || { not_ok "a Debian to install in" "see above" && exit 1; }
gzip -1 -c "$root" >"$scratch/root.tgz"
if said=$(piuparts --no-upgrade-test --no-eatmydata --keep-sources-list -b "$scratch/root.tgz" -d bookworm "$deb" 2>&1); then
    ok "piuparts: installed and purged, the .deb leaves nothing and touches nothing else"
else
    not_ok "piuparts: installed and purged, the .deb leaves nothing and touches nothing else" "$(grep -E 'ERROR|FAIL' -A 3 <<<"$said" | head -n 30)"
fi
rm "$scratch/root.tgz"
machine_boot "$root" || { not_ok "a Debian to boot" "see above" && exit 1; }
configure() {
    cat >"$machine_room/root/etc/deskspool/deskspool.toml" <<TOML
[freshdesk]
url = "http://127.0.0.1:8090"
api_key = "sandbox-key"
[spool]
disk_free_min = "1MiB"
[source.chat]
preset = "generic@1"
secret = "chat-secret"
TOML
}
# one_ticket NAME: started, one post is one ticket.
one_ticket() {
    machine 'systemd-run --quiet --collect --unit=freshdesk-$RANDOM $(command -v deskspool) sandbox; systemctl enable -q --now deskspool'
    local code tries=0 tickets=0
    code=$(machine "curl -sS -o /dev/null -w '%{http_code}' -H 'Authorization: chat-secret' -d '{\"text\":\"hola\",\"email\":\"ana@example.com\"}' http://127.0.0.1:8085/in/chat")
    until [ "$tickets" != 0 ] || [ "$tries" -gt 100 ]; do
        tries=$((tries + 1))
        sleep 0.2
        tickets=$(machine "curl -s -u sandbox-key:X http://127.0.0.1:8090/api/v2/tickets" | grep -c '"id"')
    done
    is "$1: one post, one ticket" "200 1" "$code $tickets"
    machine 'systemctl stop "freshdesk-*"'
}
left() { machine 'find / -xdev -name "*deskspool*" -not -path "/proc/*" -not -path "/root/*" -not -path "/tmp/*" -not -path "/var/lib/rpm/*"'; }

# The example before it, with a certificate of our own: what platforms reach, and what they do not.
nginx() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hooks.acme.com -addext subjectAltName=DNS:hooks.acme.com \
        -keyout "$machine_room/root/etc/ssl/hooks.acme.com.key" -out "$machine_room/root/etc/ssl/hooks.acme.com.pem" 2>/dev/null
    machine 'cp /usr/local/share/doc/deskspool/nginx.conf /etc/nginx/conf.d/deskspool.conf; systemctl unmask nginx 2>/dev/null; systemctl start nginx'
    local ask='curl -sS --cacert /etc/ssl/hooks.acme.com.pem --resolve hooks.acme.com:443:127.0.0.1 -o /dev/null -w "%{http_code} "'
    is "nginx, as in the example: events pass, the rest does not" "200 404 404 " \
        "$(machine "$ask -H 'Authorization: chat-secret' -d '{\"text\":\"hola\"}' https://hooks.acme.com/in/chat; $ask https://hooks.acme.com/; $ask https://hooks.acme.com/metrics" 2>&1)"
    machine 'systemctl stop nginx; rm /etc/nginx/conf.d/deskspool.conf'
}
# The same for Caddy, which makes its certificate itself: here by its own authority, as there is no network.
caddy() {
    shows "Caddy's example is valid" "Valid configuration" "$(machine 'caddy validate --adapter caddyfile --config /usr/local/share/doc/deskspool/Caddyfile' 2>&1)"
    machine 'printf "{\n\tlocal_certs\n\tskip_install_trust\n\tadmin off\n}\n" | cat - /usr/local/share/doc/deskspool/Caddyfile >/root/Caddyfile
        systemd-run --quiet --collect --unit=caddy-tried --setenv=HOME=/root caddy run --adapter caddyfile --config /root/Caddyfile'
    local ask='curl -sS --insecure --resolve hooks.acme.com:443:127.0.0.1 -o /dev/null -w "%{http_code} "' tries=0
    until [ "$(machine "$ask https://hooks.acme.com/" 2>/dev/null)" = "404 " ] || [ "$tries" -gt 50 ]; do
        tries=$((tries + 1))
        sleep 0.2
    done
    is "Caddy, as in the example: events pass, the rest does not" "200 404 404 " \
        "$(machine "$ask -H 'Authorization: chat-secret' -d '{\"text\":\"hola\"}' https://hooks.acme.com/in/chat; $ask https://hooks.acme.com/; $ask https://hooks.acme.com/metrics" 2>&1)"
    machine 'systemctl stop caddy-tried; rm /root/Caddyfile'
}

name=${tarball##*/} name=${name%.tar.gz}
tar -C "$machine_room/root/root" -xzf "$tarball"
shows "the tarball installs" "Next: deskspool init" "$(machine "./$name/install.sh" 2>&1)"
configure
one_ticket "the tarball"
nginx
caddy
shows "installed again over itself, it restarts and keeps the configuration" "upgraded and restarted sandbox-key" \
    "$(machine "./$name/install.sh" 2>&1 | tail -n 1) $(machine 'grep -o sandbox-key /etc/deskspool/deskspool.toml')"
shows "uninstalled, it keeps the data" "kept: /etc/deskspool, /var/lib/deskspool" "$(machine "./$name/uninstall.sh" 2>&1)"
machine "./$name/uninstall.sh --purge" >/dev/null 2>&1
is "and with --purge nothing" "" "$(left)"

# rpm of Debian: what is shown is the package and its scripts, not a system of the Red Hat family.
cp "$rpm" "$machine_room/root/root/deskspool.rpm"
said=$(machine 'rpm -i --nodeps deskspool.rpm' 2>&1)
shows "the .rpm installs, by rpm on Debian" "Next: deskspool init" "$said"
is "the .rpm: who may read what" "/etc/deskspool/deskspool.toml 640 root:deskspool /etc/deskspool/secrets 750 root:deskspool " \
    "$(machine 'stat -c "%n %a %U:%G" /etc/deskspool/deskspool.toml /etc/deskspool/secrets' | tr '\n' ' ')"
configure
one_ticket "the .rpm"
machine 'rpm -e deskspool' >/dev/null 2>&1
is "the .rpm removed: stopped, and the data is kept" "inactive /etc/deskspool/deskspool.toml.rpmsave /var/lib/deskspool/journal" \
    "$(machine 'systemctl is-active deskspool.socket; ls -d /etc/deskspool/deskspool.toml.rpmsave /var/lib/deskspool/journal' 2>&1 | tr '\n' ' ' | sed 's/ $//')"
