package launcher

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
)

// Details are what a server has in the eyes of its project, beside what it is to
// run. Maps and slices are replaced, never changed in place.
type Details struct {
	Description *string           `json:"description,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Tags        []string          `json:"tags,omitempty"`

	KeyName   string `json:"key_name,omitempty"`
	PublicKey string `json:"public_key,omitempty"` // as in authorized_keys
	UserData  string `json:"user_data,omitempty"`  // base64
	// Files are put into the server's root at its first boot, as vendor-data: a
	// write_files of the user's takes their place.
	Files []File `json:"files,omitempty"`
	// ConfigDrive says that one was asked for.
	ConfigDrive bool   `json:"config_drive,omitempty"`
	DiskConfig  string `json:"disk_config,omitempty"` // AUTO or MANUAL
	Zone        string `json:"availability_zone,omitempty"`
	AccessIPv4  string `json:"access_ipv4,omitempty"`
	AccessIPv6  string `json:"access_ipv6,omitempty"`

	// ImageRef is the image's UUID in the image service; empty where Spec.Image is
	// all there is.
	ImageRef string `json:"image_ref,omitempty"`
	// Reservation is common to the servers of one request, Index counts them.
	Reservation string            `json:"reservation,omitempty"`
	Index       int               `json:"index,omitempty"`
	Hints       map[string]string `json:"hints,omitempty"` // for the scheduler
	// Certificates are the IDs of those that are trusted to have signed the image.
	Certificates []string `json:"certificates,omitempty"`

	// Password is what the guest has left for its owner, encrypted.
	Password string `json:"password,omitempty"`

	Locked       bool   `json:"locked,omitempty"`
	LockedReason string `json:"locked_reason,omitempty"`
	// AdminLocked says that an administrator locked it, who is not its owner.
	AdminLocked bool `json:"admin_locked,omitempty"`
}

// File is one that a server is given.
type File struct {
	Path    string `json:"path"` // absolute
	Content []byte `json:"content"`
}

// Caller says who asks for an action, for its record.
type Caller struct {
	Request string // the request's ID: req-UUID
	Project string
	User    string
}

type callerKey struct{}

// WithCaller returns a context whose actions are recorded as a caller's.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// ActionRecord is what was asked of a server once, and what became of it.
type ActionRecord struct {
	Server  string    `json:"server"`  // ID
	Request string    `json:"request"` // ID
	Action  string    `json:"action"`  // Nova's name
	Project string    `json:"project,omitempty"`
	User    string    `json:"user,omitempty"`
	Start   time.Time `json:"start"`
	Finish  time.Time `json:"finish,omitzero"`   // zero while it is going on
	Message string    `json:"message,omitempty"` // why it failed; empty: it did not
}

// newAction begins the record of an action.
func newAction(ctx context.Context, server string, a Action) *ActionRecord {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return &ActionRecord{
		Server: server, Request: first(c.Request, "req-"+newID()), Action: a.Name(),
		Project: c.Project, User: c.User, Start: time.Now().UTC(),
	}
}

// Actions returns what was done to a server, the latest first.
func (m *Manager) Actions(ctx context.Context, id string) ([]ActionRecord, error) {
	all, err := m.cfg.Store.Actions(ctx, id)
	slices.Reverse(all)
	return all, err
}

// Update changes what a server has in the eyes of its project, and its name; it
// must leave all else alone.
func (m *Manager) Update(ctx context.Context, id string, change func(*Server) error) (Server, error) {
	i, err := m.find(id)
	if err != nil {
		return Server{}, err
	}
	var refused error
	err = i.update(ctx, m.cfg.Store, func(s *Server) {
		next := *s
		if refused = change(&next); refused == nil {
			*s = next
		}
	})
	if refused != nil || err != nil {
		return Server{}, errors.Join(refused, err)
	}
	srv, _ := i.snapshot()
	return srv, nil
}

// Rename gives a server another name. Its host name stays.
func (m *Manager) Rename(ctx context.Context, id, name string) error {
	_, err := m.Update(ctx, id, func(s *Server) error {
		if s.Project == "" {
			if err := checkLocalName(name); err != nil {
				return err
			}
		}
		if name == "" || !validName(name) {
			return invalidName(name)
		}
		s.Name = name
		return nil
	})
	return err
}

// Seed returns what a server's guest is told of itself, but for its networks.
func (m *Manager) Seed(ref string) (*cloudinit.Seed, error) {
	srv, err := m.Server(ref)
	if err != nil {
		return nil, err
	}
	return srv.seed(first(srv.Spec.Hostname, Hostname(srv.Name)))
}
