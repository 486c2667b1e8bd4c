// Package sched decides where each unit should run: a plan from a picture, with a reason for every choice and refusal.
//
// It is pure and incremental. What changes is told to a State, which remembers what that
// can affect; Plan decides those units again, in the order of their names, and nothing
// else. Equal histories of calls give equal plans.
package sched
