#!/bin/sh
# Removes what install.sh installed. Events, history, configuration and secrets stay; with --purge they go, too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)/root
[ "$(id -u)" = 0 ] || { echo "uninstall.sh: must be root" >&2 && exit 1; }
case ${1:-} in "" | --purge) ;; *) echo "uninstall.sh [--purge]" >&2 && exit 2 ;; esac

systemctl disable --now deskspool.socket deskspool.service 2>/dev/null || :
rm -f /etc/systemd/system/deskspool.service /etc/systemd/system/deskspool.socket /usr/local/bin/deskspool \
    /usr/local/lib/tmpfiles.d/deskspool.conf
(cd "$here/usr/share" && find . -type f) | while read -r file; do
    to=${file#./}
    case $to in zsh/vendor-completions/*) to=zsh/site-functions/${to##*/} ;; esac
    rm -f "/usr/local/share/$to"
done
rmdir /usr/local/share/doc/deskspool 2>/dev/null || :
systemctl daemon-reload
if [ "${1:-}" = --purge ]; then
    rm -rf /etc/deskspool /var/lib/deskspool
else
    echo "kept: /etc/deskspool, /var/lib/deskspool and the user deskspool"
fi
