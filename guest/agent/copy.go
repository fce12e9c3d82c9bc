package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/archive"
	"github.com/slipway-vm/slipway/guest/process"
)

type pathParams struct {
	Path   string `json:"path"`
	Follow bool   `json:"follow,omitempty"` // a symbolic link at its end; copy-out's, from version 2 on
}

// FileInfo describes a file of the root; a symbolic link is itself.
type FileInfo struct {
	Name   string      `json:"name"`
	Size   int64       `json:"size"`
	Mode   fs.FileMode `json:"mode"`
	Mtime  time.Time   `json:"mtime"`
	Target string      `json:"target,omitempty"` // of a symbolic link
}

// Stat describes a file of the root.
func (c *Client) Stat(ctx context.Context, path string) (FileInfo, error) {
	var info FileInfo
	if err := c.call(ctx, methodStat, pathParams{Path: path}, &info); err != nil {
		return FileInfo{}, fmt.Errorf("stat %s: %w", path, err)
	}
	return info, nil
}

// CopyFrom writes the file or tree path of the root to w as a tar stream, see
// package archive; with follow, what it leads to where it is a symbolic link. The
// stream is the guest's: extract it with that package.
func (c *Client) CopyFrom(ctx context.Context, path string, follow bool, w io.Writer) error {
	if follow {
		if err := c.requires(versionFollow); err != nil {
			return fmt.Errorf("copy %s from the guest: %w", path, err)
		}
	}
	stream, stop, err := c.open(ctx, methodCopyOut, pathParams{Path: path, Follow: follow})
	if err != nil {
		return fmt.Errorf("copy %s from the guest: %w", path, err)
	}
	defer stop()
	if _, err := receiveProcess(stream, w, nil); err != nil {
		return fmt.Errorf("copy %s from the guest: %w", path, c.explain(ctx, err))
	}
	return nil
}

// CopyTo extracts the tar stream r into dir, an existing directory of the root.
func (c *Client) CopyTo(ctx context.Context, dir string, r io.Reader) error {
	stream, stop, err := c.open(ctx, methodCopyIn, pathParams{Path: dir})
	if err != nil {
		return fmt.Errorf("copy to %s in the guest: %w", dir, err)
	}
	defer stop()
	// The guest may refuse in the middle: then nothing takes what we send, and
	// its reason is what counts.
	sent := make(chan error, 1)
	go func() {
		send := &sender{w: stream}
		end, readErr, err := send.data(Stdin, r)
		switch {
		case err != nil:
		case errors.Is(readErr, io.EOF):
			err = send.message(msgEnd, end.encode())
		default:
			err = readErr
		}
		sent <- err
		if err != nil && !closedByPeer(err) {
			stop() // the reader failed: the guest must not take this for the end
		}
	}()
	_, err = receiveProcess(stream, nil, nil)
	if err == nil {
		return nil
	}
	select {
	case sendErr := <-sent:
		if sendErr != nil && !closedByPeer(sendErr) {
			err = sendErr
		}
	default:
	}
	return fmt.Errorf("copy to %s in the guest: %w", dir, c.explain(ctx, err))
}

func (s *Server) stat(stream *yamux.Stream, p pathParams) error {
	root, err := s.Control.Root()
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := StatFile(root, p.Path)
	if err != nil {
		return fileError(err)
	}
	return writeJSON(stream, msgReply, info)
}

// StatFile describes a file of a root.
func StatFile(root *process.Root, path string) (FileInfo, error) {
	f, err := root.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return FileInfo{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return FileInfo{}, err
	}
	answer := FileInfo{Name: info.Name(), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime()}
	if info.Mode()&fs.ModeSymlink != 0 {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", buf)
		if err != nil {
			return FileInfo{}, err
		}
		answer.Target = string(buf[:n])
	}
	return answer, nil
}

func (s *Server) copyOut(ctx context.Context, stream *yamux.Stream, p pathParams) error {
	root, err := s.Control.Root()
	if err != nil {
		return err
	}
	defer root.Close()
	out := &chunkWriter{send: &sender{w: stream}, stream: Stdout}
	write := archive.Write
	if p.Follow {
		write = archive.WriteFollowed
	}
	if err := write(ctx, root, p.Path, out); err != nil {
		return fileError(err)
	}
	return reply(stream, out.flush())
}

func (s *Server) copyIn(ctx context.Context, stream *yamux.Stream, p pathParams) error {
	root, err := s.Control.Root()
	if err != nil {
		return err
	}
	defer root.Close()
	in := &chunkReader{r: messageReader{r: stream}}
	err = archive.Extract(ctx, root, p.Path, in, archive.Options{Owner: true, Devices: true})
	if err != nil {
		return fileError(err)
	}
	// The archive's own end may come before the host's.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	return reply(stream, nil)
}

// fileError gives errors of files the kinds that hosts test for.
func fileError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	case errors.Is(err, archive.ErrUnsafe):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

// chunkWriter gathers small writes into data messages.
type chunkWriter struct {
	send   *sender
	stream Stream
	offset int64
	buf    []byte
}

func (w *chunkWriter) Write(b []byte) (int, error) {
	if w.buf == nil {
		w.buf = make([]byte, roomForData, roomForData+maxData)
	}
	for rest := b; len(rest) > 0; {
		n := min(len(rest), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, rest[:n]...)
		rest = rest[n:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return len(b) - len(rest), err
			}
		}
	}
	return len(b), nil
}

func (w *chunkWriter) flush() error {
	if len(w.buf) <= roomForData {
		return nil
	}
	message := putData(w.buf, w.stream, w.offset)
	w.offset += int64(len(w.buf) - roomForData)
	w.buf = w.buf[:roomForData]
	return w.send.raw(message)
}

// chunkReader reads data messages up to the end message.
type chunkReader struct {
	r    messageReader
	rest []byte
	done bool
}

func (r *chunkReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.done {
			return 0, io.EOF
		}
		t, payload, err := r.r.next()
		if err != nil {
			return 0, unexpectedEOF(err) // the host has gone in the middle
		}
		if t == msgEnd {
			r.done = true
			continue
		}
		c, err := decodeChunk(payload)
		if err != nil {
			return 0, err
		}
		r.rest = c.data
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
