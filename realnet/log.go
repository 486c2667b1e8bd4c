package realnet

import (
	"context"
	cryptorand "crypto/rand"
	"io"
	"log/slog"
	"math/rand/v2"

	"github.com/keelson/keelson/core/env"
)

// Log writes a node's lines through log/slog. It may be used from any goroutine.
type Log struct{ slog *slog.Logger }

// NewLog writes lines of text to w, those below level left out.
func NewLog(w io.Writer, level slog.Level) Log {
	return Log{slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))}
}

// Log implements env.Log.
func (l Log) Log(level env.Level, msg string, kv ...any) {
	l.slog.Log(context.Background(), slogLevel(level), msg, kv...)
}

func slogLevel(l env.Level) slog.Level {
	switch l {
	case env.Debug:
		return slog.LevelDebug
	case env.Info:
		return slog.LevelInfo
	case env.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// Rare is env.Rare outside the simulator: rare paths stay rare.
type Rare struct{}

// Chance is always false.
func (Rare) Chance(string) bool { return false }

// Mark does nothing.
func (Rare) Mark(string) {}

// Rand is a stream of a node's own, seeded by the system.
func Rand() *rand.Rand {
	var seed [32]byte
	cryptorand.Read(seed[:]) // never fails: see crypto/rand
	return rand.New(rand.NewChaCha8(seed))
}
