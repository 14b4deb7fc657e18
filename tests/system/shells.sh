#!/usr/bin/env bash
# Completions in the shells they are for, asked as the shells ask; manual pages as their readers want them.
# DESKSPOOL is the binary. Needs bash, zsh, fish, python3, mandoc and groff.
set -u
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
ln -s "$DESKSPOOL" "$scratch/bin/deskspool"
export PATH=$scratch/bin:$PATH HOME=$scratch
export DESKSPOOL_CONFIG=$scratch/deskspool.toml DESKSPOOL_SOCKET=$scratch/none.sock
printf '[source.sendpulse]\npreset = "sendpulse@1"\n' >"$DESKSPOOL_CONFIG"
cd "$scratch" && touch "a file"

# shows NAME WANTED GOT: are they the same, line by line?
shows() {
    if [ "$2" = "$3" ]; then
        echo "ok $1"
    else
        echo "not ok $1: wanted $(tr '\n' ' ' <<<"$2"), got $(tr '\n' ' ' <<<"$3")"
    fi
}

# What each shell would offer for the line, sorted, without descriptions.
in_bash() {
    bash --norc -c '
        source <(deskspool completions bash) || exit 1
        read -ra COMP_WORDS <<<"$1"
        [[ $1 == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _deskspool 2>/dev/null
        printf "%s\n" "${COMPREPLY[@]}"' bash "$1" | sort
}
in_fish() {
    fish --no-config -c 'deskspool completions fish | source; complete -C $argv[1]' "$1" | cut -f 1 | sort
}
# zsh completes on a terminal only: it gets one, a line and a tab, and writes down what the line has become.
in_zsh() {
    python3 - "$1" <<'END'
import os, pty, select, sys, time
child, terminal = pty.fork()
if child == 0:
    os.execvp("zsh", ["zsh", "-f", "-i"])
seen = b""
def until(word):
    global seen
    deadline = time.monotonic() + 30
    while word not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
    found, seen = word in seen, seen.split(word, 1)[-1]
    return found
setup = "autoload -Uz compinit; compinit -u -D; source <(deskspool completions zsh); " \
    "dump() { print; print -r -- \"<<$BUFFER>>\" }; zle -N dump; bindkey '^X' dump; print set''up\n"
os.write(terminal, setup.encode())
assert until(b"setup"), seen
os.write(terminal, sys.argv[1].encode() + b"\t\x18")
assert until(b"<<"), seen
rest = seen
until(b">>")
print(rest.split(b">>", 1)[0].decode().strip() if b">>" in rest else seen.decode())
os.close(terminal)
END
}

for shell in bash fish; do
    shows "$shell finishes verbs" $'release\nreload' "$(in_$shell 'deskspool rel')"
    shows "$shell finishes values of options" $'dead,held' "$(in_$shell 'deskspool queue --state dead,h')"
    shows "$shell finishes options" $'--match' "$(in_$shell 'deskspool queue --ma')"
    shows "$shell finishes sources of the configuration" 'sendpulse' "$(in_$shell 'deskspool capture s')"
done
shows "zsh finishes verbs" 'deskspool reload' "$(in_zsh 'deskspool relo')"
shows "zsh finishes values of options" 'deskspool queue --state dead,held' "$(in_zsh 'deskspool queue --state dead,h')"
shows "zsh finishes sources of the configuration" 'deskspool capture sendpulse' "$(in_zsh 'deskspool capture s')"
shows "fish finishes files where there is nothing else" 'a file' "$(in_fish 'deskspool check a' | sed 's/\\//')"

for page in deskspool.8 deskspool.toml.5; do
    deskspool man "$page" >"$scratch/$page"
    if said=$(mandoc -T lint "$scratch/$page" 2>&1); then
        echo "ok mandoc has nothing against $page"
    else
        echo "not ok mandoc has nothing against $page: $(head -n 3 <<<"$said")"
    fi
    said=$(groff -man -ww -K utf8 -T utf8 -P -cbou "$scratch/$page" 2>&1 >"$scratch/shown")
    shows "groff has nothing against $page" '' "$said"
    grep -q 'SEE ALSO' "$scratch/shown" && echo "ok $page is whole" || echo "not ok $page is whole: it ends early"
done
