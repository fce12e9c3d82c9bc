package nova

import (
	"context"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

func (a *API) serverRoutes() []route {
	const p = "os_compute_api:servers:"
	return []route{
		{method: "GET", path: "/servers", role: openstack.Reader, policy: p + "index", serve: a.listServers(false)},
		{method: "GET", path: "/servers/detail", role: openstack.Reader, policy: p + "detail", serve: a.listServers(true)},
		{method: "POST", path: "/servers", role: openstack.Member, policy: p + "create", serve: a.createServers},
		{method: "GET", path: "/servers/{id}", role: openstack.Reader, policy: p + "show", serve: a.showServer},
		{method: "PUT", path: "/servers/{id}", role: openstack.Member, policy: p + "update", serve: a.updateServer},
		{method: "DELETE", path: "/servers/{id}", role: openstack.Member, policy: p + "delete", serve: a.deleteServer},
		{method: "POST", path: "/servers/{id}/action", serve: a.actOnServer}, // each action has a policy of its own
	}
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// noServer is the answer for a server that is not there, or another project's.
func noServer(id string) error { return openstack.NotFound("Instance %s could not be found.", id) }

// server returns the server of a request's path. One of another project is not found
// but by administrators.
func (a *API) server(r *http.Request) (launcher.Server, error) {
	id := r.PathValue("id")
	srv, err := a.cfg.Manager.Server(id)
	if err != nil || srv.ID != id || srv.VMState == launcher.VMDeleted || !a.sees(r, &srv) {
		return srv, noServer(id)
	}
	return shown(srv), nil
}

// writable is server for a request that changes it: a locked one is the
// administrators' alone.
func (a *API) writable(r *http.Request) (launcher.Server, error) {
	srv, err := a.server(r)
	if err == nil && srv.Locked && !isAdmin(r) {
		return srv, openstack.Conflict("Instance %s is locked", srv.ID)
	}
	return srv, err
}

func (a *API) sees(r *http.Request, srv *launcher.Server) bool {
	return isAdmin(r) || a.projectOf(srv) == callersProject(r)
}

// projectOf is the project that a server is shown in.
func (a *API) projectOf(srv *launcher.Server) string {
	if srv.Project == "" {
		return a.cfg.LocalProject
	}
	return srv.Project
}

// asCaller returns a context in which actions are recorded as the caller's.
func asCaller(r *http.Request) context.Context {
	c := openstack.CallerOf(r.Context())
	return launcher.WithCaller(r.Context(), launcher.Caller{
		Request: openstack.RequestIDOf(r.Context()), Project: c.ProjectID, User: c.UserID,
	})
}

func (a *API) showServer(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	v := a.viewServer(r, &srv, true)
	if openstack.MicroversionOf(r.Context()) >= 71 {
		v["server_groups"] = groupsOf(&srv)
	}
	return writeOne(w, http.StatusOK, "server", v)
}

var (
	aDescription = &schema{kinds: []string{"string", "null"}, maxLen: 255, form: checkDescription}
	aDiskConfig  = &schema{kinds: []string{"string"}, enum: []any{"AUTO", "MANUAL"}}
	anIPv4       = &schema{kinds: []string{"string"}, form: checkAddress("ipv4")}
	anIPv6       = &schema{kinds: []string{"string"}, form: checkAddress("ipv6")}
	aHostname    = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 63, pattern: regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$`)}
	aMetadata    = &schema{
		kinds: []string{"object"}, names: metadataName, rest: &schema{kinds: []string{"string"}, maxLen: 255},
	}
)

// described adds to the members of a server those that a microversion has.
func described(v openstack.Microversion, props map[string]*schema) map[string]*schema {
	props["OS-DCF:diskConfig"], props["accessIPv4"], props["accessIPv6"] = aDiskConfig, anIPv4, anIPv6
	if v >= 19 {
		props["description"] = aDescription
	}
	if v >= 90 {
		props["hostname"] = aHostname
	}
	return props
}

// describe takes from a body what every request that makes or changes a server may say.
func describe(b body, s *launcher.Server) {
	set := func(name string, to *string) {
		if _, ok := b[name]; ok {
			*to = b.text(name)
		}
	}
	set("name", &s.Name)
	set("OS-DCF:diskConfig", &s.DiskConfig)
	set("accessIPv4", &s.AccessIPv4)
	set("accessIPv6", &s.AccessIPv6)
	if ip, err := netip.ParseAddr(s.AccessIPv6); err == nil {
		s.AccessIPv6 = ip.String()
	}
	set("hostname", &s.Spec.Hostname)
	if _, ok := b["description"]; ok {
		s.Description = optional(b, "description")
	}
}

func (a *API) updateServer(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.writable(r)
	if err != nil {
		return err
	}
	v := openstack.MicroversionOf(r.Context())
	b, err := readBody(r, one("server", object(described(v, map[string]*schema{"name": aName}))))
	if err != nil {
		return err
	}
	srv, err = a.cfg.Manager.Update(asCaller(r), srv.ID, func(s *launcher.Server) error {
		describe(b.in("server"), s)
		return nil
	})
	if err != nil {
		return err
	}
	answer := a.viewServer(r, &srv, v >= 75)
	if v >= 71 {
		answer["server_groups"] = groupsOf(&srv)
	}
	return writeOne(w, http.StatusOK, "server", answer)
}

func (a *API) deleteServer(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.writable(r)
	if err != nil {
		return err
	}
	if err := a.cfg.Manager.DeleteLater(asCaller(r), srv.ID); err != nil {
		return notFoundAs(err, noServer(srv.ID))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// lastPart is the ID in what may be a URL.
func lastPart(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }
