// Package sched decides where each unit should run: a plan from a picture, with a reason for every choice and refusal.
//
// It is pure and incremental. What changes is told to a State, which remembers what that
// can affect; Plan decides those units again, in the order of their names, and nothing
// else. Equal histories of calls give equal plans.
//
// What it is told counts for more than what it decided: whoever could not carry a decision
// out tells of the unit again as it is, and the next plan decides anew.
//
// Always true after a plan, and checked against a plain version over the whole picture:
//
//   - Each unit on a machine may be there: the machine is alive and fits what the unit asks
//     for, the units it must be with are there, and none that it conflicts with, in either
//     direction.
//   - A unit that waits can be had by no machine.
//   - Another plan decides nothing.
//   - No unit has left a machine where it may stay, unless it was asked to, the machine is
//     drained, or a unit that replaces it has come.
package sched
