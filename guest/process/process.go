package process

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of Resolve and of starting what it resolved. ExitCode maps them to
// the statuses that docker uses.
var (
	ErrNotFound      = errors.New("executable not found")
	ErrNotExecutable = errors.New("not executable")
)

// DefaultPath is the PATH of a process whose environment has none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Exit statuses of a process that could not be started.
const (
	ExitFailure       = 125
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// Request is a process as it is asked for.
type Request struct {
	Args     []string
	Env      []string
	User     string
	Groups   []string // besides the user's, names or gids
	Dir      string   // absolute; empty means /
	Hostname string   // becomes HOSTNAME
	TTY      bool     // gives TERM a default
}

// Process is a process that can be executed inside the root.
type Process struct {
	Found
	Args []string
	Env  []string
	Dir  string
}

// Found is what a root has of a Request.
type Found struct {
	Identity
	Path string `json:"path"` // of the executable, absolute inside the root
}

// Files is what is looked at of a root: a [Root] is one. Both follow symbolic links
// inside of it, and fail with unix.ENOENT or unix.ENOTDIR for what is not there.
type Files interface {
	Stat(name string) (unix.Stat_t, error)
	ReadFile(name string) ([]byte, error)
}

// finder finds programs and users in a root.
type finder struct{ Files }

// Find looks in the root for the user and the executable that req asks for. It changes
// nothing there: a working directory that is missing is no error, since it is made on
// start.
func Find(files Files, req Request) (found Found, err error) {
	root := finder{files}
	if len(req.Args) == 0 || req.Args[0] == "" {
		return found, fmt.Errorf("%w: no command", ErrNotFound)
	}
	if found.Identity, err = root.user(req.User); err != nil {
		return found, err
	}
	if err := root.addGroups(&found.Identity, req.Groups); err != nil {
		return found, err
	}
	dir := req.dir()
	if st, err := root.Stat(dir); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return found, fmt.Errorf("%w: working directory %s is not a directory", ErrNotExecutable, dir)
	}
	searchPath := lookupEnv(environment(req, found.Identity), "PATH")
	found.Path, err = root.executable(req.Args[0], dir, searchPath)
	return found, err
}

// With is the process that req asks for, given what the root has of it.
func (req Request) With(found Found) *Process {
	return &Process{Found: found, Args: slices.Clone(req.Args), Env: environment(req, found.Identity), Dir: req.dir()}
}

// Resolve is Find and With.
func Resolve(files Files, req Request) (*Process, error) {
	found, err := Find(files, req)
	if err != nil {
		return nil, err
	}
	return req.With(found), nil
}

func (req Request) dir() string { return path.Clean("/" + req.Dir) }

// environment completes req.Env as docker does: PATH, HOSTNAME and HOME where
// they are missing, and TERM for a terminal. The last value of a name wins.
func environment(req Request, id Identity) []string {
	env := []string{}
	index := map[string]int{}
	for _, kv := range req.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		if i, ok := index[name]; ok {
			env[i] = kv
			continue
		}
		index[name] = len(env)
		env = append(env, kv)
	}
	add := func(name, value string) {
		if _, ok := index[name]; !ok && value != "" {
			env = append(env, name+"="+value)
		}
	}
	add("PATH", DefaultPath)
	add("HOSTNAME", req.Hostname)
	if req.TTY {
		add("TERM", "xterm")
	}
	add("HOME", id.Home)
	return env
}

func lookupEnv(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// executable resolves a command as execvp would in the working directory.
func (r finder) executable(name, dir, searchPath string) (string, error) {
	if strings.ContainsRune(name, '/') {
		file := name
		if !path.IsAbs(file) {
			// Not path.Join: it would cancel ".." against a symbolic link.
			file = dir + "/" + name
		}
		if err := r.checkExecutable(file); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return file, nil
	}
	for entry := range strings.SplitSeq(searchPath, ":") {
		if entry == "" {
			entry = "."
		}
		if !path.IsAbs(entry) {
			entry = dir + "/" + entry
		}
		if file := strings.TrimSuffix(entry, "/") + "/" + name; r.checkExecutable(file) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: %w in $PATH", name, ErrNotFound)
}

func (r finder) checkExecutable(file string) error {
	st, err := r.Stat(file)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return ErrNotFound
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotExecutable, err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("%w: is a directory", ErrNotExecutable)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: not a regular file", ErrNotExecutable)
	case st.Mode&0o111 == 0:
		return fmt.Errorf("%w: permission denied", ErrNotExecutable)
	}
	return nil
}

// StartError sorts the error of an execve of p into the errors above.
func StartError(p *Process, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s: %w: %w", p.Args[0], ErrNotFound, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EPERM),
		errors.Is(err, unix.ELIBBAD), errors.Is(err, unix.ETXTBSY), errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%s: %w: %w", p.Args[0], ErrNotExecutable, err)
	}
	return fmt.Errorf("execute %s: %w", p.Args[0], err)
}

// ExitCode is the status that stands for an error of Resolve or StartError.
func ExitCode(err error) int {
	switch {
	case errors.Is(err, ErrNotFound):
		return ExitNotFound
	case errors.Is(err, ErrNotExecutable):
		return ExitNotExecutable
	}
	return ExitFailure
}
