package images

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/name"
)

// Transport is where a reference points.
type Transport string

const (
	Registry      Transport = "registry"
	Layout        Transport = "oci"
	LayoutArchive Transport = "oci-archive"
	DockerArchive Transport = "docker-archive"
	Glance        Transport = "glance"
)

// Stdin is the path of an archive that is read from the standard input of whoever
// asks.
const Stdin = "-"

// Reference is a parsed reference. Name is set for a registry, Path and
// perhaps Tag otherwise; in Glance, Path is an image's name or ID.
type Reference struct {
	Transport Transport
	Name      name.Reference
	Path      string
	Tag       string
}

// ParseReference reads what a user writes. Files are made absolute, so that
// the result means the same to another process.
func ParseReference(s string) (Reference, error) {
	for _, t := range []Transport{Layout, LayoutArchive, DockerArchive} {
		if rest, ok := strings.CutPrefix(s, string(t)+":"); ok {
			return parseFile(t, rest)
		}
	}
	if rest, ok := strings.CutPrefix(s, string(Glance)+":"); ok {
		if rest == "" || strings.ContainsFunc(rest, unicode.IsControl) {
			return Reference{}, fmt.Errorf("%w: %q names no image: use glance:NAME or glance:ID", ErrInvalidReference, s)
		}
		return Reference{Transport: Glance, Path: rest}, nil
	}
	n, err := name.ParseReference(strings.TrimPrefix(s, "docker://"))
	if err != nil {
		return Reference{}, fmt.Errorf("%w: %q: %w", ErrInvalidReference, s, err)
	}
	return Reference{Transport: Registry, Name: n}, nil
}

// parseFile splits PATH[:TAG]. A tag has no slash, so a colon before one is
// part of the path.
func parseFile(t Transport, rest string) (Reference, error) {
	path, tag := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		path, tag = rest[:i], rest[i+1:]
		// A docker archive's tag is itself NAME:TAG.
		if j := strings.IndexByte(rest, ':'); t == DockerArchive && j < i {
			path, tag = rest[:j], rest[j+1:]
		}
	} else if i := strings.IndexByte(rest, ':'); t == DockerArchive && i >= 0 {
		path, tag = rest[:i], rest[i+1:]
	}
	if path == "" || strings.ContainsRune(rest, 0) {
		return Reference{}, fmt.Errorf("%w: %q has no file", ErrInvalidReference, string(t)+":"+rest)
	}
	if path == Stdin && t != Layout {
		return Reference{Transport: t, Path: path, Tag: tag}, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Reference{}, fmt.Errorf("%w: %q: %w", ErrInvalidReference, path, err)
	}
	return Reference{Transport: t, Path: abs, Tag: tag}, nil
}

// Piped says whether the reference is of an archive in the standard input.
func (r Reference) Piped() bool { return r.Path == Stdin && r.Transport != Glance }

// Remote says whether the reference is of a service on the network, which is only
// asked for what is not here.
func (r Reference) Remote() bool { return r.Transport == Registry || r.Transport == Glance }

// String is the canonical form: what is shown, and what images are
// remembered by.
func (r Reference) String() string {
	if r.Transport == Registry {
		// The alias is what people know.
		if rest, ok := strings.CutPrefix(r.Name.Name(), name.DefaultRegistry+"/"); ok {
			return "docker.io/" + rest
		}
		return r.Name.Name()
	}
	s := string(r.Transport) + ":" + r.Path
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	return s
}

// Tagged is the canonical form of what a registry has under a tag, and empty for all
// else.
func (r Reference) Tagged() string {
	if _, ok := r.Name.(name.Tag); !ok {
		return ""
	}
	return r.String()
}
