package neutron

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// The limits of tags, which are Neutron's.
const (
	maxTags = 50
	maxTag  = 255
)

// tagRoutes are those of the tags of one resource.
func (x *resource[T]) tagRoutes(a *api, one string) []openstack.Route {
	change := func(method, path string, status int, next func(r *http.Request, tags []string) ([]string, error)) openstack.Route {
		return openstack.Route{Method: method, Path: one + path, Serve: a.may(openstack.Member, "update_"+x.name+":tags",
			func(w http.ResponseWriter, r *http.Request) error { return x.changeTags(a, w, r, status, next) })}
	}
	return []openstack.Route{
		{Method: "GET", Path: one + "/tags", Serve: a.may(openstack.Reader, "get_"+x.name+":tags", func(w http.ResponseWriter, r *http.Request) error {
			v, err := x.visible(a, r, r.PathValue("id"))
			if err != nil {
				return err
			}
			return openstack.WriteJSON(w, http.StatusOK, view{"tags": list(x.base(&v).Tags, same)})
		})},
		{Method: "GET", Path: one + "/tags/{tag}", Serve: a.may(openstack.Reader, "get_"+x.name+":tags", func(w http.ResponseWriter, r *http.Request) error {
			v, err := x.visible(a, r, r.PathValue("id"))
			if err != nil {
				return err
			}
			if !slices.Contains(x.base(&v).Tags, r.PathValue("tag")) {
				return noTag(r)
			}
			w.WriteHeader(http.StatusNoContent)
			return nil
		})},
		change("PUT", "/tags", http.StatusOK, func(r *http.Request, _ []string) ([]string, error) {
			var b struct {
				Tags []string `json:"tags"`
			}
			err := openstack.ReadJSON(r, &b)
			return b.Tags, err
		}),
		change("DELETE", "/tags", http.StatusNoContent, func(*http.Request, []string) ([]string, error) { return nil, nil }),
		change("PUT", "/tags/{tag}", http.StatusCreated, func(r *http.Request, tags []string) ([]string, error) {
			return append(slices.Clone(tags), r.PathValue("tag")), nil
		}),
		change("DELETE", "/tags/{tag}", http.StatusNoContent, func(r *http.Request, tags []string) ([]string, error) {
			i := slices.Index(tags, r.PathValue("tag"))
			if i < 0 {
				return nil, noTag(r)
			}
			return slices.Delete(slices.Clone(tags), i, i+1), nil
		}),
	}
}

func noTag(r *http.Request) error {
	return &openstack.Fault{Code: http.StatusNotFound, Type: "TagNotFound", Message: "Tag " + r.PathValue("tag") + " could not be found."}
}

func (x *resource[T]) changeTags(a *api, w http.ResponseWriter, r *http.Request, status int, next func(*http.Request, []string) ([]string, error)) error {
	v, err := x.own(a, r, "update")
	if err != nil {
		return err
	}
	tags, err := next(r, x.base(&v).Tags)
	if err != nil {
		return err
	}
	tags, err = cleanTags(tags)
	if err != nil {
		return openstack.BadRequest("Invalid input for tags. Reason: %s.", err)
	}
	_, err = x.update(r.Context(), r.PathValue("id"), func(v *T) error { x.base(v).Tags = tags; return nil })
	if err != nil {
		return faultOf(err)
	}
	if status != http.StatusOK {
		w.WriteHeader(status)
		return nil
	}
	return openstack.WriteJSON(w, status, view{"tags": list(tags, same)})
}

// cleanTags sorts tags and drops those that are there twice.
func cleanTags(tags []string) ([]string, error) {
	tags = slices.Clone(tags)
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if len(tags) > maxTags {
		return nil, reasonf("'%d' tags exceed the maximum of %d", len(tags), maxTags)
	}
	for _, t := range tags {
		if t == "" || len(t) > maxTag {
			return nil, reasonf("'%.64s' is not a tag of 1 to %d characters", t, maxTag)
		}
	}
	return tags, nil
}

// setTags is for tags in the body of a new resource.
func setTags[T any](base func(*T) *network.Base) func(*T, any) error {
	return func(x *T, v any) error {
		var tags []string
		err := each(v, func(one any) error {
			s, ok := one.(string)
			if !ok {
				return reasonf("'%v' is not a valid string", shown(one))
			}
			tags = append(tags, s)
			return nil
		})
		if err == nil {
			base(x).Tags, err = cleanTags(tags)
		}
		return err
	}
}
