package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// reactor is a load generator on one thread: it waits for all its sockets at once
// and does two system calls for a request, so that on a machine that it shares with
// the servers the servers are what is measured.
type reactor struct {
	epoll int
	socks map[int32]*sock
}

// sock is one connection. Take is called with what has arrived; it says how much
// of that it has used, and gives what is to be sent then, if anything.
type sock struct {
	fd   int
	in   []byte
	take func(p []byte) (used int, send []byte, err error)
}

// reply is one answer. It is valid until the call that it was passed to returns.
type reply struct {
	status int
	index  uint64 // X-Etcd-Index
	body   []byte
}

func newReactor() (*reactor, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &reactor{epoll: fd, socks: make(map[int32]*sock)}, err
}

func (r *reactor) close() {
	for _, s := range r.socks {
		unix.Close(s.fd)
	}
	unix.Close(r.epoll)
}

// open connects to addr.
func (r *reactor) open(addr string, take func(p []byte) (int, []byte, error)) (*sock, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	to := &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	err = errors.Join(unix.Connect(fd, to), unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	s := &sock{fd: fd, in: make([]byte, 0, 4096), take: take}
	r.socks[int32(fd)] = s
	return s, nil
}

func (s *sock) send(p []byte) error {
	n, err := unix.Write(s.fd, p)
	if err == nil && n < len(p) {
		err = errors.New("the server takes no more requests")
	}
	return err
}

// run serves the sockets until done says so, which is asked at least each
// millisecond. An answer that takes longer than limit is an error.
func (r *reactor) run(limit time.Duration, done func() bool) error {
	events := make([]unix.EpollEvent, 128)
	heard := time.Now()
	for !done() {
		n, err := unix.EpollWait(r.epoll, events, 1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			heard = time.Now()
		} else if time.Since(heard) > limit {
			return fmt.Errorf("no answer within %v", limit)
		}
		for _, e := range events[:max(n, 0)] {
			if err := r.socks[e.Fd].readable(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sock) readable() error {
	if cap(s.in)-len(s.in) < 2048 {
		s.in = append(make([]byte, 0, 2*cap(s.in)), s.in...)
	}
	n, err := unix.Read(s.fd, s.in[len(s.in):cap(s.in)])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return io.ErrUnexpectedEOF
	}
	s.in = s.in[:len(s.in)+n]
	used, next, err := s.take(s.in)
	s.in = append(s.in[:0], s.in[used:]...)
	if err == nil && next != nil {
		err = s.send(next)
	}
	return err
}

// whole passes each whole reply to fn, which gives the next request, or none to be
// left alone.
func whole(fn func(*reply) ([]byte, error)) func(p []byte) (int, []byte, error) {
	return func(p []byte) (int, []byte, error) {
		r, size, err := parseReply(p)
		if err != nil || size == 0 {
			return 0, nil, err
		}
		next, err := fn(&r)
		return size, next, err
	}
}

// parseReply reads a whole reply at the start of p; a size of 0 says that there is
// more to come.
func parseReply(p []byte) (r reply, size int, err error) {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		return r, 0, nil
	}
	if end < 12 {
		return r, 0, fmt.Errorf("status line %q", p[:end])
	}
	if r.status, err = strconv.Atoi(string(p[9:12])); err != nil {
		return r, 0, err
	}
	length, chunked := 0, false
	for line := range bytes.SplitSeq(p[:end], []byte("\r\n")) {
		if v, ok := cutFold(line, "content-length:"); ok {
			length, err = strconv.Atoi(string(v))
		} else if v, ok := cutFold(line, "x-etcd-index:"); ok {
			r.index, err = strconv.ParseUint(string(v), 10, 64)
		} else if v, ok := cutFold(line, "transfer-encoding:"); ok {
			chunked = bytes.EqualFold(v, []byte("chunked"))
		}
		if err != nil {
			return r, 0, err
		}
	}
	size = end + 4 + length
	if chunked {
		stop := bytes.Index(p[end+4:], []byte("\r\n0\r\n\r\n"))
		if stop < 0 {
			return r, 0, nil
		}
		size = end + 4 + stop + 7
	}
	if size > len(p) {
		return r, 0, nil
	}
	r.body = p[end+4 : size]
	return r, size, nil
}
