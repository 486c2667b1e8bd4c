package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"
)

func sample(got *[]string) *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "the tool", UsageText: "top [global options] command",
		Flags: []cli.Flag{&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Value: "x", Usage: "the `form` of it", Local: true}},
		Commands: []*cli.Command{{
			Name: "verb", Usage: "does it", ArgsUsage: "<key>", Description: "At length.\n\nAnd more.",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "n", Usage: "how often"},
				&cli.DurationFlag{Name: "wait", Value: time.Second, Usage: "how long"},
				&cli.BoolFlag{Name: "all", Usage: "all of them"},
			},
			Action: func(ctx context.Context, c *cli.Command) error {
				*got = append(c.Args().Slice(), c.Root().String("out"), fmt.Sprint(c.Int("n"), c.Bool("all")))
				fmt.Fprintln(From(ctx).Out, "done")
				return nil
			},
		}},
	}
}

func execute(t *Tool, got *[]string, args ...string) error {
	cmd := sample(got)
	t.Prepare(cmd, "", func(_ context.Context, _ *cli.Command, err error, help string) error {
		return &Exit{Status: 2, Text: err.Error() + "\n" + help, Err: err}
	})
	return t.Execute(context.Background(), cmd, append([]string{"top"}, args...))
}

func bufferTool() (*Tool, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	return &Tool{Version: "1", In: &bytes.Buffer{}, Out: &out, Err: &errs, Getenv: func(string) string { return "" }}, &out, &errs
}

const verbHelp = `NAME:
   top verb - does it

USAGE:
   top verb [command options] <key>

DESCRIPTION:
   At length.

   And more.

OPTIONS:
   -n value      how often (default: 0)
   --wait value  how long (default: 1s)
   --all         all of them
` + "   \n"

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"verb", "--help"}, {"verb", "-h"}, {"verb", "-help", "x"}, {"verb", "x", "-n", "3", "-h"}} {
		tool, out, _ := bufferTool()
		var got []string
		require.NoError(t, execute(tool, &got, args...))
		assert.Equal(t, verbHelp, out.String())
		assert.Nil(t, got)
	}
	tool, out, _ := bufferTool()
	require.NoError(t, execute(tool, new([]string), "--help", "verb"))
	assert.Equal(t, `NAME:
   top - the tool

USAGE:
   top [global options] command

VERSION:
   1

COMMANDS:
   verb  does it

GLOBAL OPTIONS:
   --out form, -o form  the form of it (default: "x")
   --help, -h           show help
   --version, -v        print the version
`, out.String())
}

func TestCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"verb", "k"}, []string{"k", "x", "0 false"}},
		{[]string{"-o", "y", "verb", "k", "-n", "2", "--all"}, []string{"k", "y", "2 true"}},
		{[]string{"--out=y", "verb", "-n=2", "k"}, []string{"k", "y", "2 false"}},
		{[]string{"verb", "--", "k", "--all", "-n"}, []string{"k", "--all", "-n", "x", "0 false"}},
		{[]string{"verb", "k", "help"}, []string{"k", "help", "x", "0 false"}},
	} {
		tool, out, _ := bufferTool()
		var got []string
		require.NoError(t, execute(tool, &got, c.args...))
		assert.Equal(t, c.want, got)
		assert.Equal(t, "done\n", out.String())
	}
}

func TestMistakesInOldWords(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"verb", "--bogus"}, "flag provided but not defined: -bogus"},
		{[]string{"verb", "--n", "abc"}, `invalid value "abc" for flag -n: parse error`},
		{[]string{"verb", "--n", "99999999999999999999"}, `invalid value "99999999999999999999" for flag -n: value out of range`},
		{[]string{"verb", "--wait", "3"}, `invalid value "3" for flag -wait: parse error`},
		{[]string{"verb", "k", "--n"}, "flag needs an argument: -n"},
		{[]string{"verb", "-o", "x"}, "flag provided but not defined: -o"},
	} {
		tool, _, errs := bufferTool()
		status := tool.Finish("top", execute(tool, new([]string), c.args...))
		assert.Equal(t, 2, status)
		assert.Equal(t, c.want+"\n"+verbHelp, errs.String())
	}
}

func TestFinish(t *testing.T) {
	tool, _, errs := bufferTool()
	assert.Equal(t, 0, tool.Finish("top", nil))
	assert.Equal(t, 1, tool.Finish("top", errors.New("no")))
	assert.Equal(t, 7, tool.Finish("top", fmt.Errorf("wrapped: %w", &Exit{Status: 7, Text: "text\n"})))
	assert.Equal(t, "top: no\ntext\n", errs.String())
}

func TestFromNeedsWith(t *testing.T) {
	assert.Panics(t, func() { From(context.Background()) })
}

// Many command lines run in one process at once, as simulated worlds do.
func TestSideBySide(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			tool, out, _ := bufferTool()
			var got []string
			args := []string{"verb", fmt.Sprint(i), "-n", fmt.Sprint(i)}
			if i%4 == 0 {
				args = []string{"verb", "-h"}
			}
			assert.NoError(t, execute(tool, &got, args...))
			assert.NotEmpty(t, out.String())
		})
	}
	wg.Wait()
}
