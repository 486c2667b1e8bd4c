// Package node is one machine: the loop's body, and the wiring of everything it runs.
package node
