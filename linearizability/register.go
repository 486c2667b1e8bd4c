package linearizability

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keelson/keelson/core/store"
)

// register is the state of one key for porcupine: an immutable value. The index
// is taken from what answers show, so that conditions on it can be judged; 0
// stands for an index that nobody saw, which any condition may meet.
type register struct {
	there bool
	value string
	index uint64
}

func (r register) String() string {
	if !r.there {
		return "absent"
	}
	return fmt.Sprintf("%q@%d", brief(r.value), r.index)
}

// outcome is what porcupine sees of an answer.
type outcome struct {
	unknown bool
	code    int
	index   uint64 // of the node that the answer shows
	value   string
	prev    bool // the answer shows what was there before
}

// Register is porcupine's model of one key that is always a file without a TTL.
// Inputs are Input values, outputs come from an Op by Operation.
func Register() porcupine.Model {
	nd := porcupine.NondeterministicModel{
		Init:  func() []any { return []any{register{}} },
		Step:  func(state, in, out any) []any { return stepRegister(state.(register), in.(Input), out.(outcome)) },
		Equal: func(a, b any) bool { return a == b },
		Hash: func(s any) uint64 {
			r := s.(register)
			h := uint64(14695981039346656037) ^ r.index // FNV-1a
			for i := range len(r.value) {
				h = (h ^ uint64(r.value[i])) * 1099511628211
			}
			return h
		},
		DescribeOperation: func(in, out any) string { return in.(Input).String() + fmt.Sprintf(" -> %+v", out) },
		DescribeState:     func(s any) string { return s.(register).String() },
	}
	return nd.ToModel()
}

// Operation turns an operation into porcupine's form.
func (o *Op) Operation() porcupine.Operation {
	out := outcome{unknown: o.Unknown, code: o.Output.Code, prev: o.Output.Prev != nil}
	if n := o.Output.Node; n != nil {
		out.index, out.value = n.Modified, n.Value
	}
	return porcupine.Operation{ClientId: o.Client, Input: o.Input, Call: o.Call, Output: out, Return: o.Return}
}

func stepRegister(s register, in Input, out outcome) []any {
	if out.unknown {
		next, code := s.write(in, 0)
		if code != 0 || next == s {
			return []any{s}
		}
		return []any{s, next} // it may have happened, or never will
	}
	if in.Kind == Get {
		return s.read(out)
	}
	next, code := s.write(in, out.index)
	if out.code == int(store.CodeCompareFailed) && s.maybe(in) {
		return []any{s}
	}
	if out.code != code {
		return nil
	}
	return []any{next}
}

// maybe says that a condition on the index cannot be judged.
func (r register) maybe(in Input) bool {
	return r.there && r.index == 0 && in.PrevIndex != 0 && (in.PrevValue == "" || in.PrevValue == r.value)
}

func (r register) read(out outcome) []any {
	if out.code == int(store.CodeKeyNotFound) {
		if r.there {
			return nil
		}
		return []any{r}
	}
	if out.code != 0 || !r.there || r.value != out.value || r.index != 0 && r.index != out.index {
		return nil
	}
	return []any{register{true, r.value, out.index}}
}

// write gives the state after in and the code it is answered with.
//
// A failed write returns the state as it was.
func (r register) write(in Input, index uint64) (register, int) {
	missing, exists, compare := int(store.CodeKeyNotFound), int(store.CodeExists), int(store.CodeCompareFailed)
	next := register{true, in.Value, index}
	if in.Refresh {
		next.value = r.value
	}
	switch in.Kind {
	case Set:
		if in.Refresh && !r.there {
			return r, missing
		}
		return next, 0
	case Create:
		if r.there {
			return r, exists
		}
		return register{true, in.Value, index}, 0
	}
	if !r.there {
		return r, missing
	}
	if in.PrevValue != "" && in.PrevValue != r.value && (in.Kind == CAS || in.Kind == CAD) {
		return r, compare
	}
	if in.PrevIndex != 0 && r.index != 0 && in.PrevIndex != r.index && (in.Kind == CAS || in.Kind == CAD) {
		return r, compare
	}
	switch in.Kind {
	case Update, CAS:
		return next, 0
	case Delete, CAD:
		return register{}, 0
	}
	return r, int(store.CodeInvalidField)
}

// checkRegisters hands each key that was used as a register to porcupine.
func checkRegisters(h *History, o *Options, r *Report) {
	limit, timeout := cmp.Or(o.RegisterOpsMax, 1000), cmp.Or(o.RegisterTimeout, 5*time.Second)
	keys, skipped := registers(h)
	r.KeysSkipped += skipped
	model := Register()
	for _, k := range keys {
		if len(k.ops) > limit {
			r.KeysSkipped++
			continue
		}
		r.Keys++
		switch porcupine.CheckOperationsTimeout(model, operations(k.ops), timeout) {
		case porcupine.Illegal:
			r.Violations = append(r.Violations, Violation{Linearizable, illegal(model, k, timeout)})
		case porcupine.Unknown:
			r.KeysUndecided++
		}
	}
}

func operations(ops []*Op) []porcupine.Operation {
	all := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		all[i] = op.Operation()
	}
	return all
}

// illegal describes the shortest part of a key's history that has no order.
func illegal(model porcupine.Model, k keyOps, timeout time.Duration) string {
	least := Minimal(model, k.ops, timeout)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: no order explains these %d operations", k.key, len(least))
	for i, op := range least {
		if i == 12 {
			fmt.Fprintf(&b, "\n  and %d more", len(least)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %v", op)
	}
	return b.String()
}

// Minimal drops operations from an illegal history of one key for as long as the
// rest stays illegal. What is dropped are reads and failures only, since to drop
// a write would make the rest illegal by itself.
func Minimal(model porcupine.Model, ops []*Op, timeout time.Duration) []*Op {
	ops = slices.Clone(ops)
	for i := len(ops) - 1; i >= 0 && len(ops) <= 300; i-- {
		if ops[i].changed() || ops[i].Unknown {
			continue
		}
		without := slices.Delete(slices.Clone(ops), i, i+1)
		if porcupine.CheckOperationsTimeout(model, operations(without), timeout) == porcupine.Illegal {
			ops = without
		}
	}
	// What came after the last operation that is needed explains nothing.
	for n := len(ops) - 1; n > 0; n-- {
		head := ops[:n]
		if porcupine.CheckOperationsTimeout(model, operations(head), timeout) != porcupine.Illegal {
			break
		}
		ops = head
	}
	return ops
}

// Illegal finds the first key whose history, on its own, no order explains.
func Illegal(h *History) (key string, found bool) {
	keys, _ := registers(h)
	model := Register()
	for _, k := range keys {
		if porcupine.CheckOperationsTimeout(model, operations(k.ops), 5*time.Second) == porcupine.Illegal {
			return k.key, true
		}
	}
	return "", false
}

// Visualize writes porcupine's picture of one key's history as HTML.
func Visualize(w io.Writer, h *History, key string) error {
	keys, _ := registers(h)
	for _, k := range keys {
		if k.key != key {
			continue
		}
		model := Register()
		_, info := porcupine.CheckOperationsVerbose(model, operations(k.ops), 10*time.Second)
		if err := porcupine.Visualize(model, info, w); err != nil {
			return fmt.Errorf("visualize %s: %w", key, err)
		}
		return nil
	}
	return fmt.Errorf("visualize %s: not used as a register in this history", key)
}

type keyOps struct {
	key string
	ops []*Op
}

// registers gathers the operations of each key that was never a directory, never
// had a TTL, was never deleted with a directory above it and is not one of those
// that are named by their index, ordered by call.
func registers(h *History) ([]keyOps, int) {
	happened := newEvidence(h)
	byKey := map[string][]*Op{}
	odd := map[string]bool{}
	var trees []string
	for _, op := range h.Ops {
		in := &op.Input
		if in.Dir || in.Recursive || in.HasTTL || in.Kind == Post || shows(op) {
			odd[in.Key] = true
		}
		if in.Kind == Delete && in.Recursive || in.HasTTL || in.Kind == Post {
			trees = append(trees, in.Key)
		}
		for i := strings.LastIndexByte(in.Key, '/'); i > 0; i = strings.LastIndexByte(in.Key[:i], '/') {
			odd[in.Key[:i]] = true // a directory, if only by what is in it
		}
		if in.Key == "/" || op.Unknown && !in.Write() || in.Local || op.Output.Code == int(store.CodeNotDir) {
			continue
		}
		if op.Unknown && !happened.perhaps(in) {
			continue
		}
		byKey[in.Key] = append(byKey[in.Key], op)
	}
	for _, e := range h.Log {
		if e.Node.HasTTL || gone(e) && (e.Node.Dir || e.Prev != nil && e.Prev.Dir) {
			trees = append(trees, e.Node.Key)
		}
	}
	inTree := func(key string) bool {
		return slices.ContainsFunc(trees, func(t string) bool { _, in := under(key, t); return in || t == key })
	}
	slices.Sort(trees)
	trees = slices.Compact(trees)
	var all []keyOps
	skipped := 0
	for key, ops := range byKey {
		if odd[key] || inTree(key) {
			skipped++
			continue
		}
		slices.SortFunc(ops, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
		all = append(all, keyOps{key, ops})
	}
	slices.SortFunc(all, func(a, b keyOps) int { return strings.Compare(a.key, b.key) })
	return all, skipped
}

// shows says that an answer showed a directory.
func shows(op *Op) bool {
	dir := func(n *Node) bool { return n != nil && n.Dir }
	return dir(op.Output.Node) || dir(op.Output.Prev)
}

// evidence knows from the log what surely did not happen, so that writes of
// unknown outcome which left no trace need not be guessed about. The search for
// an order grows with each guess.
type evidence struct {
	whole  bool
	wrote  map[string]bool // key and value of each write
	leaves map[string]int  // deletions of a key that nobody was told of
}

func newEvidence(h *History) *evidence {
	e := &evidence{len(h.Log) > 0, map[string]bool{}, map[string]int{}}
	for _, c := range h.Log {
		if gone(c) {
			e.leaves[c.Node.Key]++
			continue
		}
		e.wrote[c.Node.Key+"\x00"+c.Node.Value] = true
	}
	for _, op := range h.Ops {
		if op.changed() && (op.Input.Kind == Delete || op.Input.Kind == CAD) {
			e.leaves[op.Input.Key]--
		}
	}
	return e
}

// perhaps says whether a write of unknown outcome may have happened.
func (e *evidence) perhaps(in *Input) bool {
	switch {
	case !e.whole || in.Refresh:
		return true
	case in.Kind == Delete || in.Kind == CAD:
		return e.leaves[in.Key] > 0
	}
	return e.wrote[in.Key+"\x00"+in.Value]
}
