package proxy

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

func TestPassesRequestsOn(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	assert.True(t, p.Ready())
	assert.ElementsMatch(t, []string{"http://a:2379", "http://b:2379", "http://c:2379"}, p.Endpoints())
	w.everywhere(says(201, `{"action":"set"}`, env.WebHeader{Name: "X-Etcd-Index", Value: "7"}, env.WebHeader{Name: "Connection", Value: "X-Secret"},
		env.WebHeader{Name: "X-Secret", Value: "1"}, env.WebHeader{Name: "Content-Length", Value: "16"}))
	c := &caller{}
	p.Serve(&gateway.Request{
		Method: "PUT", Path: "/v2/keys/a%20b", Query: "prevExist=false", Body: []byte("value=1"), Remote: "10.0.0.9:1234",
		ContentType: "application/x-www-form-urlencoded", User: "root", Password: "x",
		Header: []gateway.Header{
			{Name: "Host", Value: "here"},
			{Name: "Connection", Value: "close, X-Mine"},
			{Name: "X-Mine", Value: "1"},
			{Name: "Keep-Alive", Value: "5"},
			{Name: "Te", Value: "trailers"},
			{Name: "X-Forwarded-For", Value: "10.0.0.8"},
			{Name: "User-Agent", Value: "curl"},
		},
	}, c)
	w.run(p, time.Second)
	require.NotNil(t, c.reply)
	assert.Equal(t, &gateway.Reply{Status: 201, Body: []byte(`{"action":"set"}`), Header: []gateway.Header{{Name: "X-Etcd-Index", Value: "7"}}}, c.reply)
	require.Len(t, w.asked, 1)
	got := w.asked[0]
	assert.Equal(t, "PUT", got.Method)
	assert.Equal(t, "value=1", string(got.Body))
	assert.Contains(t, got.URL, ":2379/v2/keys/a%20b?prevExist=false")
	assert.Equal(t, []env.WebHeader{
		{Name: "User-Agent", Value: "curl"},
		{Name: "Content-Type", Value: "application/x-www-form-urlencoded"},
		{Name: "Authorization", Value: "Basic cm9vdDp4"},
		{Name: "X-Forwarded-For", Value: "10.0.0.8, 10.0.0.9"},
		{Name: "Via", Value: "1.1 " + p.name},
	}, got.Header)
	assert.Positive(t, got.Connect)
}

func TestAnErrorOfAMemberIsFinal(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.everywhere(says(500, `{"errorCode":300}`))
	c := w.ask(p, "GET", "/v2/keys/a")
	assert.Equal(t, 500, c.reply.Status)
	assert.Len(t, w.asked, 1)
}

func TestGoesOnToTheNextMember(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	first := p.Endpoints()[0]
	w.everywhere(says(200, "ok"))
	w.answer[first] = nil
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		w.asked = nil
		c := w.ask(p, method, "/v2/keys/a")
		assert.Equal(t, "ok", string(c.reply.Body), method)
		assert.NotContains(t, p.Endpoints(), first, "it is left alone for a while")
		w.run(p, 5*time.Second)
		assert.Contains(t, p.Endpoints(), first)
	}
}

func TestAWriteIsNotSentTwiceUnlessNobodySawIt(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.everywhere(func(_ *env.WebRequest, r env.WebReceiver) { r.End(errors.New("connection reset")) })
	for _, method := range []string{"PUT", "POST", "DELETE", "PATCH"} {
		w.asked = nil
		c := w.ask(p, method, "/v2/keys/a")
		require.Len(t, w.asked, 1, method)
		assert.Equal(t, 502, c.reply.Status)
		assert.Regexp(t, `^\{"message":"proxy: the outcome is unknown: http://.:2379: connection reset"\}$`, string(c.reply.Body))
		w.run(p, 5*time.Second)
	}
	w.asked = nil
	c := w.ask(p, "GET", "/v2/keys/a")
	assert.Len(t, w.asked, 3)
	assert.Equal(t, 502, c.reply.Status)
	assert.Equal(t, `{"message":"proxy: unable to get response from 3 endpoint(s)"}`, string(c.reply.Body))
	c = w.ask(p, "GET", "/v2/keys/a")
	assert.Equal(t, 503, c.reply.Status)
	assert.Equal(t, `{"message":"proxy: zero endpoints currently available"}`, string(c.reply.Body))
}

func TestAnAnswerCutShort(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.everywhere(says(200, "whole"))
	cut := func(_ *env.WebRequest, r env.WebReceiver) {
		r.Head(200, nil)
		r.Chunk([]byte("wh"))
		r.End(errors.New("connection reset"))
	}
	w.answer[p.Endpoints()[0]] = cut
	assert.Equal(t, "whole", string(w.ask(p, "GET", "/v2/keys/a").reply.Body))
	w.everywhere(cut)
	assert.Equal(t, 502, w.ask(p, "PUT", "/v2/keys/a").reply.Status)
}

func TestReadOnly(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{ReadOnly: true})
	w.everywhere(says(200, "ok"))
	for _, method := range []string{"HEAD", "PUT", "POST", "DELETE", "OPTIONS"} {
		c := w.ask(p, method, "/v2/keys/a")
		assert.Equal(t, 501, c.reply.Status, method)
		assert.Empty(t, c.reply.Body)
	}
	assert.Equal(t, 200, w.ask(p, "GET", "/v2/keys/a").reply.Status)
	assert.Equal(t, 200, w.ask(p, "GET", "/v2/config/local/proxy").reply.Status)
}

func TestConfigPage(t *testing.T) {
	w := newWorld()
	w.lists = ""
	p := w.open(t, Config{})
	assert.False(t, p.Ready())
	assert.Equal(t, "{\"endpoints\":[]}\n", string(w.ask(p, "GET", "/v2/config/local/proxy").reply.Body))
	assert.Equal(t, 503, w.ask(p, "GET", "/version").reply.Status)
	w.lists = `[{"id":1,"peerURLs":["http://a:2380"],"clientURLs":["http://a:2379"]}]`
	w.run(p, time.Second)
	assert.Equal(t, "{\"endpoints\":[\"http://a:2379\"]}\n", string(w.ask(p, "GET", "/v2/config/local/proxy").reply.Body))
	assert.Equal(t, 405, w.ask(p, "PUT", "/v2/config/local/proxy").reply.Status)
	assert.Empty(t, w.asked)
}

func TestNotesWhereTheMembersAre(t *testing.T) {
	w := newWorld()
	w.lists = ""
	p := w.open(t, Config{})
	assert.JSONEq(t, `{"PeerURLs":["http://a:2380"]}`, string(w.files["cluster"]), "before any member has answered")
	w.lists = three
	w.run(p, 2*time.Second)
	assert.JSONEq(t, `{"PeerURLs":["http://a:2380","http://b:2380","http://c:2380"]}`, string(w.files["cluster"]))

	w.full, w.lists = true, `[{"id":4,"peerURLs":["http://d:2380"],"clientURLs":["http://d:2379"]}]`
	w.run(p, time.Minute)
	assert.Equal(t, []string{"http://d:2379"}, p.Endpoints())
	w.full = false
	w.run(p, time.Minute)
	assert.JSONEq(t, `{"PeerURLs":["http://d:2380"]}`, string(w.files["cluster"]))

	w.lists = ""
	again := w.open(t, Config{PeerURLs: []string{"http://old:2380"}})
	assert.Equal(t, []string{"http://d:2380"}, again.PeerURLs(), "what was noted wins")

	w.files["cluster"] = []byte("{")
	again = w.open(t, Config{PeerURLs: []string{"http://old:2380"}})
	assert.Equal(t, []string{"http://old:2380"}, again.PeerURLs())
	_, err := Open(Config{}, w.env())
	assert.NoError(t, err, "the note was replaced")
	w.files["cluster"] = []byte(`{"PeerURLs":["nonsense"]}`)
	_, err = Open(Config{}, w.env())
	assert.ErrorContains(t, err, "remove it")
}

func TestKeepsItsMembersWhileNobodyAnswers(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.lists = ""
	w.run(p, 2*time.Minute)
	assert.Len(t, p.Endpoints(), 3)
	w.lists = `[]`
	w.run(p, 2*time.Minute)
	assert.Len(t, p.Endpoints(), 3, "an empty list is no list")
	w.lists = `[{"id":4,"peerURLs":["http://d:2380"],"clientURLs":["http://d:2379"]}]`
	w.run(p, 2*time.Second)
	assert.Equal(t, []string{"http://d:2379"}, p.Endpoints(), "it looks every second while nobody answers")
}

func TestFollowsAnotherClusterOnlyIfItsOwnIsGone(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.of = "beef"
	w.lists = `[{"id":4,"peerURLs":["http://a:2380"],"clientURLs":["http://new:2379"]}]`
	w.run(p, time.Minute)
	assert.Equal(t, []string{"http://new:2379"}, p.Endpoints())
	assert.Contains(t, w.log, "proxy: another cluster answers where the members were, and is followed")
}

func TestWatchStreamsAndEndsBehindAWholeEvent(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	var to env.WebReceiver
	w.everywhere(func(_ *env.WebRequest, r env.WebReceiver) {
		to = r
		r.Head(200, []env.WebHeader{{Name: "X-Etcd-Index", Value: "7"}})
	})
	c := w.ask(p, "GET", "/v2/keys/a?wait=true&stream=true")
	require.NotNil(t, c.reply)
	assert.True(t, c.reply.More)
	to.Chunk([]byte("{1}\n{2"))
	to.Chunk([]byte("}\n{3"))
	assert.Equal(t, "{1}\n{2}\n", c.stream)
	to.End(errors.New("connection reset"))
	assert.Equal(t, "{1}\n{2}\n", c.stream)
	assert.True(t, c.ended)
	assert.False(t, c.broken)
}

func TestSlowReaderLosesItsStream(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	var to env.WebReceiver
	w.everywhere(func(_ *env.WebRequest, r env.WebReceiver) { to = r; r.Head(200, nil) })
	c := w.ask(p, "GET", "/v2/keys/a?wait=true")
	c.slow = true
	to.Chunk([]byte("{1}\n"))
	assert.True(t, c.ended)
	assert.Nil(t, p.calls.first)
}

// A large answer that is taken too slowly must not look whole.
func TestSlowReaderOfALargeAnswerSeesItCut(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	var to env.WebReceiver
	w.everywhere(func(_ *env.WebRequest, r env.WebReceiver) { to = r; r.Head(200, nil) })
	c := w.ask(p, "GET", "/v2/snapshot")
	c.slow = true
	to.Chunk(make([]byte, keepMax+1))
	assert.True(t, c.broken)
	assert.False(t, c.ended)
	assert.Nil(t, p.calls.first)
}

func TestLoopIsRefused(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.everywhere(func(req *env.WebRequest, r env.WebReceiver) { // each member's URL leads back here
		back := &gateway.Request{Method: req.Method, Path: "/v2/keys/a"}
		for _, h := range req.Header {
			back.Header = append(back.Header, gateway.Header(h))
		}
		c := &caller{}
		p.Serve(back, c)
		require.NotNil(t, c.reply)
		says(c.reply.Status, string(c.reply.Body), env.WebHeader(c.reply.Header[1]))(req, r)
	})
	c := w.ask(p, "PUT", "/v2/keys/a")
	assert.Equal(t, 508, c.reply.Status)
	assert.Contains(t, string(c.reply.Body), "advertise-client-urls")
	assert.Len(t, w.asked, 3, "each was tried once")
	assert.Equal(t, 508, w.ask(p, "GET", "/v2/keys/a").reply.Status, "while they are left alone, too")

	p = w.open(t, Config{OwnURLs: []string{"HTTP://A:2379/"}})
	assert.ElementsMatch(t, []string{"http://b:2379", "http://c:2379"}, p.Endpoints())

	far := &gateway.Request{Method: "GET", Path: "/"}
	for range hopsMax {
		far.Header = append(far.Header, gateway.Header{Name: "Via", Value: "1.1 keelson-1"})
	}
	c = &caller{}
	p.Serve(far, c)
	assert.Equal(t, 508, c.reply.Status)
}

func TestMembersThatKeepOthersWaitingComeLast(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.everywhere(says(200, "ok"))
	first := p.Endpoints()[0]
	w.answer[first] = func(*env.WebRequest, env.WebReceiver) {}
	c, write := w.ask(p, "GET", "/v2/keys/a"), w.ask(p, "PUT", "/v2/keys/a")
	assert.Nil(t, c.reply)
	w.run(p, time.Second)
	assert.Equal(t, "ok", string(c.reply.Body), "a read goes on to the next")
	assert.Nil(t, write.reply)
	assert.Equal(t, first, p.Endpoints()[2])
	assert.NotNil(t, w.ask(p, "GET", "/v2/keys/a").reply)
}

func TestReadTimeout(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{ReadTimeout: 2 * time.Second})
	w.everywhere(func(_ *env.WebRequest, r env.WebReceiver) { r.Head(200, nil) })
	watch := w.ask(p, "GET", "/v2/keys/a?wait=true")
	write := w.ask(p, "PUT", "/v2/keys/a")
	w.run(p, 3*time.Second)
	assert.True(t, watch.ended)
	assert.Equal(t, 502, write.reply.Status)
}

func TestStop(t *testing.T) {
	w := newWorld()
	p := w.open(t, Config{})
	w.everywhere(func(req *env.WebRequest, r env.WebReceiver) {
		if req.Method == "GET" {
			r.Head(200, nil)
		}
	})
	watch := w.ask(p, "GET", "/v2/keys/a?wait=true")
	read := w.ask(p, "GET", "/v2/keys/a")
	write := w.ask(p, "PUT", "/v2/keys/a")
	gone := &caller{}
	p.Serve(&gateway.Request{Method: "PUT", Path: "/"}, gone)()
	stopped := false
	p.Stop(func() { stopped = true })
	assert.True(t, stopped)
	assert.True(t, watch.ended)
	assert.Equal(t, 503, read.reply.Status)
	assert.Equal(t, 502, write.reply.Status)
	assert.Nil(t, gone.reply)
	assert.Equal(t, 503, w.ask(p, "GET", "/").reply.Status)
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(three))
	f.Add([]byte(`[{"peerURLs":[null,"http://"]}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseList(text)
		if err == nil {
			assert.NotEmpty(t, l.peers)
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"PeerURLs":["http://a:2380"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		peers, err := parseNote(text)
		if err != nil {
			return
		}
		again, err := parseNote(encode(noted{peers}))
		require.NoError(t, err)
		assert.Equal(t, peers, again)
	})
}
