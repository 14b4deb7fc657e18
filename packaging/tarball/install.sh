#!/bin/sh
# Installs deskspool below /usr/local, or the newer version over it, on a Linux with systemd that has neither dpkg nor rpm.
# What is already in /etc/deskspool stays; a new deskspool.toml is put beside it as deskspool.toml.new.
set -eu
here=$(cd "$(dirname "$0")" && pwd)/root

fail() {
    echo "install.sh: $1" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "must be root"
[ -d /run/systemd/system ] || fail "this host was not started by systemd; see \"Without systemd\" in the README"
[ ! -e /usr/bin/deskspool ] || fail "/usr/bin/deskspool is there, from a package; remove that first"
"$here/usr/bin/deskspool" --version >/dev/null 2>&1 || fail "this binary does not run here: $("$here/usr/bin/deskspool" --version 2>&1 | head -n 1)"

# put MODE FILE PATH: in one step, so that a running daemon keeps the file it has.
put() {
    mkdir -p "${3%/*}"
    install -m "$1" "$here$2" "$3.installing"
    mv -f "$3.installing" "$3"
}

if ! getent passwd deskspool >/dev/null; then
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers "$here/usr/lib/sysusers.d/deskspool.conf"
    else
        useradd --system --user-group --home-dir /var/lib/deskspool --no-create-home --shell /usr/sbin/nologin deskspool
    fi
fi
put 755 /usr/bin/deskspool /usr/local/bin/deskspool
for unit in deskspool.service deskspool.socket; do
    put 644 "/usr/lib/systemd/system/$unit" "/etc/systemd/system/$unit"
    sed -i 's#/usr/bin/deskspool#/usr/local/bin/deskspool#' "/etc/systemd/system/$unit"
done
(cd "$here/usr/share" && find . -type f) | while read -r file; do
    to=${file#./}
    case $to in zsh/vendor-completions/*) to=zsh/site-functions/${to##*/} ;; esac
    put 644 "/usr/share/${file#./}" "/usr/local/share/$to"
done

put 644 /usr/lib/tmpfiles.d/deskspool.conf /usr/local/lib/tmpfiles.d/deskspool.conf
systemd-tmpfiles --create deskspool.conf
config=/etc/deskspool/deskspool.toml
if [ ! -e "$config" ]; then
    install -m 0640 -g deskspool "$here$config" "$config"
elif ! cmp -s "$here$config" "$config"; then
    install -m 0640 -g deskspool "$here$config" "$config.new"
fi

systemctl daemon-reload
if systemctl --quiet is-active deskspool.service; then
    if deskspool check --offline --quiet; then
        systemctl restart deskspool.service
        echo "deskspool was upgraded and restarted"
    else
        echo "deskspool was not restarted, the old version goes on: this one refuses the configuration." >&2
        echo "Mend it, then: deskspool check; systemctl restart deskspool" >&2
    fi
else
    echo "deskspool is installed, not started. Next: deskspool init; systemctl enable --now deskspool"
fi
