// Package chaos runs whole simulated clusters through drawn trouble, with clients whose histories are checked.
//
// A run has two halves. In trouble, workloads and families of faults act at once,
// any of either with any of the other, and what must always hold is looked at
// after every turn. In calm, faults have ended and what must come true is waited
// for, in bounded virtual time. Then everything that clients saw is checked.
//
// Everything is drawn from one number: the size of the cluster, its settings,
// the families of trouble and their plan, the workloads and what their clients
// do. The same seed gives the same run, bit for bit. A run that failed is kept as
// a Case: its settings and its plan as text, which replays without the
// generator and can be shrunk.
package chaos
