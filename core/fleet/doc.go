// Package fleet is one machine's part in the cluster-wide systemd: its record, agent, engine and API, wired to a store.
//
//	member    source = its own state     model ─▶ engine (one of all decides), API
//	                                     agent
//	others    source = a mirror of       agent; the API is passed on to members
//	          machines/<own ID>, global
//
// Always true: what runs here does not depend on anything in this package going on.
package fleet
