package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/keelson/keelson/core/format"
)

// NextBatch is a format of batches that no release writes: it stands for the one that
// a later version will bring, so that clusters of two versions can be tried.
const NextBatch = format.Batch + 1

// AppendBatchAs is AppendBatch in one of the formats that there are. The first has no
// room for guards: see GuardedFormat. NextBatch says the same as the one before in
// another order and ends with a checksum: version, commands with their length before,
// wall clock, time, and CRC-32C.
func AppendBatchAs(dst []byte, b *Batch, number int) []byte {
	if number < NextBatch {
		return appendBatch(dst, b, number)
	}
	start := len(dst)
	dst = append(dst, NextBatch)
	dst = appendText(dst, string(appendCommands(nil, b.Commands, true)))
	dst = binary.AppendVarint(dst, b.Wall)
	dst = binary.AppendVarint(dst, int64(b.Time))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], crc32.MakeTable(crc32.Castagnoli)))
}

// BatchFormat is the number that an encoded batch begins with, 0 if there is none.
func BatchFormat(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	return int(p[0])
}

// DecodeBatchUpTo is DecodeBatch for a program that knows formats up to newest. One
// that is newer is a *format.UnknownError.
func DecodeBatchUpTo(p []byte, newest int) (*Batch, error) {
	if err := format.Check("batch", BatchFormat(p), 1, newest); err != nil {
		return nil, err
	}
	if BatchFormat(p) < NextBatch {
		return DecodeBatch(p)
	}
	end := len(p) - 4
	if end < 1 || binary.LittleEndian.Uint32(p[end:]) != crc32.Checksum(p[:end], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, fmt.Errorf("decode batch: checksum does not match")
	}
	d := decoder{rest: string(p[1:end])}
	inner := decoder{rest: d.text(), guards: true}
	b := &Batch{Commands: inner.commands()}
	b.Wall, b.Time = d.varint(), Time(d.varint())
	if err := inner.end(); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	return b, nil
}
