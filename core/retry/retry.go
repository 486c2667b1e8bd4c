// Package retry is the one table of what may be sent again.
//
// Clients and proxies look it up here, and the page about clients prints it. To a
// proxy every answer but one that says it is unsent is Answered: it hands the status
// on, and the client decides.
package retry

// Outcome is how one attempt to have a request answered ended.
type Outcome int

// The outcomes. Whatever is not sure to be NotSent is Unknown.
const (
	Answered      Outcome = iota // a success, or a refusal that another server would repeat
	NotSent                      // it is known that no server acted on the request
	Unknown                      // sent, and no usable answer: time-out, connection lost, body cut short
	ServerAtFault                // a status of 500 or more, but 501
)

// Next is what follows an attempt.
type Next int

// What may follow. After the last server a client waits and begins a new round;
// a proxy gives up.
const (
	GiveAnswer  Next = iota
	TryNext          // the next server
	GiveUnknown      // the caller learns that the outcome is unknown
)

// String names what follows as the page about clients does.
func (n Next) String() string {
	return [...]string{GiveAnswer: "give the answer", TryNext: "next endpoint", GiveUnknown: "say that the outcome is unknown"}[n]
}

// Rule is one line of the table.
type Rule struct {
	Outcome     Outcome
	What        string // how it shows
	Read, Write Next
	Why         string
}

// table is in the order of the outcomes.
var table = [...]Rule{
	{Answered, "a status below 500, or 501", GiveAnswer, GiveAnswer, "the server has decided"},
	{NotSent, "no connection, or an answer with " + Header + ": " + Unsent, TryNext, TryNext, "no server acted on it, so nothing can happen twice"},
	{Unknown, "no answer in time, connection lost, answer cut short", TryNext, GiveUnknown, "a read changes nothing; a write may have happened"},
	{ServerAtFault, "any other status of 500 or more", TryNext, GiveUnknown, "the server gave up waiting, but what it proposed may still be applied"},
}

// Table gives every rule.
func Table() []Rule { return append([]Rule(nil), table[:]...) }

// Of gives the rule for an outcome.
func Of(o Outcome) Rule { return table[o] }

// For is what a client does. Reads are GET and HEAD; everything else is a write,
// since even a plain set that is applied twice can undo what somebody else wrote in
// between.
func (r Rule) For(method string) Next {
	if Reads(method) {
		return r.Read
	}
	return r.Write
}

// Reads reports whether a method changes nothing, so that it may be sent any number
// of times.
func Reads(method string) bool { return method == "GET" || method == "HEAD" }

// A server that answers in the place of another says with this header whether any
// server acted on the request.
const (
	Header = "X-Keelson-Outcome"
	Unsent = "unsent"
	Lost   = "unknown"
)
