"""Completion for a shell: sub-commands, sweeps, flags, and the values that flags take.

    eval "$(ssense completion bash)"        # in ~/.bashrc
    eval "$(ssense completion zsh)"         # in ~/.zshrc, behind compinit
    ssense completion fish | source         # in ~/.config/fish/config.fish

What is printed asks `ssense --complete` at every tab, so that it never grows old. A file of your
own answers for its flags if it ends in `run_command`, as sweeps do; others are not started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ssense.cli.command import run_command

BASH = r"""
_ssense() {
    local line word purpose cur=${COMP_WORDS[COMP_CWORD]} glue= words=()
    # Bash splits words at "=" and ":" too.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ${#words[@]} -gt 0 && ( $glue || $word == [=:]* ) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        [[ $word == *[=:] ]] && glue=1 || glue=
    done
    [[ $cur == [=:]* ]] && cur=
    COMPREPLY=()
    while IFS= read -r line; do
        word=${line%%$'\t'*} purpose=${line#*$'\t'}
        if [[ $word ]]; then
            printf -v word %q "$word"
            COMPREPLY+=("$word")
        else
            compopt -o filenames -o default
            while IFS= read -r word; do
                COMPREPLY+=("$word")
            done < <(
                compgen -f -X "!$purpose" -- "$cur"
                [[ $purpose == '*' ]] || compgen -d -- "$cur"
            )
        fi
    done < <("$1" --complete "${words[@]}" 2>/dev/null)
}
complete -o nosort -F _ssense ssense
"""
ZSH = r"""
_ssense() {
    local line word purpose
    local -a found
    [[ $PREFIX == --*=* ]] && compset -P '*='
    for line in ${(f)"$($words[1] --complete "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
        word=${line%%$'\t'*} purpose=${line#*$'\t'}
        if [[ -n $word ]]; then
            found+=("${word//:/\\:}${purpose:+:$purpose}")
        else
            _files -g "$purpose"
        fi
    done
    _describe -V ssense found
}
compdef _ssense ssense
"""
FISH = r"""
function __ssense
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l start (string match -r '^--[^=]+=' -- $current)
    for line in ($words[1] --complete $words[2..] "$current" 2>/dev/null)
        if string match -q \t'*' -- $line
            for path in (__fish_complete_path (string replace -- "$start" '' $current))
                echo -- "$start$path"
            end
        else
            echo -- "$start$line"
        end
    end
end
complete -c ssense -f -k -a '(__ssense)'
"""


@dataclass(frozen=True)
class CompletionOptions:
    """The shell to print completion for."""

    shell: Literal["bash", "zsh", "fish"]
    """Shell that reads what is printed: bash, zsh or fish."""


def main(options: CompletionOptions) -> None:
    """Print the completion of a shell."""
    print({"bash": BASH, "zsh": ZSH, "fish": FISH}[options.shell].strip())


if __name__ == "__main__":
    run_command(CompletionOptions, main)
