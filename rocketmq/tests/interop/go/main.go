// The interop command: interop SECONDS NAME,NAMESERVER,PREFIX...
//
// On each cluster it sends every type of message to the topics PREFIX-theirs and PREFIX-theirs-ordered, and handles what comes in PREFIX-ours and
// PREFIX-ours-ordered, by Apache's Go client. It prints one JSON object a line for each thing that happens, as its Java counterpart does. It ends well when
// standard input ends, badly when that takes longer than SECONDS or something fails.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

func main() {
	rlog.SetLogLevel("warn")
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
	// The client's goroutines do not matter any more.
	os.Exit(0)
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: interop SECONDS NAME,NAMESERVER,PREFIX...")
	}
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()

	var senders []*sender
	var readers []*reader
	for _, arg := range args[1:] {
		words := strings.Split(arg, ",")
		if len(words) != 3 {
			return fmt.Errorf("%q is not NAME,NAMESERVER,PREFIX", arg)
		}
		out := events{cluster: words[0]}
		r, err := newReader(out, words[1], words[2])
		if err != nil {
			return err
		}
		readers = append(readers, r)
		s, err := newSender(out, words[1], words[2])
		if err != nil {
			return err
		}
		senders = append(senders, s)
	}
	for _, s := range senders {
		if err := s.sendAll(); err != nil {
			return err
		}
	}
	select {
	case <-ended:
	case <-time.After(time.Duration(seconds) * time.Second):
		return fmt.Errorf("standard input has not ended within %d s", seconds)
	}
	for _, r := range readers {
		if err := r.shutdown(); err != nil {
			return err
		}
	}
	for _, s := range senders {
		if err := s.shutdown(); err != nil {
			return err
		}
	}
	return nil
}
