package scenarios

import (
	"fmt"
	"strings"

	"github.com/keelson/keelson/scenarios/chaos"
	"github.com/keelson/keelson/scenarios/script"
)

const intro = `# Scenarios

A scenario is a console transcript with disasters between. It is a text file: lines beginning with # are comments, a line beginning with
a statement of the table asks for something, and a line beginning with $ is a command line, followed by what it printed. The commands are
the real ones, run in-process against the simulated cluster; time is virtual.

    # The leader loses power right after it acknowledged a write.
    cluster 3 seed=1

    $ etcdctl set /message Hello
    Hello

    power off leader
    until leader
    $ etcdctl get /message
    Hello

Run one with ` + "`keelson sim run FILE`" + `, all of the repository's with ` + "`go test ./scenarios`" + `. After a change,
` + "`go test ./scenarios -rewrite`" + ` refreshes the expected outputs; review the difference.

## Command lines

` + "`$ etcdctl …`" + ` knows all machines; ` + "`n2$ etcdctl …`" + ` talks to n2 only. Commands are etcdctl, fleetctl, locksmithctl, some
verbs of keelson, and ` + "`curl [-i] [-X METHOD] [-d FORM] PATH|URL`" + `. A command on a machine finds the data directory of that machine as
NAME.etcd (on its disk); other files are shared by all. ` + "`$last`" + ` stands for the last line that the last command printed. Lines of standard error are shown after those of standard output and begin with "! "; a status
other than 0 is shown last as "[exit 4]". ` + "`{1..20}`" + ` in a word stands for so many words, as in a shell. ` + "`$ COMMAND &NAME`" + ` runs beside the scenario; ` + "`read NAME`" + ` shows what it printed since
the last read. A line of output that would read as a statement is written with "| " before it.

Machines are n1, n2, …, those that machine statements make, leader, follower (the first running machine that does not lead), or all.

`

// Reference is the reference page of the language, made from its tables.
func Reference() string {
	var b strings.Builder
	b.WriteString(intro)
	b.WriteString("## Statements\n\n| statement | what it does |\n|---|---|\n")
	for _, v := range script.Verbs() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", cell(v.Usage), cell(v.Doc))
	}
	b.WriteString("\n## Conditions\n\n| condition | holds when |\n|---|---|\n")
	for _, c := range script.Conditions() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", cell(c.Usage), cell(c.Doc))
	}
	fmt.Fprintf(&b, "\n## Workloads\n\n%s\n\n## Families of faults\n\n%s\n", list(chaos.WorkloadNames()), list(chaos.FamilyNames()))
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func list(names []string) string {
	for i, n := range names {
		names[i] = "`" + n + "`"
	}
	return strings.Join(names, ", ") + "."
}
