package agent

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestFaultsAreBrief(t *testing.T) {
	assert.Equal(t, "short", brief(errors.New("short")))
	long := brief(errors.New(strings.Repeat("é", 1000)))
	assert.LessOrEqual(t, len(long), faultLength+3)
	assert.True(t, utf8.ValidString(long))
	assert.True(t, strings.HasSuffix(long, "é..."))
	odd := brief(errors.New("x" + strings.Repeat("é", 1000)))
	assert.True(t, utf8.ValidString(odd))
}
