// Package fleet is one machine's part in the cluster-wide systemd: its record, agent, engine and API, wired to a store.
package fleet
