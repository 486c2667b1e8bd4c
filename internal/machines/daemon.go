package machines

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// daemon are the files that make keelson a member of the cluster, and have user core reach
// it through fleetctl's socket.
func (m *Machine) daemon(c *Cluster) []file {
	return []file{
		{path: "/etc/systemd/system/fleet.socket.d/group.conf", mode: 0o644, text: "[Socket]\nSocketGroup=fleet\n"},
		{path: "/etc/keelson/environment", mode: 0o600, text: strings.Join(m.settings(c), "\n") + "\n"},
	}
}

// settings are the daemon's environment.
func (m *Machine) settings(c *Cluster) []string {
	var members []string
	for _, o := range c.Machines {
		members = append(members, o.Host+"=http://"+o.Address+":2380")
	}
	return append([]string{
		"ETCD_NAME=" + m.Host,
		"ETCD_LISTEN_CLIENT_URLS=" + m.URL() + ",http://127.0.0.1:2379",
		"ETCD_ADVERTISE_CLIENT_URLS=" + m.URL(),
		"ETCD_LISTEN_PEER_URLS=http://" + m.Address + ":2380",
		"ETCD_INITIAL_ADVERTISE_PEER_URLS=http://" + m.Address + ":2380",
		"ETCD_INITIAL_CLUSTER=" + strings.Join(members, ","),
		"KEELSON_INSECURE=true", // the bridge is private
		"FLEET_PUBLIC_IP=" + m.Address,
		"FLEET_METADATA=" + m.Metadata,
	}, c.config.Settings...)
}

// Ready returns when all machines are members of one cluster, and are listed as machines
// that run units.
func (c *Cluster) Ready(ctx context.Context) error {
	for _, m := range c.Machines {
		for {
			err := c.ready(ctx, m)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s: not ready: %w", m.Host, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// ready asks one machine.
func (c *Cluster) ready(ctx context.Context, m *Machine) error {
	var health struct{ Health string }
	var members struct{ Members []struct{ Name string } }
	var machines struct{ Machines []struct{ ID string } }
	if err := ask(ctx, m.URL()+"/health", &health); err != nil {
		return err
	}
	if health.Health != "true" {
		return fmt.Errorf("health is %q", health.Health)
	}
	if err := ask(ctx, m.URL()+"/v2/members", &members); err != nil {
		return err
	}
	if n := len(members.Members); n != len(c.Machines) {
		return fmt.Errorf("%d members", n)
	}
	if err := ask(ctx, m.URL()+"/fleet/v1/machines", &machines); err != nil {
		return err
	}
	if n := len(machines.Machines); n != len(c.Machines) {
		return fmt.Errorf("%d machines", n)
	}
	return nil
}

// ask gets a page as JSON.
func ask(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := direct.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// direct asks machines and no proxy of the environment.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
