# fish completion for deskspool; fish finds it as /usr/share/fish/vendor_completions.d/deskspool.fish
function __deskspool_complete
    set -l found (deskspool complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c deskspool -f -a '(__deskspool_complete)'
