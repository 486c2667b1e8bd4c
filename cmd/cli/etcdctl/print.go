package etcdctl

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/store"
)

// show prints an event in the format asked for. An unknown format is said to be
// one and is no failure, since the request was carried out.
func (s *session) show(e *client.Event) {
	switch s.format {
	case "simple":
		simple(s.t.Out, e)
	case "extended":
		extended(s.t.Out, e)
	case "json":
		s.json(e)
	default:
		fmt.Fprintln(s.t.Err, "Unsupported output format:", s.format)
	}
}

// showQuietly prints nothing in the simple format.
func (s *session) showQuietly(e *client.Event) {
	if s.format != "simple" {
		s.show(e)
	}
}

func gone(e *client.Event) bool { return e.Action == string(store.ActionDelete) }

func simple(w io.Writer, e *client.Event) {
	if !gone(e) {
		fmt.Fprintln(w, e.Node.Value)
		return
	}
	prev := ""
	if e.PrevNode != nil {
		prev = e.PrevNode.Value
	}
	fmt.Fprintln(w, "PrevNode.Value:", prev)
}

func extended(w io.Writer, e *client.Event) {
	fmt.Fprintf(w, "Key: %s\nCreated-Index: %d\nModified-Index: %d\n", e.Node.Key, e.Node.CreatedIndex, e.Node.ModifiedIndex)
	if e.PrevNode != nil {
		fmt.Fprintf(w, "PrevNode.Value: %s\n", e.PrevNode.Value)
	}
	fmt.Fprintf(w, "TTL: %d\nIndex: %d\n", e.Node.TTL, e.Index)
	if !gone(e) {
		fmt.Fprintf(w, "\n%s\n", e.Node.Value)
	}
}

func (s *session) json(e *client.Event) {
	text, err := json.Marshal(e)
	if err != nil {
		// Only a year that JSON cannot hold gets here.
		fmt.Fprintln(s.t.Err, "cannot show the answer:", err)
		return
	}
	fmt.Fprintf(s.t.Out, "%s\n", text)
}

// keyOf is the first argument of a verb that needs a key.
func keyOf(c *cli.Command) (string, error) {
	if !c.Args().Present() {
		return "", badArgs(errNoKey)
	}
	return c.Args().First(), nil
}
