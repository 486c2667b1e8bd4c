package script

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The statements. Machines are given as written: n1, n2, …, the names of machine
// statements, leader, follower (the first machine that follows a leader), or all.
type (
	// Cluster makes the machines and starts them.
	Cluster struct {
		Machines int
		Seed     uint64
		Options  map[string]string
	}
	// Machine makes a machine and starts its daemon with a command line.
	Machine struct {
		Name    string
		Address string // "" is the next free one
		Start
	}
	// Restart ends the daemon in an orderly way, if it runs, and starts it again.
	Restart struct {
		Who string
		// As says that Start replaces what the daemon was started with before.
		As bool
		Start
	}
	// Start is how a daemon is started: NAME=value and flags.
	Start struct{ Environ, Flags []string }
	// Focus says whose cluster the conditions speak of.
	Focus struct{ Who string }
	// Zone changes the domain name system.
	Zone struct {
		What    string   // srv, a, slow, fails, works
		Name    string   // of the record
		Records []string // HOST:PORT of srv, addresses of a
		Slow    time.Duration
	}
	// Command runs a command line, on any machine (At empty) or as a client of
	// one. Background names a command that goes on beside the scenario.
	Command struct {
		At         string
		Args       []string
		Background string
	}
	// Read shows what a command in the background printed since the last time.
	Read struct{ Name string }
	// Power cuts or restores the power of machines.
	Power struct {
		On  bool
		Who []string
	}
	// Kill ends the daemon at once; what it wrote stays with the kernel.
	Kill struct{ Who []string }
	// Begin starts the daemon again.
	Begin struct{ Who []string }
	// Stop ends the daemon in an orderly way.
	Stop struct{ Who []string }
	// Pause stops the daemon from running, as SIGSTOP does; Resume lets it go on.
	Pause struct{ Who []string }
	// Resume lets a paused daemon go on.
	Resume struct{ Who []string }
	// Partition cuts all links between the groups.
	Partition struct{ Groups [][]string }
	// Cut stops what one machine sends to another, one way.
	Cut struct{ From, To string }
	// Heal ends all trouble of the network.
	Heal struct{}
	// Advance lets time pass.
	Advance struct{ For time.Duration }
	// Clock changes a machine's clocks.
	Clock struct {
		Who   string
		Jump  time.Duration // of the wall clock
		Drift int           // parts per million, of both clocks
	}
	// Memory changes a value in the memory of a machine.
	Memory struct{ Who, Key string }
	// Disk troubles a machine's disk.
	Disk struct {
		Who   string
		What  string // stall, slow, full, room, sync-error, rot, wipe
		Value time.Duration
	}
	// Condition is something that can be asked of the cluster.
	Condition struct {
		What  string // the form's name, see Conditions
		Who   string
		Key   string
		Value string
		Max   int
	}
	// Until lets time pass until the condition holds.
	Until struct {
		Condition
		Within time.Duration
	}
	// Expect asks that the condition holds now.
	Expect struct{ Condition }
	// Always asks that the condition holds after every turn from here on.
	Always struct{ Condition }
	// Workload starts clients that check what they see.
	Workload struct {
		Name    string
		Clients int
		For     time.Duration
	}
	// Fault strikes again and again, at times drawn from the seed.
	Fault struct {
		Family string
		For    time.Duration
	}
)

// Verb is one statement of the language. The table Verbs is where it is
// defined, checked and documented.
type Verb struct {
	Name  string
	Usage string
	Doc   string
	parse func(args []string) (any, error)
}

// UntilDefault is how long "until" waits in virtual time unless told otherwise.
const UntilDefault = 60 * time.Second

// Verbs is the table of all statements but the command line, in the order of the
// reference page.
func Verbs() []Verb {
	return append([]Verb{
		{"cluster", "cluster N [seed=S] [option=value …]", "Make N machines, n1 to nN, start them as the founders of a cluster and wait for a leader. It must be the first statement. With 0 there are only those of machine statements. Options: snapshot-entries=N, read-default=local|linearizable, units=on (machines run units and have metadata: az=a, b or c, disk=ssd or hdd, region=us-east or us-west, in turn), ttl=DURATION (of machines that run units).", parseCluster},
		{"machine", "machine NAME [address=A] [VARIABLE=value …] [FLAG …]", "Make a machine and start keelson serve on it with that environment and those flags. Unless they say otherwise its name is NAME and its URLs are http://NAME:2380 and http://NAME:2379. The first machine of a world without founders is the one of focus. Where machines run units, --machine-id-file=NAME.machine-id gives it the ID of another machine.", parseMachine},
		{"restart", "restart MACHINE [VARIABLE=value …] [FLAG …]", "Stop the daemon in an orderly way, if it runs, and start it, with another environment and other flags if there are any.", parseRestart},
		{"focus", "focus MACHINE", "Conditions and commands without a machine speak of this machine's cluster from here on. At first it is that of n1.", parseFocus},
		{"dns", "dns srv NAME HOST:PORT… | a HOST ADDRESS… | slow DURATION | fails | works", "Set records of the domain name system (none removes them), make it slow, or have every question fail. Names of machines are always known.", parseZone},
		{"power", "power off|on MACHINE…|all", "Cut the power (what was not synced is lost, in any subset) or restore it and start the daemon.", parsePower},
		{"kill", "kill MACHINE…|all", "Kill the daemon; what it wrote stays with the kernel.", who(func(w []string) any { return &Kill{w} })},
		{"start", "start MACHINE…|all", "Start a daemon that was killed or stopped.", who(func(w []string) any { return &Begin{w} })},
		{"stop", "stop MACHINE…|all", "Stop the daemon in an orderly way: a leader hands over first.", who(func(w []string) any { return &Stop{w} })},
		{"pause", "pause MACHINE…|all", "Stop the daemon from running, as SIGSTOP does. The world goes on.", who(func(w []string) any { return &Pause{w} })},
		{"resume", "resume MACHINE…|all", "Let a paused daemon go on.", who(func(w []string) any { return &Resume{w} })},
		{"partition", "partition MACHINE… | MACHINE… [| …]", "Cut every link between the groups, until heal.", parsePartition},
		{"cut", "cut MACHINE -> MACHINE", "Lose what the first sends to the second, until heal.", parseCut},
		{"heal", "heal", "End all trouble of the network.", none(func() any { return &Heal{} })},
		{"advance", "advance DURATION", "Let virtual time pass.", parseAdvance},
		{"clock", "clock MACHINE jump DURATION | clock MACHINE drift PPM", "Move a machine's wall clock, or make its clocks run fast (slow, if negative) by parts per million.", parseClock},
		{"memory", "memory MACHINE flip KEY", "Change a bit of a key's value in the memory of a machine, behind its back.", parseMemory},
		{"disk", "disk MACHINE stall|slow DURATION | disk MACHINE full|room|sync-error|rot|wipe", "Trouble a machine's disk: every write waits once (stall) or always (slow), no space or space again, one sync that fails, a synced record that reads as garbage, or a new empty disk.", parseDisk},
		{"until", "until CONDITION [within DURATION]", "Let time pass until the condition holds; the scenario fails if it does not within 60 s of virtual time, or the duration given.", parseUntil},
		{"expect", "expect CONDITION", "Fail unless the condition holds now.", parseExpect},
		{"always", "always CONDITION", "Fail if the condition does not hold after any turn from here on.", parseAlways},
		{"workload", "workload NAME [clients=N] [for=DURATION]", "Start clients of a kind beside the scenario; their histories are checked at its end.", parseWorkload},
		{"fault", "fault FAMILY [for=DURATION]", "Let trouble of a family strike at times drawn from the seed.", parseFault},
		{"read", "read NAME", "Show what the command in the background named NAME printed since the last read.", parseRead},
	}, unitVerbs()...)
}

// ConditionForm is one way to write a condition.
type ConditionForm struct {
	Name  string
	Usage string
	Doc   string
	parse func(args []string) (Condition, bool)
}

// Conditions is the table of all conditions.
func Conditions() []ConditionForm {
	word := func(name, w string) func([]string) (Condition, bool) {
		return func(a []string) (Condition, bool) {
			return Condition{What: name}, strings.Join(a, " ") == w
		}
	}
	return append([]ConditionForm{
		{"leader", "leader", "Some machine that is up leads a majority.", word("leader", "leader")},
		{"no-leader", "no leader", "No machine that is up leads.", word("no-leader", "no leader")},
		{"leads", "MACHINE leads", "That machine leads.", func(a []string) (Condition, bool) {
			return cond(len(a) == 2 && isMachine(a[0]) && a[1] == "leads", func() Condition { return Condition{What: "leads", Who: a[0]} })
		}},
		{"up", "MACHINE up", "The daemon of that machine runs.", func(a []string) (Condition, bool) {
			return cond(len(a) == 2 && isMachine(a[0]) && a[1] == "up", func() Condition { return Condition{What: "up", Who: a[0]} })
		}},
		{"down", "MACHINE down", "The daemon of that machine does not run.", func(a []string) (Condition, bool) {
			return cond(len(a) == 2 && isMachine(a[0]) && a[1] == "down", func() Condition { return Condition{What: "down", Who: a[0]} })
		}},
		{"converged", "converged", "All daemons that run hold the same store.", word("converged", "converged")},
		{"caught-up", "MACHINE caught up", "That machine has applied all that the leader has; a proxy has copied it.", func(a []string) (Condition, bool) {
			return cond(len(a) == 3 && isMachine(a[0]) && a[1] == "caught" && a[2] == "up", func() Condition { return Condition{What: "caught-up", Who: a[0]} })
		}},
		{"key", "key KEY = VALUE", "The leader's store holds the value at the key.", func(a []string) (Condition, bool) {
			return cond(len(a) >= 4 && a[0] == "key" && a[2] == "=", func() Condition {
				return Condition{What: "key", Key: a[1], Value: strings.Join(a[3:], " ")}
			})
		}},
		{"no-key", "no key KEY", "The leader's store holds nothing at the key.", func(a []string) (Condition, bool) {
			return cond(len(a) == 3 && a[0] == "no" && a[1] == "key", func() Condition { return Condition{What: "no-key", Key: a[2]} })
		}},
		{"holders", "holders reboot-lock <= N", "The reboot lock has at most N holders, on every machine.", func(a []string) (Condition, bool) {
			return cond(len(a) == 4 && a[0] == "holders" && a[1] == "reboot-lock" && a[2] == "<=" && isNumber(a[3]), func() Condition {
				n, _ := strconv.Atoi(a[3])
				return Condition{What: "holders", Max: n}
			})
		}},
		{"holds", "NAME holds reboot-lock", "The reboot lock is held under that name.", func(a []string) (Condition, bool) {
			return cond(len(a) == 3 && a[1] == "holds" && a[2] == "reboot-lock", func() Condition { return Condition{What: "holds", Who: a[0]} })
		}},
		{"is", "MACHINE is member|learner|proxy|waiting", "The daemon of that machine is a voter of its cluster, a member without a vote, a proxy, or has not found its cluster yet.", func(a []string) (Condition, bool) {
			return cond(len(a) == 3 && isMachine(a[0]) && a[1] == "is" && slices.Contains(Roles, a[2]), func() Condition {
				return Condition{What: "is", Who: a[0], Value: a[2]}
			})
		}},
		{"refuses", "MACHINE refuses TEXT", "The daemon of that machine has ended by itself, with an error that contains the text.", func(a []string) (Condition, bool) {
			return cond(len(a) >= 3 && isMachine(a[0]) && a[1] == "refuses", func() Condition {
				return Condition{What: "refuses", Who: a[0], Value: strings.Trim(strings.Join(a[2:], " "), `"`)}
			})
		}},
		{"says", "MACHINE says TEXT", "The daemon of that machine has logged a line for operators (its message, then NAME=VALUE of each) that contains the text, at any time so far.", func(a []string) (Condition, bool) {
			return cond(len(a) >= 3 && isMachine(a[0]) && a[1] == "says", func() Condition {
				return Condition{What: "says", Who: a[0], Value: strings.Trim(strings.Join(a[2:], " "), `"`)}
			})
		}},
		{"members", "members N", "The cluster has N voters, as the leader knows it.", func(a []string) (Condition, bool) {
			return cond(len(a) == 2 && a[0] == "members" && isNumber(a[1]), func() Condition {
				n, _ := strconv.Atoi(a[1])
				return Condition{What: "members", Max: n}
			})
		}},
		{"workload-done", "workload done", "Every client that was started has finished.", word("workload-done", "workload done")},
	}, unitConditions()...)
}

// Roles are what a daemon can be.
var Roles = []string{"member", "learner", "proxy", "waiting"}

func cond(ok bool, make func() Condition) (Condition, bool) {
	if !ok {
		return Condition{}, false
	}
	return make(), true
}

func verb(name string) (Verb, bool) {
	for _, v := range Verbs() {
		if v.Name == name {
			return v, true
		}
	}
	return Verb{}, false
}

func names() []string {
	list := []string{"$"}
	for _, v := range Verbs() {
		list = append(list, v.Name)
	}
	return list
}

func usage(name string) string {
	v, _ := verb(name)
	return v.Usage
}

// MachinesMax bounds a scenario's cluster.
const MachinesMax = 9

// Machines lists the machines that a statement names, as written.
func Machines(do any) []string {
	switch d := do.(type) {
	case *Command:
		if d.At != "" {
			return []string{d.At}
		}
	case *Power:
		return d.Who
	case *Kill:
		return d.Who
	case *Begin:
		return d.Who
	case *Stop:
		return d.Who
	case *Pause:
		return d.Who
	case *Resume:
		return d.Who
	case *Partition:
		return slices.Concat(d.Groups...)
	case *Cut:
		return []string{d.From, d.To}
	case *Restart:
		return []string{d.Who}
	case *Focus:
		return []string{d.Who}
	case *Clock:
		return []string{d.Who}
	case *Disk:
		return []string{d.Who}
	case *Manager:
		return []string{d.Who}
	case *Reboot:
		return d.Who
	case *Crash:
		return []string{d.Who}
	case *Until:
		return d.machines()
	case *Expect:
		return d.machines()
	case *Always:
		return d.machines()
	}
	return nil
}

// machines is the machine of a condition; who holds the lock need be none.
func (c *Condition) machines() []string {
	if c.Who == "" || c.What == "holds" {
		return nil
	}
	return []string{c.Who}
}

// isMachine reports whether a word can name one machine. Whether there is such a
// machine is seen when the whole file is read.
func isMachine(w string) bool {
	if w == "all" || len(w) > 40 {
		return false
	}
	for i, r := range w {
		letter := r >= 'a' && r <= 'z'
		if !letter && (i == 0 || r != '-' && r != '.' && (r < '0' || r > '9')) {
			return false
		}
	}
	return w != ""
}

func isNumber(w string) bool {
	n, err := strconv.Atoi(w)
	return err == nil && n >= 0
}

func machines(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("a machine is missing")
	}
	for _, a := range args {
		if a != "all" && !isMachine(a) {
			return nil, noMachine(a)
		}
	}
	return args, nil
}

func machine(w string) error {
	if !isMachine(w) {
		return noMachine(w)
	}
	return nil
}

func noMachine(w string) error {
	return fmt.Errorf("%q is no machine: want n1, n2, …, leader, follower, the name of a machine statement before, or in some places all", w)
}

func who(make func([]string) any) func([]string) (any, error) {
	return func(args []string) (any, error) {
		w, err := machines(args)
		if err != nil {
			return nil, err
		}
		return make(w), nil
	}
}

func none(make func() any) func([]string) (any, error) {
	return func(args []string) (any, error) {
		if len(args) > 0 {
			return nil, fmt.Errorf("unexpected %q", args[0])
		}
		return make(), nil
	}
}

func duration(w string) (time.Duration, error) {
	d, err := time.ParseDuration(w)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no duration: want for example 500ms, 30s or 10m", w)
	}
	return d, nil
}

func parseCluster(args []string) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("the number of machines is missing")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 0 || n > MachinesMax {
		return nil, fmt.Errorf("%q machines: want 0 to %d", args[0], MachinesMax)
	}
	c := &Cluster{Machines: n, Seed: 1, Options: map[string]string{}}
	for _, a := range args[1:] {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return nil, fmt.Errorf("%q: want key=value", a)
		}
		if err := c.option(k, v); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) option(k, v string) error {
	switch k {
	case "seed":
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return fmt.Errorf("seed=%s: want a number", v)
		}
		c.Seed = seed
	case "snapshot-entries":
		if !isNumber(v) {
			return fmt.Errorf("snapshot-entries=%s: want a number", v)
		}
		c.Options[k] = v
	case "read-default":
		if v != "local" && v != "linearizable" {
			return fmt.Errorf("read-default=%s: want local or linearizable", v)
		}
		c.Options[k] = v
	case "units":
		if v != "on" && v != "off" {
			return fmt.Errorf("units=%s: want on or off", v)
		}
		c.Options[k] = v
	case "ttl":
		if _, err := duration(v); err != nil {
			return err
		}
		c.Options[k] = v
	default:
		return fmt.Errorf("unknown option %q: want seed, snapshot-entries, read-default, units or ttl", k)
	}
	return nil
}

func parseMachine(args []string) (any, error) {
	if len(args) == 0 || !isMachine(args[0]) || args[0] == "leader" || args[0] == "follower" {
		return nil, fmt.Errorf("want a name of small letters, digits and hyphens")
	}
	m := &Machine{Name: args[0]}
	if len(args) > 1 {
		if a, ok := strings.CutPrefix(args[1], "address="); ok {
			if _, err := netip.ParseAddr(a); err != nil {
				return nil, fmt.Errorf("%s: want an address such as 172.16.8.101", args[1])
			}
			m.Address, args = a, args[1:]
		}
	}
	m.Start = parseStart(args[1:])
	return m, nil
}

// parseStart parts NAME=value from flags, which come after.
func parseStart(words []string) Start {
	i := 0
	for i < len(words) && !strings.HasPrefix(words[i], "-") && strings.Contains(words[i], "=") {
		i++
	}
	return Start{Environ: words[:i:i], Flags: unquote(words[i:])}
}

// unquote takes the quotes off values that need none here.
func unquote(words []string) []string {
	var plain []string
	for _, w := range words {
		plain = append(plain, strings.ReplaceAll(w, `"`, ""))
	}
	return plain
}

func parseRestart(args []string) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("a machine is missing")
	}
	if err := machine(args[0]); err != nil {
		return nil, err
	}
	return &Restart{Who: args[0], As: len(args) > 1, Start: parseStart(args[1:])}, nil
}

func parseFocus(args []string) (any, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("want one machine")
	}
	return &Focus{args[0]}, machine(args[0])
}

func parseZone(args []string) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("want srv, a, slow, fails or works")
	}
	z := &Zone{What: args[0]}
	switch rest := args[1:]; {
	case z.What == "srv" && len(rest) > 0:
		for _, r := range rest[1:] {
			if _, port, ok := strings.Cut(r, ":"); !ok || !isNumber(port) {
				return nil, fmt.Errorf("%q: want HOST:PORT", r)
			}
		}
		z.Name, z.Records = rest[0], rest[1:]
	case z.What == "a" && len(rest) > 0:
		for _, r := range rest[1:] {
			if _, err := netip.ParseAddr(r); err != nil {
				return nil, fmt.Errorf("%q: want an address", r)
			}
		}
		z.Name, z.Records = rest[0], rest[1:]
	case z.What == "slow" && len(rest) == 1:
		d, err := duration(rest[0])
		if err != nil {
			return nil, err
		}
		z.Slow = d
	case (z.What == "fails" || z.What == "works") && len(rest) == 0:
	default:
		return nil, fmt.Errorf("%q: want srv, a, slow, fails or works", strings.Join(args, " "))
	}
	return z, nil
}

func parsePower(args []string) (any, error) {
	if len(args) == 0 || args[0] != "on" && args[0] != "off" {
		return nil, fmt.Errorf("want on or off")
	}
	w, err := machines(args[1:])
	if err != nil {
		return nil, err
	}
	return &Power{On: args[0] == "on", Who: w}, nil
}

func parsePartition(args []string) (any, error) {
	groups := [][]string{nil}
	for _, a := range args {
		if a == "|" {
			groups = append(groups, nil)
			continue
		}
		if err := machine(a); err != nil {
			return nil, err
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], a)
	}
	for _, g := range groups {
		if len(g) == 0 {
			return nil, fmt.Errorf("a group is empty")
		}
	}
	if len(groups) < 2 {
		return nil, fmt.Errorf("want at least two groups with | between them")
	}
	return &Partition{Groups: groups}, nil
}

func parseCut(args []string) (any, error) {
	if len(args) != 3 || args[1] != "->" {
		return nil, fmt.Errorf("want two machines with -> between them")
	}
	for _, a := range []string{args[0], args[2]} {
		if err := machine(a); err != nil {
			return nil, err
		}
	}
	return &Cut{From: args[0], To: args[2]}, nil
}

func parseAdvance(args []string) (any, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("want one duration")
	}
	d, err := duration(args[0])
	if err != nil {
		return nil, err
	}
	return &Advance{For: d}, nil
}

// DriftMax bounds the drift of a clock, in parts per million.
const DriftMax = 50_000

func parseClock(args []string) (any, error) {
	if len(args) != 3 {
		return nil, fmt.Errorf("want a machine, jump or drift, and a value")
	}
	if err := machine(args[0]); err != nil {
		return nil, err
	}
	c := &Clock{Who: args[0]}
	switch args[1] {
	case "jump":
		d, err := time.ParseDuration(args[2])
		if err != nil {
			return nil, fmt.Errorf("%q is no duration: want for example -10m or 24h", args[2])
		}
		c.Jump = d
	case "drift":
		ppm, err := strconv.Atoi(args[2])
		if err != nil || ppm < -DriftMax || ppm > DriftMax {
			return nil, fmt.Errorf("drift %q: want parts per million, at most %d either way", args[2], DriftMax)
		}
		c.Drift = ppm
	default:
		return nil, fmt.Errorf("%q: want jump or drift", args[1])
	}
	return c, nil
}

func parseMemory(args []string) (any, error) {
	if len(args) != 3 || args[1] != "flip" {
		return nil, fmt.Errorf("want a machine, the word flip and a key")
	}
	if err := machine(args[0]); err != nil {
		return nil, err
	}
	return &Memory{Who: args[0], Key: args[2]}, nil
}

func parseDisk(args []string) (any, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("want a machine and what happens to its disk")
	}
	if err := machine(args[0]); err != nil {
		return nil, err
	}
	d := &Disk{Who: args[0], What: args[1]}
	switch args[1] {
	case "stall", "slow":
		if len(args) != 3 {
			return nil, fmt.Errorf("%s: want a duration", args[1])
		}
		v, err := duration(args[2])
		if err != nil {
			return nil, err
		}
		d.Value = v
	case "full", "room", "sync-error", "rot", "wipe":
		if len(args) != 2 {
			return nil, fmt.Errorf("unexpected %q", args[2])
		}
	default:
		return nil, fmt.Errorf("%q: want stall, slow, full, room, sync-error, rot or wipe", args[1])
	}
	return d, nil
}

func parseUntil(args []string) (any, error) {
	u := &Until{Within: UntilDefault}
	if n := len(args); n > 2 && args[n-2] == "within" {
		d, err := duration(args[n-1])
		if err != nil {
			return nil, err
		}
		u.Within, args = d, args[:n-2]
	}
	c, err := parseCondition(args)
	u.Condition = c
	return u, err
}

func parseExpect(args []string) (any, error) {
	c, err := parseCondition(args)
	return &Expect{c}, err
}

func parseAlways(args []string) (any, error) {
	c, err := parseCondition(args)
	return &Always{c}, err
}

func parseCondition(args []string) (Condition, error) {
	var usages []string
	for _, f := range Conditions() {
		if c, ok := f.parse(args); ok {
			return c, nil
		}
		usages = append(usages, f.Usage)
	}
	return Condition{}, fmt.Errorf("%q is no condition: want one of: %s", strings.Join(args, " "), strings.Join(usages, ", "))
}

func parseWorkload(args []string) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("the kind of workload is missing")
	}
	w := &Workload{Name: args[0], Clients: 3, For: 30 * time.Second}
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "clients":
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > 50 {
				return nil, fmt.Errorf("%s: want clients=1 to clients=50", a)
			}
			w.Clients = n
		case "for":
			d, err := duration(v)
			if err != nil {
				return nil, err
			}
			w.For = d
		default:
			return nil, fmt.Errorf("%q: want clients=N or for=DURATION", a)
		}
	}
	return w, nil
}

func parseFault(args []string) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("the family is missing")
	}
	f := &Fault{Family: args[0], For: 30 * time.Second}
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		if k != "for" {
			return nil, fmt.Errorf("%q: want for=DURATION", a)
		}
		d, err := duration(v)
		if err != nil {
			return nil, err
		}
		f.For = d
	}
	return f, nil
}

func parseRead(args []string) (any, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("want the name of a command in the background")
	}
	return &Read{Name: args[0]}, nil
}
