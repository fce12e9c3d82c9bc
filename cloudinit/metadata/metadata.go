package metadata

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"

	"github.com/slipway-vm/slipway/cloudinit"
)

// Address is where guests find the service.
const Address = "169.254.169.254"

// MaxPassword is the longest password that is kept, in bytes: Nova's limit.
const MaxPassword = 1020

var (
	// ErrUnknown says that an address is no guest's.
	ErrUnknown = errors.New("no server has this address")
	// ErrNotYet says that guests are not known yet.
	ErrNotYet = errors.New("the service is starting")
	// ErrPasswordSet says that a password is there, which stays until the server's
	// owner clears it.
	ErrPasswordSet = errors.New("the password is set already")
)

// Instance is what one guest is told about itself.
type Instance struct {
	Seed cloudinit.Seed
	// What EC2's format has beside the seed. The IDs are UUIDs.
	ImageID        string
	Flavor         string
	Reservation    string
	SecurityGroups []string
	LocalIPv4      netip.Addr
	PublicIPv4     netip.Addr // of a floating IP
	Password       string     // as the guest has posted it, encrypted
}

// Source knows guests. Its methods are called concurrently.
type Source interface {
	// Instance finds the guest that a connection comes from. The error matches
	// ErrUnknown where there is none.
	Instance(ctx context.Context, from netip.Addr) (*Instance, error)
	// SetPassword keeps what the guest has posted, once. The error matches
	// ErrPasswordSet where there is one.
	SetPassword(ctx context.Context, from netip.Addr, password string) error
}

// handler answers the guests of one network.
type handler struct {
	source Source
	log    *slog.Logger
}

// New makes the handler for the guests that source knows; a nil log discards.
func New(source Source, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &handler{source: source, log: log}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, err := peer(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	i, err := h.source.Instance(r.Context(), from)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	p := path.Clean("/" + r.URL.Path)
	if version, ok := passwordPath(p); ok && openstackHas(version, "password") {
		h.password(w, r, from, i)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "405 Method Not Allowed: metadata is read only.", http.StatusMethodNotAllowed)
		return
	}
	data, media, err := i.lookup(p)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(data) // who does not read it has gone
}

// peer is the address that a request's connection comes from.
func peer(r *http.Request) (netip.Addr, error) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, err
	}
	return ap.Addr().Unmap().WithZone(""), nil
}

// errPath says that nothing is at a path.
var errPath = errors.New("no such metadata")

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errPath) || errors.Is(err, ErrUnknown) {
		http.Error(w, "404 Not Found", http.StatusNotFound)
		return
	}
	if errors.Is(err, ErrNotYet) {
		http.Error(w, "503 Service Unavailable: try again.", http.StatusServiceUnavailable)
		return
	}
	h.log.Error("metadata not answered", "from", r.RemoteAddr, "path", r.URL.Path, "err", err)
	http.Error(w, "500 Internal Server Error: try again.", http.StatusInternalServerError)
}

// lookup finds what is at a clean path.
func (i *Instance) lookup(p string) (data []byte, media string, err error) {
	parts := strings.Split(strings.Trim(p, "/"), "/")
	if parts[0] == "openstack" {
		return i.openstack(parts[1:])
	}
	if parts[0] == "ec2" {
		parts = parts[1:]
	}
	data, err = i.ec2(parts)
	return data, "text/plain; charset=UTF-8", err
}

// password lets a guest leave its administrator's password, once.
func (h *handler) password(w http.ResponseWriter, r *http.Request, from netip.Addr, i *Instance) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = io.WriteString(w, i.Password)
		return
	case http.MethodPost:
	default:
		http.Error(w, "400 Bad Request: GET and POST only are supported.", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxPassword+1))
	switch {
	case err != nil:
		http.Error(w, "400 Bad Request: the body cannot be read.", http.StatusBadRequest)
		return
	case len(body) > MaxPassword:
		http.Error(w, "400 Bad Request: Request is too large.", http.StatusBadRequest)
		return
	}
	err = h.source.SetPassword(r.Context(), from, string(body))
	switch {
	case errors.Is(err, ErrPasswordSet):
		http.Error(w, "409 Conflict: the password is set already.", http.StatusConflict)
	case err != nil:
		h.fail(w, r, err)
	}
}

// passwordPath takes /openstack/VERSION/password apart.
func passwordPath(p string) (version string, ok bool) {
	rest, ok := strings.CutPrefix(p, "/openstack/")
	version, name, _ := strings.Cut(rest, "/")
	return version, ok && name == "password"
}
