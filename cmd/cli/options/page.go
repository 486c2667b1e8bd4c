package options

import (
	"fmt"
	"strings"
)

// Help is what --help prints.
func Help(program string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `%s: run a member of a cluster, or a proxy to one

Usage: %[1]s [options]

Flags and variables are those of etcd. Without any, a cluster of one is served on this
machine only. One dash is as good as two.
`, program)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n%s\n", s.title)
		for _, o := range s.options {
			fmt.Fprintf(&b, "  %s [%s]\n", o.usage(), o.variable())
			text := o.doc
			if d := o.shown(); d != "" && o.ignored == "" {
				text += " Default: " + d + "."
			}
			fmt.Fprintf(&b, "      %s\n", text)
		}
	}
	return b.String()
}

// usage is the flag with the kind of its value.
func (o *option) usage() string {
	if o.kind == "" {
		return "--" + o.name
	}
	return "--" + o.name + "=" + o.kind
}

// Reference is docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration of keelson serve

An option is a flag (one dash or two) or a variable of the environment. The flag wins; an empty
variable is as none. An unknown flag is an error; an unknown variable that begins with ETCD_, FLEET_ or
KEELSON_ is a line in the log. URLs have the form http://host:port or https://host:port; several are joined by commas.

This page is made from the table of options: run ` + "`go test ./cmd/cli/options -run Reference -rewrite`" + ` after a change.
`)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n", s.title)
		for _, o := range s.options {
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", strings.ReplaceAll(o.usage(), "|", `\|`), o.variable(), o.shown(), o.doc)
		}
	}
	b.WriteString(`
## Sockets

A socket of --listen-client-urls is made with mode 0660, so its directory and group decide who may use it. One that
an earlier process left behind is taken over; one on which somebody listens is not. It counts as this machine only.
Use it with ` + "`keelson etcdctl --endpoints unix:///run/keelson.sock`" + ` (that of etcd cannot: ` + "`no Host in request URL`" + `)
or ` + "`curl --unix-socket /run/keelson.sock http://keelson/v2/keys`" + `.

## As etcd

Called as etcd or etcd2, through a link of that name or as ` + "`keelson etcd …`" + `, the program is keelson serve and starts
what old guides say as it is written: addresses beyond this machine without TLS are then a loud line in the log. As
keelson serve they are refused unless --insecure is said.

## Files

The data directory holds ` + "`identity`" + `, which says who this member is and in which cluster, and ` + "`member/`" + `,
its log and snapshot; or ` + "`proxy/`" + `, where a proxy has last seen the members. Once it is there, the options that
begin with initial- or discovery are ignored: a member does not change its cluster by being started differently.

## systemd

In a unit with Type=notify the process reports that it is ready once it knows what it is: a machine that waits for
others at a discovery service is still starting. With WatchdogSec= it reports that its loop turns.

## Units

The file of --fleet-config has lines KEY=VALUE, where KEY is a variable of the section Units without FLEET_, in lower
case; values may be quoted; # and ; begin comments. A flag wins over a variable, and that over the file. What units
may ask of a machine and how they are placed is in [scheduling](scheduling.md), what works without systemd in
[units as processes](process-units.md), and unit files for the daemon itself are in [systemd](systemd.md).

## Signals

On SIGTERM or SIGINT the member stops listening, answers the requests under way, hands leadership over and
ends with status 0. A second signal ends it at once, which loses nothing that was acknowledged. Units run on, unless
--drain-at-stop is given. SIGHUP has --fleet-config read again: metadata, capacity and the public address take
effect at once, all else at the next start. SIGUSR1 prints what the agent of units knows, as one line of JSON, to
standard output.

## Exit statuses

0 after an orderly stop; 1 when something could not be done or the value of an option cannot be used, which the
last line says; 2 for a command line that was not understood.
`)
	return b.String()
}
