package registry

import "strings"

// kind is what a key of the registry holds.
type kind uint8

const (
	foreign kind = iota // nothing of ours
	isDir               // a directory of ours, or above
	isObject
	isTargetState
	isTarget
	isJobState
	isClaim
	isMove
	isContents
	isState
	isMachine
	isMetadata
	isCordon
	isAssignment
	isGlobal
	isLease
	isVersion
)

// slot is a key taken apart: a is the name of a unit, a hash or a machine ID; b is the
// machine ID of a state, the metadata key, or the name of an assignment.
type slot struct {
	kind kind
	a, b string
}

// leaves are the keys of two elements or fewer below the prefix that end in a name: their
// first element, and what they hold.
var leaves = map[string]kind{"unit": isContents, "global": isGlobal, "moves": isMove}

// jobLeaves are the keys below job/NAME.
var jobLeaves = map[string]kind{
	"object": isObject, "target-state": isTargetState, "target": isTarget, "job-state": isJobState, "claim": isClaim,
}

// split takes a key of the registry apart. The elements are those of a directory.
func (k Keys) split(key string) (s slot, elements []string) {
	rest, ok := strings.CutPrefix(key, k.Prefix+"/")
	if !ok {
		if key == k.Prefix || strings.HasPrefix(k.Prefix, strings.TrimSuffix(key, "/")+"/") {
			return slot{kind: isDir}, nil
		}
		return slot{}, nil
	}
	e := strings.Split(rest, "/")
	switch len(e) {
	case 1:
		return slot{kind: isDir}, e
	case 2:
		return pair(e), e
	case 3:
		return triple(e), e
	case 4:
		if e[0] == "machines" && e[2] == "metadata" {
			return slot{isMetadata, e[1], e[3]}, e
		}
		if e[0] == "machines" && e[2] == "units" {
			return slot{isAssignment, e[1], e[3]}, e
		}
	}
	return slot{}, e
}

func pair(e []string) slot {
	switch {
	case leaves[e[0]] != foreign:
		return slot{kind: leaves[e[0]], a: e[1]}
	case e[0] == "lease" && e[1] == "engine-leader":
		return slot{kind: isLease}
	case e[0] == "engine" && e[1] == "version":
		return slot{kind: isVersion}
	case e[0] == "job", e[0] == "states", e[0] == "machines":
		return slot{kind: isDir}
	}
	return slot{}
}

func triple(e []string) slot {
	switch {
	case e[0] == "job":
		return slot{kind: jobLeaves[e[2]], a: e[1]}
	case e[0] == "states":
		return slot{isState, e[1], e[2]}
	case e[0] == "machines" && e[2] == "object":
		return slot{kind: isMachine, a: e[1]}
	case e[0] == "machines" && e[2] == "cordon":
		return slot{kind: isCordon, a: e[1]}
	case e[0] == "machines" && (e[2] == "metadata" || e[2] == "units"):
		return slot{kind: isDir}
	}
	return slot{}
}
