package nova

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/rootfs"
)

var (
	specValue   = &schema{kinds: []string{"string", "number"}, maxLen: 255}
	specsCreate = one("extra_specs", &schema{kinds: []string{"object"}, names: metadataName, rest: specValue})
	specUpdate  = &schema{kinds: []string{"object"}, names: metadataName, rest: specValue, minProps: 1, maxPro: 1}
)

func specsOf(f compute.Flavor) map[string]string {
	if f.ExtraSpecs == nil {
		return map[string]string{}
	}
	return f.ExtraSpecs
}

func (a *API) listExtraSpecs(w http.ResponseWriter, r *http.Request) error {
	f, err := a.flavor(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "extra_specs", specsOf(f))
}

func (a *API) showExtraSpec(w http.ResponseWriter, r *http.Request) error {
	f, err := a.flavor(r)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	value, ok := f.ExtraSpecs[key]
	if !ok {
		return noSpec(f.ID, key)
	}
	return writeOne(w, http.StatusOK, key, value)
}

func noSpec(flavor, key string) error {
	return openstack.NotFound("Flavor %s has no extra specs with key %s.", flavor, key)
}

func (a *API) createExtraSpecs(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, specsCreate)
	if err != nil {
		return err
	}
	if err := a.setSpecs(r, b.in("extra_specs")); err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, b)
}

func (a *API) updateExtraSpec(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, specUpdate)
	if err != nil {
		return err
	}
	if _, ok := b[r.PathValue("key")]; !ok {
		return openstack.BadRequest("Request body and URI mismatch")
	}
	if err := a.setSpecs(r, b); err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, b)
}

// setSpecs adds to the extra specs of a flavor. Ours are checked, others are kept
// and mean nothing here.
func (a *API) setSpecs(r *http.Request, specs body) error {
	if _, ok := specs[launcher.SpecRootMode]; ok {
		mode := specs.text(launcher.SpecRootMode)
		if !slices.ContainsFunc(rootfs.Modes, func(m rootfs.Mode) bool { return m.Name == mode }) {
			return openstack.BadRequest("Validation failed; extra spec '%s' has the unknown value '%s'", launcher.SpecRootMode, mode)
		}
	}
	if mode := specs.text(launcher.SpecInitMode); !launcher.ValidInitMode(guest.InitMode(mode)) {
		return openstack.BadRequest("Validation failed; extra spec '%s' has the unknown value '%s'", launcher.SpecInitMode, mode)
	}
	_, err := a.cfg.Compute.Flavors.Update(r.Context(), r.PathValue("id"), func(f *compute.Flavor) error {
		f.ExtraSpecs = specsOf(*f)
		for key := range specs {
			f.ExtraSpecs[key] = specs.text(key)
		}
		return nil
	})
	return err
}

func (a *API) deleteExtraSpec(w http.ResponseWriter, r *http.Request) error {
	key := r.PathValue("key")
	_, err := a.cfg.Compute.Flavors.Update(r.Context(), r.PathValue("id"), func(f *compute.Flavor) error {
		if _, ok := f.ExtraSpecs[key]; !ok {
			return noSpec(f.ID, key)
		}
		delete(f.ExtraSpecs, key)
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
