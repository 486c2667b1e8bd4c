package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is one keep-alive HTTP/1.1 connection that costs as little as can be, so
// that the load generator takes few cycles from the servers it shares a machine
// with.
type conn struct {
	addr string
	c    net.Conn
	r    *bufio.Reader

	index uint64 // X-Etcd-Index of the last answer
}

func (c *conn) dial() error {
	if c.c != nil {
		return nil
	}
	nc, err := net.DialTimeout("tcp", c.addr, time.Second)
	if err != nil {
		return err
	}
	c.c, c.r = nc, bufio.NewReaderSize(nc, 4096)
	return nil
}

func (c *conn) close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}

// do sends one request and reads its answer. The body is valid until the next
// call where keep is set, and skipped otherwise. A deadline of 0 is none.
func (c *conn) do(req []byte, keep bool, deadline time.Duration) (status int, body []byte, err error) {
	if err := c.dial(); err != nil {
		return 0, nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if deadline > 0 {
		c.c.SetDeadline(time.Now().Add(deadline))
	}
	if _, err := c.c.Write(req); err != nil {
		return 0, nil, err
	}
	status, length, chunked, err := c.head()
	if err != nil {
		return 0, nil, err
	}
	if chunked {
		body, err = c.chunks()
		return status, body, err
	}
	if !keep {
		_, err = c.r.Discard(length)
		return status, nil, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(c.r, body)
	return status, body, err
}

func (c *conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

func (c *conn) head() (status, length int, chunked bool, err error) {
	line, err := c.line()
	if err != nil {
		return 0, 0, false, err
	}
	if len(line) < 12 {
		return 0, 0, false, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, false, err
	}
	for {
		if line, err = c.line(); err != nil || len(line) == 0 {
			return status, length, chunked, err
		}
		if v, ok := cutFold(line, "content-length:"); ok {
			if length, err = strconv.Atoi(string(v)); err != nil {
				return 0, 0, false, err
			}
		}
		if v, ok := cutFold(line, "x-etcd-index:"); ok {
			if c.index, err = strconv.ParseUint(string(v), 10, 64); err != nil {
				return 0, 0, false, err
			}
		}
		if v, ok := cutFold(line, "transfer-encoding:"); ok {
			chunked = bytes.EqualFold(v, []byte("chunked"))
		}
	}
}

func cutFold(line []byte, name string) ([]byte, bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name):]), true
}

// chunks reads a whole chunked body.
func (c *conn) chunks() ([]byte, error) {
	var body []byte
	for {
		p, err := c.chunk()
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		body = append(body, p...)
	}
}

// chunk reads one chunk; io.EOF says that it was the last.
func (c *conn) chunk() ([]byte, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(string(line), 16, 32)
	if err != nil {
		return nil, err
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(c.r, p); err != nil {
		return nil, err
	}
	if _, err := c.line(); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	return p, nil
}

const form = "application/x-www-form-urlencoded"

// request builds the bytes of one request; an empty body is none.
func request(method, path, body string) []byte {
	b := make([]byte, 0, 128+len(path)+len(body))
	b = append(append(append(append(b, method...), ' '), path...), " HTTP/1.1\r\nHost: bench\r\n"...)
	if body != "" {
		b = append(b, "Content-Type: "+form+"\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
	}
	return append(append(b, "\r\n"...), body...)
}
