// Package fleetapi is the units API: /fleet/v1 over the registry.
//
// Always true:
//
//   - A read shows every write that was acknowledged anywhere before it was asked for.
//   - What is refused has changed nothing; whether it has, an answer of 500 leaves open
//     and says so.
//   - Contents are stored before a unit names them, and a desired state is only ever set
//     of the unit that it was judged for, not of one that was created in its place.
//   - With users and roles enabled, a GET needs the right to read the registry's prefix,
//     everything else the right to write it, by those in force when it is applied.
package fleetapi
