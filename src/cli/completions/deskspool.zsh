#compdef deskspool
# zsh completion for deskspool; zsh finds it as /usr/share/zsh/vendor-completions/_deskspool
_deskspool() {
    local -a described
    local line
    for line in ${(f)"$(deskspool complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
        described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( $#described )); then
        _describe 'deskspool' described
    else
        _files
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _deskspool "$@"
else
    compdef _deskspool deskspool
fi
