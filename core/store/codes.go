package store

import "fmt"

// Code is an error code of the v2 keys API. The codes, their messages and HTTP
// statuses stand in one table that the store, the gateway, the client and the
// reference page share.
type Code int

// The codes that servers send.
const (
	CodeKeyNotFound      Code = 100
	CodeCompareFailed    Code = 101
	CodeNotFile          Code = 102
	CodeNotDir           Code = 104
	CodeExists           Code = 105
	CodeKeyword          Code = 106
	CodeRootReadOnly     Code = 107
	CodeDirNotEmpty      Code = 108
	CodeUnauthorized     Code = 110
	CodePrevValueEmpty   Code = 201
	CodeTTLNotNumber     Code = 202
	CodeIndexNotNumber   Code = 203
	CodeInvalidField     Code = 209
	CodeInvalidForm      Code = 210
	CodeRefreshWithValue Code = 211
	CodeRefreshNoTTL     Code = 212
	CodeRaftInternal     Code = 300
	CodeLeaderElection   Code = 301
	CodeWatcherCleared   Code = 400
	CodeIndexCleared     Code = 401
)

type codeInfo struct {
	code    Code
	status  int
	message string
}

// codes is sorted by code. A status of 0 stands for 400: those codes are known
// to clients but never sent.
var codes = []codeInfo{
	{100, 404, "Key not found"},
	{101, 412, "Compare failed"},
	{102, 403, "Not a file"},
	{103, 0, "Reached the max number of peers in the cluster"},
	{104, 400, "Not a directory"},
	{105, 412, "Key already exists"},
	{106, 400, "The prefix of given key is a keyword in etcd"},
	{107, 400, "Root is read only"},
	{108, 403, "Directory not empty"},
	{109, 0, "Peer address has existed"},
	{110, 401, "The request requires user authentication"},
	{200, 0, "Value is Required in POST form"},
	{201, 400, "PrevValue is Required in POST form"},
	{202, 400, "The given TTL in POST form is not a number"},
	{203, 400, "The given index in POST form is not a number"},
	{204, 0, "Value or TTL is required in POST form"},
	{205, 0, "The given timeout in POST form is not a number"},
	{206, 0, "Name is required in POST form"},
	{207, 0, "Index or value is required"},
	{208, 0, "Index and value cannot both be specified"},
	{209, 400, "Invalid field"},
	{210, 400, "Invalid POST form"},
	{211, 400, "Value provided on refresh"},
	{212, 400, "A TTL must be provided on refresh"},
	{300, 500, "Raft Internal Error"},
	{301, 500, "During Leader Election"},
	{400, 400, "watcher is cleared due to etcd recovery"},
	{401, 400, "The event in requested index is outdated and cleared"},
	{402, 0, "Standby Internal Error"},
	{403, 0, "Invalid active size"},
	{404, 0, "Standby remove delay"},
	{500, 0, "Client Internal Error"},
}

func (c Code) info() codeInfo {
	for _, i := range codes {
		if i.code == c {
			return i
		}
	}
	return codeInfo{code: c}
}

// Message is the code's text, empty for an unknown code.
func (c Code) Message() string { return c.info().message }

// Status is the HTTP status that goes with the code.
func (c Code) Status() int {
	if s := c.info().status; s != 0 {
		return s
	}
	return 400
}

// Error gives the text that etcdctl prints: code, message, cause and index.
func (e *Error) Error() string {
	return fmt.Sprintf("%d: %s (%s) [%d]", int(e.Code), e.Code.Message(), e.Cause, e.Index)
}
