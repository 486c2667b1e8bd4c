// Package engine is the leader's controller: it runs the scheduler and writes its decisions.
package engine
