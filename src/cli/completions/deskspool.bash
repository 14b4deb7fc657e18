# bash completion for deskspool; bash-completion finds it as /usr/share/bash-completion/completions/deskspool
_deskspool() {
    local IFS=$'\n' word
    COMPREPLY=()
    for word in $(deskspool complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); do
        COMPREPLY+=("${word%%$'\t'*}")
    done
}
complete -o default -F _deskspool deskspool
