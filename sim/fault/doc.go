// Package fault holds the families of trouble that a simulated cluster meets, and the plans made of them.
//
// A Plan is a list of actions with absolute virtual times, drawn from a seed
// before the world exists. It prints itself as text, one line for each action,
// reads that text back, and is carried out without the generator that made it:
// a plan that breaks something can be kept, edited by hand and shrunk.
//
// A line is
//
//	TIME VERB [WHOM [-> WHOM] [| WHOM]…] [NAME=VALUE]… [for DURATION]
//
// such as
//
//	4.2s partition n1 n2 | n3 for 6s
//	9s   kill leader
//	11s  links loss=0.2 latency=20ms for 10s
//
// WHOM is names of machines, "leader" for who leads at that moment, "followers",
// or "all". Blank lines and lines that begin with # are passed over. What lasts
// "for" a while is undone at its end; all that is still in force when a plan is
// ended is undone then.
//
// Families are independent: any set of them makes a legal plan, because what
// they do adds up and is undone by itself. Only damage to durable data is
// rationed over the whole plan, so that a majority keeps sound disks.
package fault
