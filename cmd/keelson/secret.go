package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// readSecret reads a line of standard input. Where somebody types it, the terminal
// does not show it.
func readSecret() (string, error) {
	fd := int(os.Stdin.Fd())
	if was, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		silent := *was
		silent.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
			return "", err
		}
		defer unix.IoctlSetTermios(fd, unix.TCSETS, was)
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
