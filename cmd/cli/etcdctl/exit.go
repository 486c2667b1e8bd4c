package etcdctl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// The exit statuses.
const (
	exitBadArgs    = 1
	exitConnection = 2
	exitNoTopic    = 3 // the original calls bad authentication so, but never uses it
	exitServer     = 4
	exitUnhealthy  = 5
)

// Complaints about the command line.
var (
	errNoKey   = errors.New("key required")
	errNoValue = errors.New("value required")
)

// badArgs is a mistake in the command line.
func badArgs(err error) error { return failed(exitBadArgs, err) }

// refused is a request that did not succeed.
func refused(err error) error { return failed(exitServer, err) }

// failed is an error as most commands show it. What every endpoint did follows
// where none answered, and a word of warning where a write may have happened.
func failed(status int, err error) error {
	var b strings.Builder
	fmt.Fprintln(&b, "Error: ", err)
	var cluster *client.ClusterError
	if errors.As(err, &cluster) {
		fmt.Fprintln(&b, cluster.Detail())
	}
	if errors.Is(err, client.ErrUnknown) {
		b.WriteString(hintUnknown)
	}
	return &tool.Exit{Status: status, Text: b.String(), Err: err}
}

const hintUnknown = "hint: it is not known whether the request took effect; look before trying again\n"

// plain is an error as it is.
func plain(status int, err error) error {
	text := err.Error() + "\n"
	if errors.Is(err, client.ErrUnknown) {
		text += hintUnknown
	}
	return &tool.Exit{Status: status, Text: text, Err: err}
}
