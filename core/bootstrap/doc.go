// Package bootstrap is how a node finds its first peers (static list, discovery token, DNS), or becomes a proxy.
//
// It runs once in the life of a data directory: what it comes to is an Outcome,
// which is kept, and later starts do not ask again. All waiting is done by the
// completions of core/env, so a cluster forms in the simulator as it does on real
// machines.
//
//	initial-cluster ─┐
//	peers (0.4) ─────┤             new ──▶ note ──▶ admission ──▶ member
//	DNS SRV ─────────┼──▶ a list ──┤                    ▲
//	discovery ───────┘             existing ──▶ the real list
//	    └── no place left ──▶ proxy
//
// A note is an Identity that says Waiting: it survives a killed process, so that
// the machine goes on waiting where it was.
//
// # Who may begin with an empty log
//
// A member that begins with an empty log although an earlier life of it has voted
// or acknowledged can undo what the cluster promised. So each disk draws a life at
// random, notes it, and must be admitted under it. The others are asked to grant
// the member's place to that life; they grant a place once and refuse any other
// life, and a place whose member has published itself is taken whatever its life.
//
//   - Where the asked member has a leader, the grant is a key of the store, made
//     only where none is: one such answer admits, for it is durable on a majority
//     and no second life can get it. Who joins a running cluster needs this one.
//   - Without a leader (the cluster forms, or has lost its majority) a founder that is
//     asked notes the grant on its own disk; who joined later grants nothing then. Half of the other founders, rounded
//     up, must have granted: with the new one they are a majority, and fewer could
//     not elect anybody. Among an even number of founders any two such halves have
//     one in common, who refuses the second life.
//
// All others are asked in each round and given a second to object, so that one who
// knows better is heard whenever it can be.
//
// What is left: a founder that was wiped is let in again if everybody who granted
// its earlier life is silent and everybody who answers has neither applied its
// publication nor a leader to ask. Among an odd number of founders that needs the
// loss of a disk and, at the same time, of the reach to half of the others, before
// the publication got through: within moments of the very first start, or where
// those who answer were cut off since then. Nobody who is within reach knows of the
// earlier life then; to refuse would be to demand that all founders be up to form.
package bootstrap
