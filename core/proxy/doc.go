// Package proxy is a machine's own door to a cluster whose member it is not: it passes requests on to the members.
//
// It takes no part in consensus and keeps nothing but a note of where the members
// are (the file cluster), so that it finds them again after a restart.
//
// Always true:
//
//   - A request that may change something is sent to a second member only if it is
//     certain that no member acted on it (core/retry). Where that is not certain,
//     the answer says that the outcome is unknown.
//   - An answer of a member is final and handed on as it is, an error too. The one
//     exception is an answer that says that nobody acted on the request.
//   - What a watch has handed on ends with a whole event.
//   - A request that has come this way before is refused.
package proxy
