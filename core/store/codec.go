package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/invariant"
)

// GuardedFormat is the first format of batches and of commands that tells the guards and
// fences of commands. In the one before commands stand without them.
const GuardedFormat = 2

// Flags of an encoded command. A command is its operation, the flags, key and
// value as length and bytes, and then the fields that the flags announce, in
// the order of the flags.
const (
	flagDir = 1 << iota
	flagRecursive
	flagRefresh
	flagTTL
	flagPrevValue
	flagPrevIndex
	flagID   // node and incarnation, number and settled
	flagSame // number and settled; node and incarnation are those of the command before
)

// Marks beside the operation of an encoded command. Guarded by an index, that index
// comes last; guarded by none, it is 0.
const (
	markGuard = 0x80
	markFirst = 0x40
	markFence = 0x20 // key and index of the fence follow the guard's
	marks     = markGuard | markFirst | markFence
)

// commandMin is the fewest bytes of an encoded command.
const commandMin = 5

// AppendBatch appends the encoding of b to dst, in the newest format that is released:
// version, time, wall clock, and the commands as AppendCommands puts them. Keys must
// be valid.
func AppendBatch(dst []byte, b *Batch) []byte { return appendBatch(dst, b, format.Batch) }

func appendBatch(dst []byte, b *Batch, number int) []byte {
	dst = append(dst, byte(number))
	dst = binary.AppendVarint(dst, int64(b.Time))
	dst = binary.AppendVarint(dst, b.Wall)
	return appendCommands(dst, b.Commands, number >= GuardedFormat)
}

// AppendCommands appends the encoding of commands to dst, in a format that this
// program knows. Keys must be valid.
func AppendCommands(dst []byte, commands []Command, number int) []byte {
	return appendCommands(append(dst, byte(number)), commands, number >= GuardedFormat)
}

func appendCommands(dst []byte, commands []Command, guards bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(commands)))
	var prev ID
	for i := range commands {
		c := &commands[i]
		if !ValidKey(c.Key) { // an argument to Check would cost an allocation each
			invariant.Check(false, "store: command with the key %q", c.Key)
		}
		dst = appendCommand(dst, c, prev, guards)
		prev = c.ID
	}
	return dst
}

func appendCommand(dst []byte, c *Command, prev ID, guards bool) []byte {
	flags, op := c.flags(prev), byte(c.Op)
	if guards {
		op |= c.mark()
	}
	dst = append(dst, op, flags)
	dst = appendText(dst, c.Key)
	dst = appendText(dst, c.Value)
	if flags&flagTTL != 0 {
		dst = binary.AppendVarint(dst, int64(c.TTL))
	}
	if flags&flagPrevValue != 0 {
		dst = appendText(dst, c.PrevValue)
	}
	if flags&flagPrevIndex != 0 {
		dst = binary.AppendUvarint(dst, uint64(c.PrevIndex))
	}
	if flags&flagID != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(c.ID.Node))
		dst = binary.AppendUvarint(dst, c.ID.Incarnation)
	}
	if flags&(flagID|flagSame) != 0 {
		dst = binary.AppendUvarint(dst, c.ID.Number)
		dst = binary.AppendVarint(dst, int64(c.ID.Number-c.Settled))
	}
	if op&markGuard != 0 {
		dst = binary.AppendUvarint(dst, uint64(c.Guard))
	}
	if op&markFence != 0 {
		dst = appendText(dst, c.Fence.Key)
		dst = binary.AppendUvarint(dst, uint64(c.Fence.Created))
	}
	return dst
}

func (c *Command) mark() (mark byte) {
	if c.Fence.Key != "" {
		mark = markFence
	}
	switch {
	case !c.Guarded:
		return mark
	case c.Guard == 0:
		return mark | markFirst
	default:
		return mark | markGuard
	}
}

// Conditional reports whether c has, or brings about, conditions that the first format
// cannot tell.
func (c *Command) Conditional() bool { return c.Key == SecretKey || c.Fence.Key != "" }

func (c *Command) flags(prev ID) byte {
	var flags byte
	set := func(on bool, flag byte) {
		if on {
			flags |= flag
		}
	}
	set(c.Dir, flagDir)
	set(c.Recursive, flagRecursive)
	set(c.Refresh, flagRefresh)
	set(c.HasTTL, flagTTL)
	set(c.PrevValue != "", flagPrevValue)
	set(c.PrevIndex != 0, flagPrevIndex)
	named := c.ID != (ID{}) || c.Settled != 0
	same := c.ID.Node == prev.Node && c.ID.Incarnation == prev.Incarnation
	set(named && !same, flagID)
	set(named && same, flagSame)
	return flags
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// DecodeBatch reads what AppendBatch wrote. The batch shares no memory with p.
// Whatever p holds, the answer is a batch of valid commands or an error.
func DecodeBatch(p []byte) (*Batch, error) {
	d := decoder{rest: string(p)}
	d.version("batch", format.Batch)
	b := &Batch{Time: Time(d.varint()), Wall: d.varint()}
	b.Commands = d.commands()
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	return b, nil
}

// DecodeCommands reads what AppendCommands wrote, as DecodeBatch does.
func DecodeCommands(p []byte) ([]Command, error) {
	d := decoder{rest: string(p)}
	d.version("commands", format.Commands)
	commands := d.commands()
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("decode commands: %w", err)
	}
	return commands, nil
}

// decoder takes values off the front of rest. After the first error it gives
// zeros; texts share the memory of rest.
type decoder struct {
	rest   string
	err    error
	guards bool // of commands are told
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = ""
}

func (d *decoder) end() error {
	if d.err == nil && d.rest != "" {
		return fmt.Errorf("%d bytes too many", len(d.rest))
	}
	return d.err
}

func (d *decoder) short() { d.fail(errors.New("cut short")) }

func (d *decoder) version(name string, newest int) {
	number := int(d.byte())
	if err := format.Check(name, number, 1, newest); err != nil {
		d.fail(err) // unless there was no number at all
	}
	d.guards = number >= GuardedFormat
}

func (d *decoder) byte() byte {
	if d.rest == "" {
		d.short()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 70; shift += 7 {
		b := d.byte()
		if shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	d.fail(errors.New("number over 64 bits"))
	return 0
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (d *decoder) uint64() uint64 {
	var v uint64
	for range 8 {
		v = v<<8 | uint64(d.byte())
	}
	return v
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.short()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) commands() []Command {
	n := d.uvarint()
	if n > uint64(len(d.rest)/commandMin) {
		d.short()
		return nil
	}
	if n == 0 {
		return nil
	}
	commands := make([]Command, 0, min(n, 1024))
	var prev ID
	for i := uint64(0); i < n && d.err == nil; i++ {
		commands = append(commands, d.command(prev))
		prev = commands[i].ID
	}
	return commands
}

func (d *decoder) command(prev ID) Command {
	op := d.byte()
	c := Command{Op: Op(op)}
	if d.guards {
		c.Op, c.Guarded = Op(op&^marks), op&(markGuard|markFirst) != 0
	}
	flags := d.byte()
	c.Key, c.Value = d.text(), d.text()
	c.Dir = flags&flagDir != 0
	c.Recursive = flags&flagRecursive != 0
	c.Refresh = flags&flagRefresh != 0
	c.HasTTL = flags&flagTTL != 0
	if c.HasTTL {
		c.TTL = time.Duration(d.varint())
	}
	if flags&flagPrevValue != 0 {
		c.PrevValue = d.text()
	}
	if flags&flagPrevIndex != 0 {
		c.PrevIndex = Index(d.uvarint())
	}
	if flags&flagSame != 0 {
		c.ID = ID{Node: prev.Node, Incarnation: prev.Incarnation}
	}
	if flags&flagID != 0 {
		c.ID = ID{Node: env.NodeID(d.uint64()), Incarnation: d.uvarint()}
	}
	if flags&(flagID|flagSame) != 0 {
		c.ID.Number = d.uvarint()
		c.Settled = c.ID.Number - uint64(d.varint())
	}
	if d.guards && op&markGuard != 0 {
		c.Guard = Index(d.uvarint())
	}
	if d.guards && op&markFence != 0 {
		c.Fence = Fence{Key: d.text(), Created: Index(d.uvarint())}
		if d.err == nil && !ValidKey(c.Fence.Key) {
			d.fail(fmt.Errorf("fence: not a clean key: %.100q", c.Fence.Key))
		}
	}
	d.valid(&c)
	return c
}

func (d *decoder) valid(c *Command) {
	if d.err != nil {
		return
	}
	if c.Op < OpSet || c.Op > OpCompareAndDelete {
		d.fail(fmt.Errorf("unknown operation %d", c.Op))
	}
	if !ValidKey(c.Key) {
		d.fail(fmt.Errorf("not a clean key: %.100q", c.Key))
	}
}
