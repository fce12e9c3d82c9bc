package nova

import (
	"bytes"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/output"
)

// serverPartRoutes are of what lies below a server.
func (a *API) serverPartRoutes() []route {
	const p = "os_compute_api:"
	const id = "/servers/{id}"
	routes := []route{
		{method: "GET", path: id + "/metadata", role: openstack.Reader, policy: p + "server-metadata:index", serve: a.listMetadata},
		{method: "POST", path: id + "/metadata", role: openstack.Member, policy: p + "server-metadata:create", serve: a.setMetadata(false)},
		{method: "PUT", path: id + "/metadata", role: openstack.Member, policy: p + "server-metadata:update_all", serve: a.setMetadata(true)},
		{method: "GET", path: id + "/metadata/{key}", role: openstack.Reader, policy: p + "server-metadata:show", serve: a.showMetadata},
		{method: "PUT", path: id + "/metadata/{key}", role: openstack.Member, policy: p + "server-metadata:update", serve: a.putMetadata},
		{method: "DELETE", path: id + "/metadata/{key}", role: openstack.Member, policy: p + "server-metadata:delete", serve: a.deleteMetadata},

		{method: "GET", path: id + "/tags", role: openstack.Reader, policy: p + "os-server-tags:index", min: 26, serve: a.listTags},
		{method: "PUT", path: id + "/tags", role: openstack.Member, policy: p + "os-server-tags:update_all", min: 26, serve: a.setTags},
		{method: "DELETE", path: id + "/tags", role: openstack.Member, policy: p + "os-server-tags:delete_all", min: 26, serve: a.clearTags},
		{method: "GET", path: id + "/tags/{tag}", role: openstack.Reader, policy: p + "os-server-tags:show", min: 26, serve: a.showTag},
		{method: "PUT", path: id + "/tags/{tag}", role: openstack.Member, policy: p + "os-server-tags:update", min: 26, serve: a.putTag},
		{method: "DELETE", path: id + "/tags/{tag}", role: openstack.Member, policy: p + "os-server-tags:delete", min: 26, serve: a.deleteTag},

		{method: "GET", path: id + "/os-volume_attachments/{volume}", role: openstack.Reader, policy: p + "os-volumes-attachments:show", serve: a.noPart("The volume is not attached.")},
		{method: "POST", path: id + "/os-volume_attachments", role: openstack.Member, policy: p + "os-volumes-attachments:create", serve: a.unsupportedPart},
		{method: "POST", path: id + "/remote-consoles", role: openstack.Member, policy: p + "os-remote-consoles", min: 6, serve: a.remoteConsole},
		{method: "DELETE", path: id + "/os-server-password", role: openstack.Member, policy: p + "os-server-password:clear", serve: a.clearPassword},
		{method: "GET", path: id + "/os-server-password", role: openstack.Reader, policy: p + "os-server-password:show", serve: a.showPassword},
		{method: "GET", path: id + "/diagnostics", role: openstack.Admin, policy: p + "os-server-diagnostics", serve: a.diagnostics},
	}
	for path, answer := range map[string]struct {
		policy string
		view   view
		min    openstack.Microversion
	}{
		"/os-volume_attachments": {"os-volumes-attachments:index", view{"volumeAttachments": []string{}}, 0},
		"/os-virtual-interfaces": {"os-virtual-interfaces", view{"virtual_interfaces": []string{}}, 0},
		"/migrations":            {"servers:migrations:index", view{"migrations": []string{}}, 23},
		"/topology":              {"compute:server:topology:index", view{"nodes": []string{}}, 78},
	} {
		routes = append(routes, route{
			method: "GET", path: id + path, role: openstack.Reader, policy: p + answer.policy, min: answer.min, serve: a.constantPart(answer.view),
		})
	}
	return routes
}

// constantPart answers what every server has alike.
func (a *API) constantPart(v view) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := a.server(r); err != nil {
			return err
		}
		return openstack.WriteJSON(w, http.StatusOK, v)
	}
}

// noPart answers for something that no server has.
func (a *API) noPart(message string) openstack.Func {
	return func(_ http.ResponseWriter, r *http.Request) error {
		if _, err := a.server(r); err != nil {
			return err
		}
		return openstack.NotFound("%s", message)
	}
}

func (a *API) unsupportedPart(_ http.ResponseWriter, r *http.Request) error {
	if _, err := a.writable(r); err != nil {
		return err
	}
	return openstack.BadRequest("%s Servers have neither networks nor volumes.", notSupported)
}

func (a *API) remoteConsole(_ http.ResponseWriter, r *http.Request) error {
	if _, err := a.server(r); err != nil {
		return err
	}
	b, err := readBody(r, one("remote_console", object(map[string]*schema{"protocol": aText, "type": aText}, "protocol", "type")))
	if err != nil {
		return err
	}
	return openstack.BadRequest("Unavailable console type %s.", b.in("remote_console").text("type"))
}

// showPassword answers with what the guest has left at the metadata service.
func (a *API) showPassword(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "password", srv.Password)
}

func (a *API) clearPassword(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.writable(r)
	if err != nil {
		return err
	}
	if _, err := a.cfg.Manager.Update(r.Context(), srv.ID, func(s *launcher.Server) error { s.Password = ""; return nil }); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func metadataView(srv *launcher.Server) view { return view{"metadata": orEmpty(srv.Metadata)} }

func (a *API) listMetadata(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, metadataView(&srv))
}

// setMetadata adds to a server's metadata or, with whole, replaces all of it.
func (a *API) setMetadata(whole bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := a.writable(r); err != nil {
			return err
		}
		b, err := readBody(r, one("metadata", aMetadata))
		if err != nil {
			return err
		}
		srv, err := a.changeMetadata(r, stringsOf(b.in("metadata")), whole)
		if err != nil {
			return err
		}
		return openstack.WriteJSON(w, http.StatusOK, metadataView(&srv))
	}
}

func (a *API) changeMetadata(r *http.Request, values map[string]string, whole bool) (launcher.Server, error) {
	id := r.PathValue("id")
	srv, err := a.cfg.Manager.Update(asCaller(r), id, func(s *launcher.Server) error {
		next := map[string]string{}
		if !whole {
			maps.Copy(next, s.Metadata)
		}
		maps.Copy(next, values)
		if err := a.cfg.Compute.Quotas.Metadata(a.projectOf(s), s.User, len(next)); err != nil {
			return err
		}
		s.Metadata = next
		return nil
	})
	return srv, notFoundAs(err, noServer(id))
}

func (a *API) showMetadata(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	value, ok := srv.Metadata[key]
	if !ok {
		return openstack.NotFound("Metadata item was not found")
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"meta": view{key: value}})
}

func (a *API) putMetadata(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.writable(r); err != nil {
		return err
	}
	b, err := readBody(r, one("meta", aMetadata))
	if err != nil {
		return err
	}
	key, values := r.PathValue("key"), stringsOf(b.in("meta"))
	if _, ok := values[key]; !ok || len(values) != 1 {
		return openstack.BadRequest("Request body and URI mismatch")
	}
	if _, err := a.changeMetadata(r, values, false); err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"meta": values})
}

func (a *API) deleteMetadata(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.writable(r); err != nil {
		return err
	}
	id, key := r.PathValue("id"), r.PathValue("key")
	_, err := a.cfg.Manager.Update(asCaller(r), id, func(s *launcher.Server) error {
		if _, ok := s.Metadata[key]; !ok {
			return openstack.NotFound("Metadata item was not found")
		}
		s.Metadata = maps.Clone(s.Metadata)
		delete(s.Metadata, key)
		return nil
	})
	if err != nil {
		return notFoundAs(err, noServer(id))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) listTags(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"tags": orNone(srv.Tags)})
}

// changeTags replaces a server's tags.
func (a *API) changeTags(r *http.Request, change func(tags []string) ([]string, error)) (launcher.Server, error) {
	if _, err := a.writable(r); err != nil {
		return launcher.Server{}, err
	}
	id := r.PathValue("id")
	srv, err := a.cfg.Manager.Update(asCaller(r), id, func(s *launcher.Server) error {
		tags, err := change(slices.Clone(s.Tags))
		if err != nil {
			return err
		}
		s.Tags = tags
		return nil
	})
	return srv, notFoundAs(err, noServer(id))
}

var someTags = object(map[string]*schema{"tags": {kinds: []string{"array"}, items: aTag, maxLen: maxTags}}, "tags")

func (a *API) setTags(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, someTags)
	if err != nil {
		return err
	}
	srv, err := a.changeTags(r, func([]string) ([]string, error) { return unique(listOf(b["tags"])), nil })
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"tags": orNone(srv.Tags)})
}

func (a *API) clearTags(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.changeTags(r, func([]string) ([]string, error) { return nil, nil }); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func noTag(id, tag string) error {
	return openstack.NotFound("Server %s has no tag '%s'", id, tag)
}

func (a *API) showTag(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	if tag := r.PathValue("tag"); !slices.Contains(srv.Tags, tag) {
		return noTag(srv.ID, tag)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) putTag(w http.ResponseWriter, r *http.Request) error {
	tag := r.PathValue("tag")
	if err := aTag.check("tag", tag); err != nil {
		return err
	}
	status := http.StatusNoContent
	_, err := a.changeTags(r, func(tags []string) ([]string, error) {
		switch {
		case slices.Contains(tags, tag):
			return tags, nil
		case len(tags) >= maxTags:
			return nil, openstack.BadRequest("The number of tags exceeded the per-server limit %d", maxTags)
		}
		status = http.StatusCreated
		return append(tags, tag), nil
	})
	if err != nil {
		return err
	}
	w.Header().Set("Location", links(r, "/servers/"+r.PathValue("id")+"/tags/"+tag)[0].Href)
	w.WriteHeader(status)
	return nil
}

func (a *API) deleteTag(w http.ResponseWriter, r *http.Request) error {
	tag := r.PathValue("tag")
	_, err := a.changeTags(r, func(tags []string) ([]string, error) {
		i := slices.Index(tags, tag)
		if i < 0 {
			return nil, noTag(r.PathValue("id"), tag)
		}
		return slices.Delete(tags, i, i+1), nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var consoleLength = regexp.MustCompile(`^-?[0-9]+$`)

// maxConsole bounds each part of a console's output in bytes, as Nova does.
const maxConsole = 100 << 10

// consoleOutput answers with what the guest's kernel wrote, and behind it what the
// entrypoint did in the latest run; also of a server that has ended.
func (a *API) consoleOutput(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	console, err := a.cfg.Manager.Console(srv.ID, maxConsole)
	if err != nil {
		return err
	}
	if len(console) > 0 && !bytes.HasSuffix(console, []byte("\n")) {
		console = append(console, '\n')
	}
	q := output.All()
	q.Run = srv.Run
	var written []byte
	err = a.cfg.Manager.Output(r.Context(), srv.ID, q, func(rec output.Record) error {
		written = append(written, rec.Data...)
		if len(written) > 2*maxConsole {
			written = append([]byte(nil), written[len(written)-maxConsole:]...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	all := string(console) + string(written[max(0, len(written)-maxConsole):])
	m, _ := arg.(map[string]any)
	if length := body(m)["length"]; length != nil {
		all = lastLines(all, body(m).number("length"))
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"output": strings.ToValidUTF8(all, "\uFFFD")})
}

// lastLines is the end of a text, with a newline between lines only, as clients count
// them in Nova's; a negative number means all of it.
func lastLines(text string, n int) string {
	if n < 0 {
		return text
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
