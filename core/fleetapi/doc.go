// Package fleetapi is the units API: /fleet/v1 over the registry.
//
// Always true:
//
//   - A read shows every write that was acknowledged anywhere before it was asked for.
//   - What is refused has changed nothing; whether it has, an answer of 500 leaves open
//     and says so.
//   - Answers fit one order of all requests, whichever members are asked at the same time:
//     a write is done whole or not at all (registry.Model.Replace).
//   - With users and roles enabled, a GET needs the right to read the registry's prefix,
//     everything else the right to write it, by those in force when it is applied.
package fleetapi
