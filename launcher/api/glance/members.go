package glance

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

func memberView(x catalog.Image, project string, m catalog.Member) map[string]any {
	return map[string]any{
		"member_id": project, "image_id": x.ID, "status": m.Status, "schema": "/v2/schemas/member",
		"created_at": m.Created.Format(shape), "updated_at": m.Updated.Format(shape),
	}
}

// membered finds an image whose members a caller may know of, and which of them:
// a member knows of itself.
func (a *api) membered(r *http.Request) (x catalog.Image, whole bool, err error) {
	if x, err = a.images.Find(r.Context(), caller(r), r.PathValue("id")); err != nil {
		return x, false, err
	}
	who := caller(r)
	return x, who.Admin || x.Owner == who.Project, nil
}

func (a *api) members(w http.ResponseWriter, r *http.Request) error {
	x, whole, err := a.membered(r)
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for project, m := range x.Members {
		if whole || project == caller(r).Project {
			list = append(list, memberView(x, project, m))
		}
	}
	slices.SortFunc(list, func(a, b map[string]any) int { return strings.Compare(text(a, "member_id"), text(b, "member_id")) })
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{"members": list, "schema": "/v2/schemas/members"})
}

func (a *api) member(w http.ResponseWriter, r *http.Request) error {
	x, whole, err := a.membered(r)
	if err != nil {
		return err
	}
	project := r.PathValue("member")
	m, ok := x.Members[project]
	if !ok || !whole && project != caller(r).Project {
		return noMember(x, project)
	}
	return openstack.WriteJSON(w, http.StatusOK, memberView(x, project, m))
}

func noMember(x catalog.Image, project string) error {
	return openstack.NotFound("%s not found in the member list of the image %s.", project, x.ID)
}

func (a *api) addMember(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Member string `json:"member"`
	}
	if err := openstack.ReadJSON(r, &body); err != nil {
		return err
	}
	if body.Member == "" {
		return openstack.BadRequest("Member can't be empty")
	}
	now := time.Now().UTC()
	x, err := a.images.Change(r.Context(), caller(r), r.PathValue("id"), "add_member", func(x *catalog.Image) error {
		if x.Visibility != catalog.Shared {
			return openstack.Forbidden("Only shared images have members.")
		}
		if _, ok := x.Members[body.Member]; ok {
			return openstack.Conflict("Member %s is duplicated for image %s", body.Member, x.ID)
		}
		if len(x.Members) >= maxMembers {
			return openstack.Faultf(http.StatusRequestEntityTooLarge, "The limit has been exceeded on the number of allowed image members for this image. Attempted: %d, Maximum: %d", len(x.Members)+1, maxMembers)
		}
		if x.Members == nil {
			x.Members = map[string]catalog.Member{}
		}
		x.Members[body.Member] = catalog.Member{Status: "pending", Created: now, Updated: now}
		return nil
	})
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, memberView(x, body.Member, x.Members[body.Member]))
}

// answer is what a member says to an image that is shared with it.
func (a *api) answer(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Status string `json:"status"`
	}
	if err := openstack.ReadJSON(r, &body); err != nil {
		return err
	}
	if !slices.Contains([]string{"pending", "accepted", "rejected"}, body.Status) {
		return openstack.BadRequest("Value is not one of pending, accepted, rejected: %s", body.Status)
	}
	project := r.PathValue("member")
	x, err := a.images.ChangeMember(r.Context(), caller(r), r.PathValue("id"), project, body.Status)
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, memberView(x, project, x.Members[project]))
}

func (a *api) removeMember(w http.ResponseWriter, r *http.Request) error {
	project := r.PathValue("member")
	_, err := a.images.Change(r.Context(), caller(r), r.PathValue("id"), "delete_member", func(x *catalog.Image) error {
		if x.Visibility != catalog.Shared {
			return openstack.Forbidden("Only shared images have members.")
		}
		if _, ok := x.Members[project]; !ok {
			return noMember(*x, project)
		}
		delete(x.Members, project)
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
