package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
)

// absoluteImage makes the file of a reference absolute: the engine has another
// working directory.
func absoluteImage(ref string) (string, error) {
	for _, transport := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		name, ok := strings.CutPrefix(ref, transport)
		if !ok {
			continue
		}
		if name == "" {
			return "", fmt.Errorf("image %q names no file", ref)
		}
		if transport != "oci:" && (name == images.Stdin || strings.HasPrefix(name, images.Stdin+":")) {
			return ref, nil
		}
		abs, err := filepath.Abs(name)
		return transport + abs, err
	}
	return ref, nil
}

// absolute makes files' names absolute, for the engine.
func absolute(files []string) error {
	for n := range files {
		abs, err := filepath.Abs(files[n])
		if err != nil {
			return err
		}
		files[n] = abs
	}
	return nil
}

// credentials finds the caller's credentials for an image's registry, as docker
// does: the engine may have been started by somebody with others. Nil is for none.
func credentials(ctx context.Context, image string) (*launcher.Credentials, error) {
	ref, err := images.ParseReference(image)
	if err != nil || ref.Transport != images.Registry {
		return nil, nil //nolint:nilerr // the engine says what is wrong with a reference
	}
	repo := ref.Name.Context()
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, repo)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
	}
	if auth == authn.Anonymous {
		return nil, nil
	}
	config, err := authn.Authorization(ctx, auth)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
	}
	return &launcher.Credentials{Registry: repo.RegistryStr(), Auth: *config}, nil
}

// parseVolume reads HOST:GUEST[:ro|rw]. A relative HOST is below the working
// directory and must look like a path, since docker takes a bare word for the
// name of a volume.
func parseVolume(s string) (launcher.Volume, error) {
	parts := strings.Split(s, ":")
	bad := func(why string) (launcher.Volume, error) {
		return launcher.Volume{}, fmt.Errorf("volume %q: %s: use HOST:GUEST[:ro]", s, why)
	}
	if len(parts) < 2 || len(parts) > 3 {
		return bad("it has not two or three parts")
	}
	v := launcher.Volume{Guest: parts[1]}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			v.ReadOnly = true
		case "rw":
		default:
			return bad("the third part is neither ro nor rw")
		}
	}
	if !strings.Contains(parts[0], "/") && parts[0] != "." && parts[0] != ".." {
		return bad("the first part is no path, and there are no named volumes")
	}
	var err error
	v.Host, err = filepath.Abs(parts[0])
	return v, err
}

// environment reads files of NAME=VALUE lines and then such entries. A name alone
// passes on the caller's value, or nothing if there is none.
func environment(files, entries []string) ([]string, error) {
	var lines []string
	for _, name := range files {
		more, err := envFile(name)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	var env []string
	for _, e := range append(lines, entries...) {
		name, _, hasValue := strings.Cut(e, "=")
		if name == "" {
			return nil, fmt.Errorf("environment entry %q: use NAME=VALUE", e)
		}
		if hasValue {
			env = append(env, e)
		} else if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env, nil
}

func envFile(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var lines []string
	in := bufio.NewScanner(f)
	for in.Scan() {
		line := strings.TrimLeft(in.Text(), " \t")
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return lines, nil
}

// seconds is a flag's time as docker takes it, in whole seconds, or with a unit.
type seconds time.Duration

func (s *seconds) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 32)
	d := time.Duration(n) * time.Second
	if err != nil {
		if d, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("not a time: use seconds, or a unit as in 1m30s")
		}
	}
	if d < 0 {
		return fmt.Errorf("a time cannot be negative")
	}
	*s = seconds(d)
	return nil
}

// String gives zero as pflag knows it, and leaves it out of the help.
func (s *seconds) String() string {
	if *s == 0 {
		return "0"
	}
	return time.Duration(*s).String()
}

func (s *seconds) Type() string { return "time" }
