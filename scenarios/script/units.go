package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The statements about units.
type (
	// UnitFile puts a unit file where commands find it.
	UnitFile struct{ Name, Text string }
	// Workers makes machines that are no members and run units.
	Workers struct{ Count int }
	// Manager troubles a machine's service manager.
	Manager struct {
		Who  string
		What string // away, back, slow, failing, sound
		Slow time.Duration
	}
	// Reboot takes the power away and gives it back.
	Reboot struct {
		Who []string
		For time.Duration
	}
	// Links makes all links bad.
	Links struct {
		Loss    float64
		Latency time.Duration
	}
	// Crash ends the main process of a unit.
	Crash struct{ Unit, Who string }
)

// WorkersMax bounds the machines of a workers statement.
const WorkersMax = 30

// rebootLasts is how long a reboot takes unless told otherwise.
const rebootLasts = 2 * time.Second

// managerWords are what may happen to a service manager.
var managerWords = []string{"away", "back", "slow", "failing", "sound"}

func unitVerbs() []Verb {
	return []Verb{
		{"workers", "workers N", "Make N machines, w1 to wN, that are no members and run units as the members do. The cluster needs units=on.", parseWorkers},
		{"unit", "unit NAME [OPTION=VALUE …]", "Put a unit file where commands on all machines find it; values with blanks are quoted. Description and BindsTo go to [Unit], Exec…, Type, Restart and the like to [Service], WantedBy to [Install], all others to [X-Fleet]. Without ExecStart a service sleeps for ever. There are hello.service and web@.service without being asked for.", parseUnitFile},
		{"systemd", "systemd MACHINE away|back|slow DURATION|failing|sound", "Take a machine's service manager out of the daemon's reach and back, let everything it does take longer, or let half of all writes of unit files fail (sound ends both).", parseManager},
		{"reboot", "reboot MACHINE… [for DURATION]", "Cut the power, and restore it after 2 s or the duration given.", parseReboot},
		{"links", "links loss=CHANCE|latency=DURATION …", "Make all links lose so many of their frames, or take so long, until heal.", parseLinks},
		{"crash", "crash UNIT MACHINE", "End the main process of a unit on a machine.", parseCrash},
	}
}

func unitConditions() []ConditionForm {
	return []ConditionForm{
		{"runs-on", "unit NAME runs on MACHINE", "That unit runs on that machine, and nowhere else.", func(a []string) (Condition, bool) {
			return cond(len(a) == 5 && a[0] == "unit" && a[2] == "runs" && a[3] == "on" && isMachine(a[4]), func() Condition {
				return Condition{What: "runs-on", Key: a[1], Who: a[4]}
			})
		}},
		{"runs", "unit NAME runs N times", "That unit runs on so many machines; the name may be a pattern: then so many such units run, counted with each machine.", func(a []string) (Condition, bool) {
			return cond(len(a) == 5 && a[0] == "unit" && a[2] == "runs" && isNumber(a[3]) && a[4] == "times", func() Condition {
				n, _ := strconv.Atoi(a[3])
				return Condition{What: "runs", Key: a[1], Max: n}
			})
		}},
		{"runs-nowhere", "unit NAME runs nowhere", "That unit, or none that the pattern fits, runs on any machine.", func(a []string) (Condition, bool) {
			return cond(len(a) == 4 && a[0] == "unit" && a[2] == "runs" && a[3] == "nowhere", func() Condition { return Condition{What: "runs", Key: a[1]} })
		}},
		{"started", "unit NAME started N times", "That unit, or all that the pattern fits, has been started so often since the scenario began.", func(a []string) (Condition, bool) {
			return cond(len(a) == 5 && a[0] == "unit" && a[2] == "started" && isNumber(a[3]) && a[4] == "times", func() Condition {
				n, _ := strconv.Atoi(a[3])
				return Condition{What: "started", Key: a[1], Max: n}
			})
		}},
		{"settled", "units settled", "What runs is what is decided, what is decided is what is wanted, and nothing is left over.", func(a []string) (Condition, bool) {
			return Condition{What: "settled"}, strings.Join(a, " ") == "units settled"
		}},
		{"machines", "machines N", "So many machines are there to run units, as the registry knows them.", func(a []string) (Condition, bool) {
			return cond(len(a) == 2 && a[0] == "machines" && isNumber(a[1]), func() Condition {
				n, _ := strconv.Atoi(a[1])
				return Condition{What: "machines", Max: n}
			})
		}},
	}
}

func parseWorkers(args []string) (any, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("want a number of machines")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > WorkersMax {
		return nil, fmt.Errorf("%q machines: want 1 to %d", args[0], WorkersMax)
	}
	return &Workers{n}, nil
}

// sections says where options of a unit file go that are not of [X-Fleet].
var sections = map[string]string{
	"Description": "Unit", "BindsTo": "Unit", "After": "Unit", "Requires": "Unit",
	"ExecStart": "Service", "ExecStartPre": "Service", "ExecStop": "Service", "Type": "Service", "Restart": "Service", "RestartSec": "Service",
	"TimeoutStartSec": "Service", "TimeoutStopSec": "Service", "RemainAfterExit": "Service", "Environment": "Service",
	"WantedBy": "Install",
}

func parseUnitFile(args []string) (any, error) {
	words, err := split(strings.Join(args, " "))
	if err != nil {
		return nil, err
	}
	if len(words) == 0 || !strings.Contains(words[0], ".") {
		return nil, fmt.Errorf("want the name of a unit, such as hello.service")
	}
	lines := map[string][]string{}
	for _, w := range words[1:] {
		key, _, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("%q: want OPTION=VALUE", w)
		}
		section := sections[key]
		if section == "" {
			section = "X-Fleet"
		}
		lines[section] = append(lines[section], w)
	}
	starts := func(w string) bool { return strings.HasPrefix(w, "ExecStart=") }
	if strings.HasSuffix(words[0], ".service") && !slices.ContainsFunc(lines["Service"], starts) {
		lines["Service"] = append(lines["Service"], "ExecStart=/bin/sleep infinity")
	}
	var text []string
	for _, section := range []string{"Unit", "Service", "X-Fleet", "Install"} {
		if len(lines[section]) > 0 {
			text = append(text, "["+section+"]\n"+strings.Join(lines[section], "\n")+"\n")
		}
	}
	return &UnitFile{words[0], strings.Join(text, "\n")}, nil
}

func parseManager(args []string) (any, error) {
	if len(args) < 2 || !slices.Contains(managerWords, args[1]) {
		return nil, fmt.Errorf("want a machine and one of %s", strings.Join(managerWords, ", "))
	}
	if err := machine(args[0]); err != nil {
		return nil, err
	}
	m := &Manager{Who: args[0], What: args[1]}
	switch {
	case m.What == "slow" && len(args) == 3:
		d, err := duration(args[2])
		if err != nil {
			return nil, err
		}
		m.Slow = d
	case m.What == "slow" || len(args) != 2:
		return nil, fmt.Errorf("%s: want a duration after slow and after nothing else", m.What)
	}
	return m, nil
}

func parseReboot(args []string) (any, error) {
	r := &Reboot{For: rebootLasts}
	if n := len(args); n > 2 && args[n-2] == "for" {
		d, err := duration(args[n-1])
		if err != nil {
			return nil, err
		}
		r.For, args = d, args[:n-2]
	}
	w, err := machines(args)
	r.Who = w
	return r, err
}

func parseLinks(args []string) (any, error) {
	l := &Links{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "loss":
			f, err := strconv.ParseFloat(v, 64)
			if err != nil || !(f >= 0 && f < 1) {
				return nil, fmt.Errorf("%s: want a chance such as 0.3", a)
			}
			l.Loss = f
		case "latency":
			d, err := duration(v)
			if err != nil {
				return nil, err
			}
			l.Latency = d
		default:
			return nil, fmt.Errorf("%q: want loss= or latency=", a)
		}
	}
	if len(args) == 0 {
		return nil, fmt.Errorf("want loss= or latency=")
	}
	return l, nil
}

func parseCrash(args []string) (any, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("want a unit and a machine")
	}
	return &Crash{Unit: args[0], Who: args[1]}, machine(args[1])
}
