package complete

import (
	"fmt"
	"strings"
)

// Shells are those that Script knows.
var Shells = []string{"bash", "zsh", "fish"}

// Script gives what a shell has to read to complete the command lines of programs. Where
// a program offers nothing, shells offer the names of files.
func Script(shell string, programs ...string) (string, error) {
	switch shell {
	case "bash":
		return strings.NewReplacer("%PROGRAMS%", strings.Join(programs, " "), "%WORD%", Word).Replace(bash), nil
	case "zsh":
		return strings.NewReplacer("%PROGRAMS%", strings.Join(programs, " "), "%WORD%", Word).Replace(zsh), nil
	case "fish":
		text := strings.ReplaceAll(fish, "%WORD%", Word)
		for _, p := range programs {
			text += fmt.Sprintf("complete -c %s -a '(__keelson_complete)'\n", p)
		}
		return text, nil
	}
	return "", fmt.Errorf("%q: want %s", shell, strings.Join(Shells, ", "))
}

// Bash parts words at = : and @ too, unless COMP_WORDBREAKS says otherwise, and replaces
// only what follows the last of them; so the line is parted anew, and what bash keeps is
// taken off the candidates.
const bash = `_keelson() {
    local line=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[^@=:]/} words cur keep candidates
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[${#words[@]}-1]}
    [[ $breaks ]] && keep=${cur%"${cur##*[$breaks]}"}
    mapfile -t candidates < <("${words[0]}" %WORD% "${words[@]:1}" 2>/dev/null | cut -f1)
    COMPREPLY=("${candidates[@]#"$keep"}")
}
complete -o default -F _keelson %PROGRAMS%
`

const zsh = `#compdef %PROGRAMS%
_keelson() {
    local -a lines words_only docs
    lines=("${(@f)$("${words[1]}" %WORD% "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    lines=("${(@)lines:#}")
    if (( ! $#lines )); then
        _files
        return
    fi
    words_only=("${(@)lines%%$'\t'*}")
    docs=("${(@)lines//$'\t'/  -- }")
    compadd -l -d docs -a words_only
}
if [[ $funcstack[1] == _keelson ]]; then
    _keelson "$@" # loaded by its first use
else
    compdef _keelson %PROGRAMS%
fi
`

const fish = `function __keelson_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] %WORD% $words[2..-1] 2>/dev/null
end
`
