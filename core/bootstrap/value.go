package bootstrap

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
)

// serviceError is a refusal of the keys API.
type serviceError struct {
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause"`
	Index   uint64 `json:"index"`
}

func (e *serviceError) Error() string {
	return fmt.Sprintf("%d: %s (%s) [%d]", e.Code, e.Message, e.Cause, e.Index)
}

// keyNode is a key as a discovery service gives it.
type keyNode struct {
	Key     string    `json:"key"`
	Value   string    `json:"value"`
	Dir     bool      `json:"dir"`
	Created uint64    `json:"createdIndex"`
	Nodes   []keyNode `json:"nodes"`
}

// parseNode reads an answer of the keys API. An error of the service is a
// *serviceError.
func parseNode(a *answer) (*keyNode, error) {
	if a.status != 200 && a.status != 201 {
		no := &serviceError{}
		if json.Unmarshal(a.body, no) != nil || no.Code == 0 {
			return nil, errBadEndpoint
		}
		return nil, no
	}
	var event struct {
		Node *keyNode `json:"node"`
	}
	if json.Unmarshal(a.body, &event) != nil || event.Node == nil {
		return nil, errBadEndpoint
	}
	return event.Node, nil
}

// sizeMax bounds what a token may ask for.
const sizeMax = 1000

// parseSize reads how many members a token is for.
func parseSize(a *answer) (int, error) {
	node, err := parseNode(a)
	if err != nil {
		return 0, err
	}
	if node.Dir {
		return 0, errSizeNotFound
	}
	size, err := strconv.Atoi(node.Value)
	if err != nil || size < 1 || size > sizeMax {
		return 0, errBadSize
	}
	return size, nil
}

// directory is what a token holds.
type directory struct {
	members []registration // in the order in which they came
	index   uint64         // of the service, when it was read
}

// registration is one member of a token: its ID, and NAME=URL,….
type registration struct {
	id      string
	value   string
	created uint64
}

// parseDirectory reads what a token holds, but for its configuration.
func parseDirectory(a *answer) (*directory, error) {
	node, err := parseNode(a)
	if err != nil {
		return nil, err
	}
	d := &directory{}
	d.index, _ = strconv.ParseUint(a.get("X-Etcd-Index"), 10, 64)
	for _, n := range node.Nodes {
		id := path.Base(n.Key)
		if n.Dir || id == "_config" {
			continue
		}
		d.members = append(d.members, registration{id, n.Value, n.Created})
		d.index = max(d.index, n.Created)
	}
	slices.SortStableFunc(d.members, func(x, y registration) int {
		switch {
		case x.created < y.created:
			return -1
		case x.created > y.created:
			return 1
		}
		return 0
	})
	return d, nil
}
