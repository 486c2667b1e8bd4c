package chaos

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/fault"
)

// Config says what a run is. Zero values are drawn from the seed or are the
// defaults that the comments name.
type Config struct {
	Seed      uint64
	Duration  time.Duration // of trouble; 40 s, so that with its calm half a run takes about a minute
	Machines  int           // drawn: mostly 3 or 5, sometimes 1, 2, 4 or 7
	Rate      float64       // operations in a virtual second of all clients together; 20
	Families  []string      // drawn, each with a chance of a half; "none" for none
	Workloads []string      // drawn, each with a chance of a half, at least one
	// Plan replaces what the families would do. NoPlan, not an empty plan, says
	// that there is none to replace it.
	Plan    fault.Plan
	HasPlan bool
	NoRare  bool // rare paths of the code are not forced
	// Trace and Log, if not nil, take every event and the nodes' log lines.
	Trace    io.Writer
	Log      io.Writer
	LogLevel env.Level
	// onEvent, if not nil, sees every event of the trace.
	onEvent func(sim.Event)
}

// settings is a Config with everything drawn.
type settings struct {
	Config
	names    []string
	families []fault.Family
	loads    []Workload
	link     sim.LinkConfig
	disk     sim.DiskConfig
	restart  time.Duration
	node     func(*sim.Machine, *node.Config)
	fleet    *fleetOf      // nil: machines run no units
	clients  int           // per workload
	patience time.Duration // of a client, for one answer
}

// purpose splits the streams of this package from one another.
func purpose(seed uint64, name string) *rand.Rand {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h^0x6b65656c736f6e))
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (c Config) settle() (*settings, error) {
	s := &settings{Config: c}
	if s.Duration == 0 {
		s.Duration = 40 * time.Second
	}
	if s.Rate == 0 {
		s.Rate = 20
	}
	if s.Machines == 0 {
		s.Machines = pick(purpose(c.Seed, "size"), 1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 5, 7)
	}
	if s.Machines < 1 || s.Machines > 9 {
		return nil, fmt.Errorf("%d machines: want 1 to 9", s.Machines)
	}
	for i := 1; i <= s.Machines; i++ {
		s.names = append(s.names, "n"+strconv.Itoa(i))
	}
	if err := s.chooseWorkloads(); err != nil {
		return nil, err
	}
	if err := s.chooseFamilies(); err != nil {
		return nil, err
	}
	s.drawFleet()
	if !s.HasPlan {
		from := 3 * time.Second // let there be a leader first
		if s.forms() {
			from = 0
		}
		s.Plan = s.plan(fault.Shape{Machines: s.names, From: from, Until: s.Duration})
	}
	if err := s.Plan.Check(); err != nil {
		return nil, err
	}
	s.drawHardware()
	s.drawNodes()
	return s, nil
}

// forms says that the machines of this run are switched on one by one, and form their
// cluster while everything fails.
func (c *Config) forms() bool { return purpose(c.Seed, "formation").IntN(6) == 0 }

// powerOnMax is how late a machine may be.
const powerOnMax = 5 * time.Second

func (s *settings) chooseFamilies() error {
	if s.Families == nil {
		for _, f := range fault.Swarm(s.Seed) {
			if f.OfUnits() && !slices.Contains(s.Workloads, unitsLoad) {
				continue // nobody would notice
			}
			s.families = append(s.families, f)
			s.Families = append(s.Families, f.Name)
		}
		return nil
	}
	for _, name := range s.Families {
		if name == "none" {
			continue
		}
		f, ok := fault.Named(name)
		if !ok {
			return fmt.Errorf("unknown family of faults %q", name)
		}
		s.families = append(s.families, f)
	}
	return nil
}

func (s *settings) chooseWorkloads() error {
	all := Workloads()
	if s.Workloads == nil {
		r := purpose(s.Seed, "workloads")
		for _, w := range all {
			if r.IntN(2) == 0 && (w.Name != "bulk" && w.Name != unitsLoad || r.IntN(2) == 0) {
				s.Workloads = append(s.Workloads, w.Name)
			}
		}
		if s.Workloads == nil {
			s.Workloads = []string{all[0].Name}
		}
	}
	for _, name := range s.Workloads {
		i := slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
		if i < 0 {
			return fmt.Errorf("unknown workload %q", name)
		}
		s.loads = append(s.loads, all[i])
	}
	return nil
}

// bufferLeast is the smallest send buffer that takes the largest frame: an append
// of 1 MiB, or one command that is larger.
const bufferLeast = 1_400_000

func (s *settings) drawHardware() {
	r := purpose(s.Seed, "hardware")
	s.link, s.disk = sim.DefaultLink(), sim.DefaultDisk()
	if r.IntN(2) == 0 {
		s.link.Latency = pick(r, 50*time.Microsecond, time.Millisecond, 10*time.Millisecond, 30*time.Millisecond)
		s.link.Jitter = pick(r, 10*time.Microsecond, time.Millisecond, 20*time.Millisecond)
	}
	s.link.Buffer = pick(r, 0, bufferLeast)
	if r.IntN(2) == 0 {
		s.disk.Latency = pick(r, 20*time.Microsecond, time.Millisecond, 10*time.Millisecond)
	}
	s.restart = pick(r, 10*time.Millisecond, 200*time.Millisecond, time.Second)
	s.patience = pick(r, 300*time.Millisecond, time.Second, 3*time.Second, 10*time.Second)
	s.clients = pick(r, 1, 2, 3, 5)
}

func (s *settings) drawNodes() {
	r := purpose(s.Seed, "nodes")
	entries := pick(r, 0, 10, 50, 50, 500)
	tail := pick(r, 0, 1, 10, 100)
	batch := pick(r, 0, 0, 100, 5_000)
	segment := pick(r, 0, 0, 2_000, 50_000)
	chunk := pick(r, 0, 0, 500, 20_000)
	if slices.Contains(s.Workloads, "bulk") || slices.Contains(s.Workloads, unitsLoad) {
		chunk = max(chunk, 100_000) // or a large snapshot takes minutes of round trips, and is old when it arrives
	}
	if entries > 0 && slices.Contains(s.Workloads, unitsLoad) {
		entries = max(entries, 50) // or most of the run's time goes into writing all files of units again and again
		if slices.Contains(s.Workloads, "bulk") {
			entries = 500
		}
	}
	later := laterVersion(s.Seed)
	s.node = func(m *sim.Machine, c *node.Config) {
		c.NextFormats = later(m)
		c.SnapshotEntries, c.TailEntries = uint64(entries), uint64(tail)
		c.BatchBytes, c.SegmentBytes, c.ChunkBytes = batch, segment, chunk
	}
}

// laterVersion draws which machines run a later version of the program, from some life
// on: in most runs none, else each sooner or later, or some and others never.
func laterVersion(seed uint64) func(m *sim.Machine) bool {
	r := purpose(seed, "versions")
	chance := pick(r, 0, 0, 0, 1, 2, 4)
	from := make(map[env.NodeID]int)
	return func(m *sim.Machine) bool {
		if chance == 0 {
			return false
		}
		if _, drawn := from[m.ID()]; !drawn {
			one := purpose(seed, "version of "+m.Name())
			from[m.ID()] = 1 + one.IntN(3)
			if one.IntN(4) >= chance {
				from[m.ID()] = math.MaxInt
			}
		}
		return m.Life() >= from[m.ID()]
	}
}

// driftPPM is the most that the plan makes clocks drift.
func (s *settings) driftPPM() int64 {
	most := int64(0)
	for i := range s.Plan {
		ppm, _ := strconv.ParseInt(s.Plan[i].Arg("ppm"), 10, 64)
		most = max(most, ppm, -ppm)
	}
	return most
}

// Case is a run that can be kept in a file: settings and plan, nothing drawn but
// what the seed decides about the world itself.
type Case struct{ Config Config }

// String gives the case as text that ParseCase reads back.
func (c Case) String() string {
	var b strings.Builder
	f := &c.Config
	fmt.Fprintf(&b, "run seed=%d duration=%v machines=%d rate=%s families=%s workloads=%s rare=%t\n",
		f.Seed, f.Duration, f.Machines, strconv.FormatFloat(f.Rate, 'g', -1, 64),
		strings.Join(f.Families, ","), strings.Join(f.Workloads, ","), !f.NoRare)
	b.WriteString(f.Plan.String())
	return b.String()
}

// ParseCase reads a case. Errors name the line.
func ParseCase(text string) (Case, error) {
	var c Case
	c.Config.HasPlan = true
	lines := strings.Split(text, "\n")
	head := slices.IndexFunc(lines, func(l string) bool {
		l = strings.TrimSpace(l)
		return l != "" && !strings.HasPrefix(l, "#")
	})
	if head < 0 || !strings.HasPrefix(strings.TrimSpace(lines[head]), "run ") {
		return c, fmt.Errorf("line %d: want \"run seed=… duration=… machines=… workloads=…\" first", max(head, 0)+1)
	}
	for _, field := range strings.Fields(lines[head])[1:] {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return c, fmt.Errorf("line %d: %q: want NAME=VALUE", head+1, field)
		}
		if err := c.Config.set(name, value); err != nil {
			return c, fmt.Errorf("line %d: %s=%s: %w", head+1, name, value, err)
		}
	}
	lines[head] = ""
	plan, err := fault.Parse(strings.Join(lines, "\n"))
	if err != nil {
		return c, err
	}
	c.Config.Plan = plan
	if _, err := c.Config.settle(); err != nil {
		return c, fmt.Errorf("line %d: %w", head+1, err)
	}
	return c, nil
}

func (c *Config) set(name, value string) (err error) {
	switch name {
	case "seed":
		c.Seed, err = strconv.ParseUint(value, 10, 64)
	case "duration":
		if c.Duration, err = time.ParseDuration(value); err == nil && (c.Duration <= 0 || c.Duration > 1000*time.Hour) {
			err = fmt.Errorf("out of range")
		}
	case "machines":
		c.Machines, err = strconv.Atoi(value)
	case "rate":
		if c.Rate, err = strconv.ParseFloat(value, 64); err == nil && !(c.Rate > 0 && c.Rate <= 100_000) {
			err = fmt.Errorf("out of range")
		}
	case "families":
		c.Families = []string{"none"}
		if value != "" {
			c.Families = strings.Split(value, ",")
		}
	case "workloads":
		c.Workloads = strings.Split(value, ",")
	case "rare":
		var on bool
		on, err = strconv.ParseBool(value)
		c.NoRare = !on
	default:
		return fmt.Errorf("unknown setting")
	}
	return err
}
