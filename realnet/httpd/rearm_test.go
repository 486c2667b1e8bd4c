package httpd

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A client that polls asks again the moment it has an answer, on the same
// connection. The request may arrive before the server has noted that the answer
// before it is written; it must be served all the same. Sending it while the
// watch is still open makes sure that it does.
func TestRequestOnTheHeelsOfAWatchIsServed(t *testing.T) {
	f := start(t, nil)
	r := dial(t, f.addr)
	r.send(get("/v2/keys/polled?wait=true"))
	watch := r.head()
	r.send(get("/v2/keys/polled"))
	time.Sleep(50 * time.Millisecond) // for the server to read it; too short a time makes the test easier, not wrong
	do(t, "PUT", f.url+"/v2/keys/polled", "value=x")
	event, err := io.ReadAll(watch.Body)
	require.NoError(t, err)
	require.Contains(t, string(event), `"action":"set"`)
	status, body := r.answer()
	require.Equal(t, 200, status)
	require.Contains(t, body, `"value":"x"`)
}

// A body that cannot be read is a bad form like any other, and ends the
// connection.
func TestMalformedChunkIsABadForm(t *testing.T) {
	f := start(t, nil)
	r := dial(t, f.addr)
	r.send("PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n" + form + "Transfer-Encoding: chunked\r\n\r\nZZ\r\n")
	status, body := r.answer()
	require.Equal(t, 400, status)
	require.JSONEq(t, `{"errorCode":210,"message":"Invalid POST form","cause":"invalid byte in chunk length","index":0}`, body)
	_, err := r.in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

// The history may hold a thousand large values. A reader that asks for all of them
// gets as much as one stream may hold, the end of the body, and the rest when it
// resumes.
func TestHistoryIsReplayedInBoundedPieces(t *testing.T) {
	f := start(t, nil)
	const events, size = 60, 1 << 20
	writer := dial(t, f.addr)
	for range events {
		writer.send(put("/h/a", strings.Repeat("x", size)))
		writer.answer()
	}
	next, pieces := 1, 0
	for next <= events {
		r := dial(t, f.addr)
		r.send(get(fmt.Sprintf("/v2/keys/h?wait=true&recursive=true&stream=true&waitIndex=%d", next)))
		if pieces == 0 {
			require.Eventually(t, func() bool { return f.watches() == 0 }, 10*time.Second, time.Millisecond, "an idle reader holds the whole history")
		}
		r.SetReadDeadline(time.Now().Add(2 * time.Second))
		in := json.NewDecoder(r.head().Body)
		got := 0
		for {
			var e struct{ Node struct{ ModifiedIndex int } }
			if in.Decode(&e) != nil {
				break
			}
			require.Equal(t, next, e.Node.ModifiedIndex)
			next, got = next+1, got+size
		}
		require.LessOrEqual(t, got, bytesMax)
		pieces++
	}
	require.Greater(t, pieces, 1)
}
