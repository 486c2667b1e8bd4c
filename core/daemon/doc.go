// Package daemon is one process from its start to its end: it finds out what it is, and then is a member or a proxy.
//
// What the data directory holds decides: a log makes a member, a proxy's notes a
// proxy, and only an empty one is asked about. Files are named as core/env has it:
//
//	identity        who this member is; written before its log begins and after
//	admitted        to which lives of others this member has granted their places
//	member/…        the log and snapshots of a member
//	proxy/cluster   where a proxy has last seen the members
//
//	           ┌─ member/ ─────────────────────────────▶ member
//	Open ──────┼─ proxy/ ──────────────────────────────▶ proxy
//	           └─ neither ──▶ looking for its cluster ──▶ member or proxy
//	                            (requests get 503)
package daemon
