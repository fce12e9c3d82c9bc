package nova

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

func (a *API) keypairRoutes() []route {
	// Whose key it is decides: see owner.
	return []route{
		{method: "GET", path: "/os-keypairs", serve: a.listKeypairs},
		{method: "POST", path: "/os-keypairs", serve: a.createKeypair},
		{method: "GET", path: "/os-keypairs/{id...}", serve: a.showKeypair},
		{method: "DELETE", path: "/os-keypairs/{id...}", serve: a.deleteKeypair},
	}
}

// keypairView is a key as it is shown: the first four always, in answer to its
// creation and alone also the rest.
type keypairView struct {
	Name        string  `json:"name"`
	PublicKey   string  `json:"public_key"`
	Fingerprint string  `json:"fingerprint"`
	Type        string  `json:"type,omitempty"`
	UserID      string  `json:"user_id,omitempty"`
	PrivateKey  string  `json:"private_key,omitempty"`
	Number      int     `json:"id,omitempty"`
	Created     *stamp  `json:"created_at,omitempty"`
	Deleted     *bool   `json:"deleted,omitempty"`
	DeletedAt   **stamp `json:"deleted_at,omitempty"`
	Updated     **stamp `json:"updated_at,omitempty"`
}

// stamp is a time as most of Nova writes it: in UTC, with microseconds, without
// saying so.
type stamp time.Time

// MarshalJSON writes null for the zero time.
func (t stamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(time.Time(t).UTC().Format(`"2006-01-02T15:04:05.000000"`)), nil
}

func viewKeypair(r *http.Request, k compute.Keypair) keypairView {
	v := keypairView{Name: k.Name, PublicKey: k.PublicKey, Fingerprint: k.Fingerprint}
	if openstack.MicroversionOf(r.Context()) >= 2 {
		v.Type = cmp.Or(k.Type, compute.KeySSH)
	}
	return v
}

// owner is the user whose keys a request is about: since 2.10 an administrator may
// name another.
func owner(r *http.Request, named, policy string) (string, error) {
	caller := openstack.CallerOf(r.Context())
	if named == "" || openstack.MicroversionOf(r.Context()) < 10 || named == caller.UserID {
		return caller.UserID, nil
	}
	if !caller.Has(openstack.Admin) {
		return "", refused("os_compute_api:os-keypairs:" + policy)
	}
	return named, nil
}

func (a *API) listKeypairs(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "user_id", "limit", "marker")
	if err != nil {
		return err
	}
	user, err := owner(r, q.Get("user_id"), "index")
	if err != nil {
		return err
	}
	part, more := a.cfg.Compute.Keypairs.All(user), false
	var page openstack.Page
	if openstack.MicroversionOf(r.Context()) >= 35 {
		if page, err = openstack.ReadPage(r, maxPage); err != nil {
			return err
		}
		page.Sort = nil
		part, more, err = openstack.Cut(part, page, func(k compute.Keypair) string { return k.Name }, nil)
		if err != nil {
			return err
		}
	}
	list := []map[string]keypairView{}
	for _, k := range part {
		list = append(list, map[string]keypairView{"keypair": viewKeypair(r, k)})
	}
	answer := map[string]any{"keypairs": list}
	if more {
		answer["keypairs_links"] = page.NextLinks(r, part[len(part)-1].Name)
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

func (a *API) showKeypair(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "user_id")
	if err != nil {
		return err
	}
	user, err := owner(r, q.Get("user_id"), "show")
	if err != nil {
		return err
	}
	k, err := a.cfg.Compute.Keypairs.Find(user, r.PathValue("id"))
	if err != nil {
		return err
	}
	v, created, never := viewKeypair(r, k), stamp(k.Created), (*stamp)(nil)
	v.UserID, v.Number, v.Created, v.Deleted = k.UserID, k.Number, &created, new(bool)
	v.DeletedAt, v.Updated = &never, &never
	return writeOne(w, http.StatusOK, "keypair", v)
}

var (
	keypairCreate   = one("keypair", object(map[string]*schema{"name": keypairName("_- "), "public_key": aText}, "name"))
	keypairCreate2  = with(keypairCreate, "keypair", "type", &schema{kinds: []string{"string"}, enum: []any{compute.KeySSH, compute.KeyCertificate}})
	keypairCreate10 = with(keypairCreate2, "keypair", "user_id", aText)
	keypairCreate92 = one("keypair", object(map[string]*schema{
		"name": keypairName("@._- "), "public_key": aText, "type": keypairCreate2.props["keypair"].props["type"], "user_id": aText,
	}, "name", "public_key"))
)

// keypairName is a name of letters, digits and some others.
func keypairName(others string) *schema {
	const plain = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255, form: func(s string) error {
		if err := checkName(s); err != nil {
			return err
		}
		if strings.Trim(s, others+plain) != "" {
			return invalidName("Only expected characters: [" + others + plain + "]")
		}
		return nil
	}}
}

func (a *API) createKeypair(w http.ResponseWriter, r *http.Request) error {
	version := openstack.MicroversionOf(r.Context())
	form := keypairCreate
	switch {
	case version >= 92:
		form = keypairCreate92
	case version >= 10:
		form = keypairCreate10
	case version >= 2:
		form = keypairCreate2
	}
	b, err := readBody(r, form)
	if err != nil {
		return err
	}
	b = b.in("keypair")
	user, err := owner(r, b.text("user_id"), "create")
	if err != nil {
		return err
	}
	k, private, err := a.makeKeypair(r, user, b)
	if err != nil {
		return err
	}
	v := viewKeypair(r, k)
	v.UserID, v.PrivateKey = k.UserID, private
	status := http.StatusOK
	if version >= 2 {
		status = http.StatusCreated
	}
	return writeOne(w, status, "keypair", v)
}

// makeKeypair imports the key of a body, or makes one.
func (a *API) makeKeypair(r *http.Request, user string, b body) (compute.Keypair, string, error) {
	project := callersProject(r)
	if _, ok := b["public_key"]; ok {
		k, err := a.cfg.Compute.Keypairs.Import(r.Context(), project, user, b.text("name"), b.text("type"), b.text("public_key"))
		return k, "", err
	}
	return a.cfg.Compute.Keypairs.Generate(r.Context(), project, user, b.text("name"), b.text("type"))
}

func (a *API) deleteKeypair(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "user_id")
	if err != nil {
		return err
	}
	user, err := owner(r, q.Get("user_id"), "delete")
	if err != nil {
		return err
	}
	if err := a.cfg.Compute.Keypairs.Delete(r.Context(), user, r.PathValue("id")); err != nil {
		return err
	}
	status := http.StatusAccepted
	if openstack.MicroversionOf(r.Context()) >= 2 {
		status = http.StatusNoContent
	}
	w.WriteHeader(status)
	return nil
}
