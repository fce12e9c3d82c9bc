package nova

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

var (
	aUserData = &schema{kinds: []string{"string", "null"}, maxLen: 65535, form: checkBase64}
	aTag      = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 60, pattern: regexp.MustCompile(`^[^,/]*$`)}
	aUUID     = &schema{kinds: []string{"string"}, pattern: uuidForm}
	aFlavor   = &schema{kinds: []string{"string", "integer"}, minLen: 1}
	anImage   = &schema{kinds: []string{"string"}, maxLen: 1024}
	aFile     = object(map[string]*schema{"path": aText, "contents": {kinds: []string{"string"}, form: checkBase64}}, "path", "contents")
	aMapping  = &schema{kinds: []string{"object"}, open: true}
	aList     = func(items *schema) *schema { return &schema{kinds: []string{"array"}, items: items} }
	hints     = &schema{kinds: []string{"object"}, props: map[string]*schema{"group": aUUID}, open: true}
)

func checkBase64(s string) error {
	if _, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\n", "", "\r", "").Replace(s)); err != nil {
		return openstack.BadRequest("Invalid input for field/attribute. Value: %.64s. The value is not a 'base64'", s)
	}
	return nil
}

// serverCreate is the schema of a request for servers.
func serverCreate(v openstack.Microversion) *schema {
	props := described(v, map[string]*schema{
		"name": aName, "imageRef": anImage, "flavorRef": aFlavor, "adminPass": aText, "metadata": aMetadata,
		"networks":          {kinds: []string{"array", "string"}, items: aNetwork(v)},
		"availability_zone": aName, "block_device_mapping": aList(aMapping), "block_device_mapping_v2": aList(aMapping),
		"config_drive": aBoolean, "key_name": aName, "min_count": aCount, "max_count": aCount,
		"return_reservation_id": aBoolean, "user_data": aUserData,
		"security_groups": aList(object(map[string]*schema{"name": aName})),
	})
	required := []string{"name", "flavorRef"}
	if v < 57 {
		props["personality"] = aList(aFile)
	}
	if v >= 37 {
		required = append(required, "networks")
	}
	if v >= 52 {
		props["tags"] = &schema{kinds: []string{"array"}, items: aTag, maxLen: maxTags}
	}
	if v >= 63 {
		props["trusted_image_certificates"] = &schema{kinds: []string{"array", "null"}, items: aWord, maxLen: 50}
	}
	if v >= 74 {
		props["host"], props["hypervisor_hostname"] = aHost, aHost
	}
	s := one("server", object(props, required...))
	s.props["os:scheduler_hints"], s.props["OS-SCH-HNT:scheduler_hints"] = hints, hints
	return s
}

// order is a request for servers, understood.
type order struct {
	ask    compute.Ask
	server launcher.NewServer
	name   string
}

func (a *API) createServers(w http.ResponseWriter, r *http.Request) error {
	v := openstack.MicroversionOf(r.Context())
	whole, err := readBody(r, serverCreate(v))
	if err != nil {
		return err
	}
	b := whole.in("server")
	o, err := a.order(r, whole, b)
	if err != nil {
		return err
	}
	servers, err := a.create(asCaller(r), o)
	if err != nil {
		return networkFault(err)
	}
	if b.truth("return_reservation_id", false) {
		return openstack.WriteJSON(w, http.StatusAccepted, view{"reservation_id": o.server.Reservation})
	}
	srv := servers[0]
	groups := b["security_groups"]
	if groups == nil {
		groups = []view{{"name": "default"}}
	}
	answer := view{
		"id": srv.ID, "links": links(r, "/servers/"+srv.ID), "OS-DCF:diskConfig": diskConfig(&srv),
		"security_groups": groups, "adminPass": cmp.Or(b.text("adminPass"), randomText(12)),
	}
	w.Header().Set("Location", links(r, "/servers/"+srv.ID)[0].Href)
	return writeOne(w, http.StatusAccepted, "server", answer)
}

// create makes the servers of an order, as many as quotas allow.
func (a *API) create(ctx context.Context, o *order) ([]launcher.Server, error) {
	var servers []launcher.Server
	err := a.cfg.Compute.Admit(o.ask, func(n int, noHost error) error {
		s := o.server
		s.Spec.Name, s.Index = o.name, n
		if o.ask.Max > 1 {
			s.Spec.Name = fmt.Sprintf("%s-%d", o.name, n+1)
		}
		if noHost != nil {
			s.NoHost = noHost.Error()
		}
		srv, err := a.cfg.Manager.CreateFor(ctx, s)
		if err != nil {
			return err
		}
		servers = append(servers, srv)
		return nil
	})
	if err != nil && len(servers) == 0 {
		return nil, err
	}
	return servers, nil
}

// order understands a request, and refuses what is wrong in it.
func (a *API) order(r *http.Request, whole, b body) (*order, error) {
	caller := openstack.CallerOf(r.Context())
	if err := checkPlace(r, b, a); err != nil {
		return nil, err
	}
	ref, err := imageOf(b)
	if err != nil {
		return nil, err
	}
	flavor, err := a.flavorOf(r, b.text("flavorRef"))
	if err != nil {
		return nil, err
	}
	image, err := a.image(r, ref, &flavor)
	if err != nil {
		return nil, err
	}
	files, err := a.filesOf(r, b)
	if err != nil {
		return nil, err
	}
	least := max(b.number("min_count"), 1)
	most := cmp.Or(b.number("max_count"), least)
	switch {
	case least > most:
		return nil, openstack.BadRequest("min_count must be <= max_count")
	case most > 1 && b.text("hostname") != "":
		return nil, openstack.BadRequest("A hostname cannot be given to more than one server.")
	}
	networks, err := a.networksOf(r, b, most)
	if err != nil {
		return nil, err
	}
	o := &order{name: strings.TrimSpace(b.text("name"))}
	hint := cmp.Or(whole.in("os:scheduler_hints").text("group"), whole.in("OS-SCH-HNT:scheduler_hints").text("group"))
	o.ask = compute.Ask{Project: caller.ProjectID, User: caller.UserID, Group: hint, Flavor: flavor, Min: least, Max: most}
	s := launcher.Server{Spec: launcher.Spec{Image: image.Reference, Size: &flavor, Networks: networks}}
	describe(b, &s)
	s.ImageRef, s.Metadata = image.ID, stringsOf(b.in("metadata"))
	if err := a.cfg.Compute.Quotas.Metadata(caller.ProjectID, caller.UserID, len(s.Metadata)); err != nil {
		return nil, err
	}
	s.UserData, s.ConfigDrive, s.Files = b.text("user_data"), b.truth("config_drive", false), files
	s.Zone, _, _ = strings.Cut(b.text("availability_zone"), ":")
	s.Tags, s.Certificates = unique(listOf(b["tags"])), listOf(b["trusted_image_certificates"])
	s.Reservation = "r-" + strings.ToLower(randomText(8))
	if err := a.giveKey(&s, caller.UserID, b); err != nil {
		return nil, err
	}
	o.server = launcher.NewServer{Spec: s.Spec, Details: s.Details, Project: caller.ProjectID, User: caller.UserID, Group: hint}
	return o, nil
}

// filesOf are the files that a body has for its server, called its personality once.
func (a *API) filesOf(r *http.Request, b body) ([]launcher.File, error) {
	list, _ := b["personality"].([]any)
	caller := openstack.CallerOf(r.Context())
	limit := func(n int, of compute.Resource) bool {
		most := a.cfg.Compute.Quotas.Limit(caller.ProjectID, caller.UserID, of)
		return most == compute.Unlimited || n <= most
	}
	if !limit(len(list), compute.InjectedFiles) {
		return nil, openstack.Forbidden("Personality file limit exceeded")
	}
	var files []launcher.File
	for _, one := range list {
		f := body(one.(map[string]any))
		content, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\n", "", "\r", "").Replace(f.text("contents")))
		switch {
		case err != nil:
			return nil, openstack.BadRequest("Personality content for %s cannot be decoded", f.text("path"))
		case f.text("path") == "":
			return nil, openstack.BadRequest("Personality file without a path")
		case !limit(len(f.text("path")), compute.InjectedPathBytes):
			return nil, openstack.Forbidden("Personality file path exceeds maximum")
		case !limit(len(content), compute.InjectedFileBytes):
			return nil, openstack.Forbidden("Personality file content exceeds maximum")
		}
		files = append(files, launcher.File{Path: "/" + strings.TrimLeft(f.text("path"), "/"), Content: content})
	}
	return files, nil
}

// groupsOf is the server group of a server, if it is in one.
func groupsOf(srv *launcher.Server) []string {
	if srv.Group == "" {
		return []string{}
	}
	return []string{srv.Group}
}

// giveKey looks up the key pair that a body names.
func (a *API) giveKey(s *launcher.Server, user string, b body) error {
	name := b.text("key_name")
	if name == "" {
		return nil
	}
	key, err := a.cfg.Compute.Keypairs.Find(user, name)
	if err != nil {
		return notFoundAs(err, openstack.BadRequest("Invalid key_name provided."))
	}
	s.KeyName, s.PublicKey = key.Name, ""
	if key.Type != compute.KeyCertificate { // which no guest here takes
		s.PublicKey = key.PublicKey
	}
	return nil
}

// notFoundAs is err, or instead where that matches launcher.ErrNotFound.
func notFoundAs(err, instead error) error {
	if errors.Is(err, launcher.ErrNotFound) {
		return instead
	}
	return err
}

func (a *API) flavorOf(r *http.Request, ref string) (launcher.Flavor, error) {
	id := lastPart(ref)
	f, err := a.cfg.Compute.Flavors.Flavor(callersProject(r), id, isAdmin(r))
	return f, notFoundAs(err, openstack.BadRequest("Flavor %s could not be found.", id))
}

// image finds an image by its UUID or its name. An administrator may name one by a
// reference: it can be one of a file of this host, or one of a network that only it
// reaches.
func (a *API) image(r *http.Request, ref string, flavor *launcher.Flavor) (Image, error) {
	id := lastPart(ref)
	if !uuidForm.MatchString(id) {
		if isAdmin(r) && strings.ContainsAny(ref, "/:@") {
			return Image{Reference: ref}, nil
		}
		id = ref
	}
	if a.cfg.Images == nil {
		return Image{}, openstack.BadRequest("Can not find requested image")
	}
	image, err := a.cfg.Images.Image(r.Context(), openstack.CallerOf(r.Context()), id)
	switch {
	case err != nil && id == ref && !uuidForm.MatchString(id):
		return image, notFoundAs(err, openstack.BadRequest("Invalid imageRef provided: '%s' is not the id of an image, nor its name.", ref))
	case err != nil:
		return image, notFoundAs(err, openstack.BadRequest("Can not find requested image"))
	case flavor.Memory < image.MinMemory:
		return image, openstack.BadRequest("Flavor's memory is too small for requested image.")
	case flavor.Disk < image.MinDisk:
		return image, openstack.BadRequest("Flavor's disk is too small for requested image. Flavor disk is %d bytes, minimum size is %d bytes.", flavor.Disk, image.MinDisk)
	}
	if parsed, err := images.ParseReference(image.Reference); err == nil && parsed.Piped() {
		img, err := a.cfg.Manager.Image(r.Context(), image.Reference)
		if err != nil {
			return image, err
		}
		image.Reference = img.ID // its archive is gone
	}
	return image, nil
}

// imageOf is the image that a request names, by itself or as the disk to boot from.
func imageOf(b body) (string, error) {
	ref := b.text("imageRef")
	if list, _ := b["block_device_mapping"].([]any); len(list) > 0 {
		return "", invalidMapping("volumes are not supported")
	}
	list, _ := b["block_device_mapping_v2"].([]any)
	for _, item := range list {
		m := body(item.(map[string]any))
		source, to := m.text("source_type"), cmp.Or(m.text("destination_type"), "local")
		id := cmp.Or(m.text("uuid"), m.text("image_id"))
		switch {
		case source == "volume":
			return "", invalidMapping("failed to get volume %s.", id)
		case source != "image" || to != "local":
			return "", invalidMapping("only an image that is booted from a local disk is supported")
		case ref != "" && ref != id:
			return "", invalidMapping("the image to boot from is another than imageRef")
		}
		ref = id
	}
	if ref == "" {
		return "", openstack.BadRequest("Invalid imageRef provided.")
	}
	return ref, nil
}

func invalidMapping(format string, args ...any) error {
	return openstack.BadRequest("Block Device Mapping is Invalid: %s", fmt.Sprintf(format, args...))
}

// checkPlace refuses a zone or a host that is not this one.
func checkPlace(r *http.Request, b body, a *API) error {
	zone, host, forced := strings.Cut(b.text("availability_zone"), ":")
	if forced {
		if !isAdmin(r) {
			return refused("os_compute_api:servers:create:forced_host")
		}
		host, _, _ = strings.Cut(host, ":")
	}
	if zone != "" && zone != a.cfg.Compute.Zone() {
		return openstack.BadRequest("The requested availability zone is not available")
	}
	for _, name := range []string{b.text("host"), b.text("hypervisor_hostname")} {
		if name != "" && !isAdmin(r) {
			return refused("compute:servers:create:requested_destination")
		}
		host = cmp.Or(host, name)
		if host != "" && host != a.cfg.Host {
			return openstack.BadRequest("Compute host %s could not be found.", host)
		}
	}
	return nil
}

const maxTags = 50

// stringsOf are the members of an object of strings.
func stringsOf(b body) map[string]string {
	m := map[string]string{}
	for name := range b {
		m[name] = b.text(name)
	}
	return m
}

// listOf are the strings of an array.
func listOf(v any) []string {
	items, _ := v.([]any)
	var list []string
	for _, item := range items {
		if s, ok := item.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

// unique drops the repetitions in a list.
func unique(list []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

// randomText is n random letters and digits.
func randomText(n int) string { return rand.Text()[:n] }
