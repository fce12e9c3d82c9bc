package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/slipway-vm/slipway/guest/share"
)

// consoleInterval is the time between two looks at a server and its console.
const consoleInterval = time.Second

// novaWatch follows a server by its console, which is all that Nova shows of it.
type novaWatch struct {
	*novaBoot
	console consoleReader
	stops   int // signals that came
}

// follow shows the entrypoint's output until it has ended, with whose status it ends;
// with --detach until there is some.
func (w *novaWatch) follow(ctx context.Context, signals <-chan os.Signal) (err error) {
	if w.spec.AutoRemove && !w.detach {
		defer func() {
			w.show.show("delete server")
			err = errors.Join(err, w.remove(ctx))
		}()
	}
	var timeout <-chan time.Time
	if w.spec.Timeout > 0 {
		timeout = time.After(w.spec.Timeout)
	}
	tick := time.NewTicker(consoleInterval)
	defer tick.Stop()
	for {
		done, err := w.look(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-signals:
			err = w.stop(ctx)
		case <-timeout:
			err = w.stop(ctx)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// stop has Nova press the power button, which stops the entrypoint; the second time the
// server is deleted.
func (w *novaWatch) stop(ctx context.Context) error {
	if w.stops++; w.stops > 1 {
		return errors.Join(errors.New("the server was deleted before its entrypoint ended"), w.remove(ctx))
	}
	// A server that is being built cannot be stopped, and has done nothing yet.
	if err := servers.Stop(ctx, w.compute, w.id).ExtractErr(); err != nil {
		return errors.Join(errors.New("interrupted"), w.remove(ctx))
	}
	return nil
}

// look shows what is new, and says whether that was all.
func (w *novaWatch) look(ctx context.Context) (done bool, err error) {
	srv, err := servers.Get(ctx, w.compute, w.id).Extract()
	if err != nil {
		return false, fmt.Errorf("server %s: %w", w.id, plainly(err))
	}
	if srv.Status == "ERROR" {
		// As on this host, of what has never run nothing stays.
		return false, errors.Join(fmt.Errorf("server %s (%s) is in ERROR: %s", srv.Name, w.id, srv.Fault.Message), w.remove(ctx))
	}
	w.show.show("server is " + srv.Status)
	// One that does not run has no console.
	text, err := servers.ShowConsoleOutput(ctx, w.compute, w.id, servers.ShowConsoleOutputOpts{}).Extract()
	if err == nil {
		return w.take(text)
	}
	switch {
	case srv.Status == "SHUTOFF":
		w.show.done()
		return false, fmt.Errorf("server %s (%s) is SHUTOFF: how its entrypoint ended was not seen", srv.Name, w.id)
	case srv.Status == "ACTIVE" && !gone(err):
		return false, fmt.Errorf("console of server %s: %w", w.id, plainly(err))
	}
	return false, nil
}

// take shows new lines of the console.
func (w *novaWatch) take(text string) (done bool, err error) {
	lines, lost := w.console.take(text)
	if lost {
		fmt.Fprintln(os.Stderr, "slipway: output is missing here: the console has forgotten it")
	}
	for _, line := range lines {
		w.show.done()
		own := guestLine.MatchString(line)
		status, ended := share.ConsoleEnd(line)
		switch {
		case w.detach && (!own || ended):
			fmt.Println(w.id)
			return true, nil
		case w.detach:
		case own:
			fmt.Fprint(os.Stderr, line)
		default:
			fmt.Print(line)
		}
		if ended {
			return true, endOf(status)
		}
	}
	return false, nil
}

func endOf(status int) error {
	if status == 0 {
		return nil
	}
	return &exitError{code: status}
}

// guestLine is one of the kernel's or of slipway-init's, not of the entrypoint's.
var guestLine = regexp.MustCompile(`^(\[ *[0-9]+\.[0-9]{6}\] |` + regexp.QuoteMeta(share.ConsolePrefix) + `)`)

// consoleReader tells what is new in a console that is read again and again. Of a long
// one only the end is given.
type consoleReader struct{ seen string }

// overlap is how much of what was seen must come again to be known.
const overlap = 1024

// take returns the whole lines that are new, and whether some are missing before them.
func (c *consoleReader) take(text string) (lines []string, lost bool) {
	text = strings.ReplaceAll(text, "\r", "")
	text = text[:strings.LastIndexByte(text, '\n')+1]
	fresh, ok := strings.CutPrefix(text, c.seen)
	if !ok {
		known := c.seen[max(0, len(c.seen)-overlap):]
		if at := strings.LastIndex(text, known); at >= 0 {
			fresh = text[at+len(known):]
		} else {
			fresh, lost = text, true
		}
	}
	c.seen = text
	return slices.Collect(strings.Lines(fresh)), lost
}
