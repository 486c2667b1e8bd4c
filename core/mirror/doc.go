// Package mirror is what controllers read on a machine that is no member: a copy of some prefixes, kept by list, watch, and list again after a gap.
//
// A mirror asks one member at a time for the page /v2/mirror, directly or through a
// proxy. Writes of controllers go the other way, as conditional requests.
//
// Always true:
//
//   - A view is the state of the cluster below the prefixes at one index, never a
//     mixture, and it does not change. Indexes of later views are not lower.
//   - All views are of one cluster, the first that answered. Another one, whose
//     number differs, is refused and named.
//   - A mirror that cannot reach anybody keeps its last view and says how old it is.
//   - A write is sent a second time only if it is certain that no member acted on it.
package mirror
