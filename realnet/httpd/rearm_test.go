package httpd

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A client that polls asks again the moment it has an answer, on the same
// connection. The request may arrive before the server has noted that the answer
// before it is written; it must be served all the same.
func TestLongPollIsAskedAgainAtOnce(t *testing.T) {
	const clients, rounds = 100, 40
	f := start(t, nil)
	got := make(chan error, clients)
	for range clients {
		r := dial(t, f.addr)
		go func() {
			for next := 1; next <= rounds; next++ {
				fmt.Fprint(r, get(fmt.Sprintf("/v2/keys/polled?wait=true&waitIndex=%d", next)))
				resp, err := http.ReadResponse(r.in, nil)
				if err == nil {
					_, err = io.ReadAll(resp.Body)
				}
				got <- err
				if err != nil {
					return
				}
			}
		}()
	}
	for range rounds {
		do(t, "PUT", f.url+"/v2/keys/polled", "value=x")
		for range clients {
			select {
			case err := <-got:
				require.NoError(t, err)
			case <-time.After(20 * time.Second):
				t.Fatal("a poll that was asked again got no answer")
			}
		}
	}
}
