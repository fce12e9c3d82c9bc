package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/guest/archive"
	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/client"
)

// copyFlags are those of cp.
type copyFlags struct {
	owners bool // take over owners, and what comes with them
	follow bool // a link that is the source
}

func (c *cli) serverCopy() *cobra.Command {
	var o copyFlags
	cmd := &cobra.Command{
		Use: "cp SERVER:PATH LOCAL | LOCAL SERVER:PATH", Short: "Copy files and trees out of and into a server", Args: cobra.ExactArgs(2),
		Long: `Copy files and trees out of and into a server, and its volumes, whether it runs or not.
While it does not, its file systems in memory are not there.

As with docker cp, a directory that exists is copied into, PATH/. stands for what is
in a directory, and LOCAL may be -, a tar stream on standard output or input. Links,
modes, times and extended attributes are kept. What is copied out belongs to the
caller and gains nobody rights (set-user-ID, capabilities), except with --archive.`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			from, fromPath, out := serverPath(args[0])
			to, toPath, in := serverPath(args[1])
			switch {
			case out && in:
				return errors.New("copy from one server to another by way of a local file")
			case out:
				return copyOut(cmd.Context(), engine, o, from, fromPath, args[1])
			case in:
				return copyIn(cmd.Context(), engine, o, args[0], to, toPath)
			}
			return errors.New("neither path is in a server: use SERVER:PATH for one of them")
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.owners, "archive", "a", false, "keep owners and the rights that come with them")
	f.BoolVarP(&o.follow, "follow-link", "L", false, "copy what the source leads to, if it is a link")
	f.BoolP("quiet", "q", false, "accepted for docker's sake: no progress is shown")
	return cmd
}

// serverPath splits SERVER:PATH; what looks like a local path is none.
func serverPath(s string) (server, path string, ok bool) {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		return "", "", false
	}
	server, path, ok = strings.Cut(s, ":")
	return server, path, ok && server != ""
}

// copyOut extracts a guest's files, which are not believed: unless told
// otherwise they get this user for their owner, devices are refused, and nothing leads out of the destination.
func copyOut(ctx context.Context, engine *client.Client, o copyFlags, server, from, to string) error {
	if to == "-" {
		return missing(ctx, engine, server, from, engine.CopyFrom(ctx, server, from, o.follow, os.Stdout))
	}
	dir, name, err := localTarget(from, to)
	if err != nil {
		return err
	}
	root, err := process.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	err = piped(
		func(w io.Writer) error { return engine.CopyFrom(ctx, server, from, o.follow, w) },
		func(r io.Reader) error {
			return archive.Extract(ctx, root, "/", renamed(r, name), archive.Options{Owner: o.owners})
		},
	)
	return missing(ctx, engine, server, from, err)
}

// missing says what has not been found, where that is what an error says: the server or
// the path in it.
func missing(ctx context.Context, engine *client.Client, server, path string, err error) error {
	if !errors.Is(err, launcher.ErrNotFound) {
		return err
	}
	if _, err := engine.Server(ctx, server); err != nil {
		return err
	}
	what := "file or directory"
	if strings.HasSuffix(path, "/") {
		what = "directory"
	}
	return fmt.Errorf("%s: there is no such %s in the server", path, what)
}

// localTarget says which existing directory is extracted into, and what the top of
// the tree is called there; "" leaves it its name.
func localTarget(from, to string) (dir, name string, err error) {
	info, err := os.Stat(to)
	contents := strings.HasSuffix(from, "/.")
	switch {
	case err == nil && info.IsDir() && contents:
		return to, ".", nil
	case err == nil && info.IsDir():
		return to, "", nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", "", err
	case err != nil && strings.HasSuffix(to, "/"):
		return "", "", fmt.Errorf("%s: there is no such directory", to)
	}
	return filepath.Dir(filepath.Clean(to)), filepath.Base(to), nil
}

func copyIn(ctx context.Context, engine *client.Client, o copyFlags, from, server, to string) error {
	dir, name := path.Clean("/"+to), ""
	info, err := engine.Stat(ctx, server, dir)
	switch {
	case err == nil && info.Mode.IsDir():
		if strings.HasSuffix(from, "/.") {
			name = "."
		}
	case err != nil && !errors.Is(err, launcher.ErrNotFound):
		return err
	case err != nil && strings.HasSuffix(to, "/"):
		return missing(ctx, engine, server, to, err)
	case from == "-":
		return fmt.Errorf("%s: a tar stream goes into a directory of the server, and this is none", to)
	default:
		dir, name = path.Split(dir)
	}
	if from == "-" {
		return engine.CopyTo(ctx, server, dir, os.Stdin)
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(abs); err != nil {
		return err
	}
	if strings.HasSuffix(from, "/") || strings.HasSuffix(from, "/.") {
		abs += "/." // which Abs takes off
	}
	write := archive.Write
	if o.follow {
		write = archive.WriteFollowed
	}
	root, err := process.OpenRoot("/")
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	err = piped(
		func(w io.Writer) error { return write(ctx, root, abs, w) },
		func(r io.Reader) error { return engine.CopyTo(ctx, server, dir, renamed(r, name)) },
	)
	return missing(ctx, engine, server, dir, err)
}

// piped connects a writer to a reader. The error is of whichever failed first.
func piped(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		_ = w.CloseWithError(err)
		written <- err
	}()
	err := read(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what follows the archive's end
	}
	_ = r.CloseWithError(errors.Join(errors.New("the copy has ended"), err))
	if werr := <-written; werr != nil && err == nil {
		return werr
	}
	return err
}

// renamed gives the top of a tar stream's tree another name; "" leaves it.
func renamed(r io.Reader, name string) io.Reader {
	if name == "" {
		return r
	}
	pr, pw := io.Pipe()
	go func() { _ = pw.CloseWithError(rename(pw, r, name)) }()
	return pr
}

func rename(w io.Writer, r io.Reader, name string) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		h.Name = retop(h.Name, name)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = retop(h.Linkname, name)
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

// retop replaces the first component of a name.
func retop(name, top string) string {
	_, rest, deeper := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	if !deeper {
		return top
	}
	return top + "/" + rest
}
