package scenarios

import "strings"

// journal keeps the lines that the daemons of a world wrote for operators. It is the
// sink of the world's log, which takes a whole line at a time: the time, the machine,
// the level, and what is said.
type journal struct {
	lines map[string][]string // by machine
}

// Write takes one line.
func (j *journal) Write(line []byte) (int, error) {
	if words := strings.Fields(string(line)); len(words) > 2 {
		if j.lines == nil {
			j.lines = map[string][]string{}
		}
		name := words[1]
		j.lines[name] = append(j.lines[name], strings.Join(words[3:], " "))
	}
	return len(line), nil
}

// has reports whether a machine said what contains a text.
func (j *journal) has(machine, text string) bool {
	for _, line := range j.lines[machine] {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}
