package nova

import (
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// migration is a resize, which Nova sees as a migration, here to the same host.
type migration struct {
	launcher.ActionRecord
	status  string
	updated time.Time
}

// migrationsOf finds the resizes in what was done to a server, given from the latest
// on, and what became of them.
func migrationsOf(records []launcher.ActionRecord) []migration {
	var all []migration
	for _, x := range slices.Backward(records) {
		last := len(all) - 1
		switch {
		case x.Action == launcher.ActionResize.Name():
			m := migration{x, "finished", changedAt(x)}
			if x.Message != "" {
				m.status = "error"
			} else if x.Finish.IsZero() {
				m.status = "migrating"
			}
			all = append(all, m)
		case last < 0 || x.Message != "" || all[last].status != "finished":
		case x.Action == launcher.ActionConfirmResize.Name():
			all[last].status, all[last].updated = "confirmed", changedAt(x)
		case x.Action == launcher.ActionRevertResize.Name():
			all[last].status, all[last].updated = "reverted", changedAt(x)
		}
	}
	return all
}

// id is a number of Nova's database, for which the time serves.
func (m *migration) id() int64 { return m.Start.UnixMicro() }

func (m *migration) uuid() string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(m.Server+m.Request)).String()
}

func (a *API) viewMigration(r *http.Request, m *migration) view {
	v := openstack.MicroversionOf(r.Context())
	s := view{
		"id": m.id(), "status": m.status, "instance_uuid": m.Server, "created_at": stamp(m.Start), "updated_at": stamp(m.updated),
		"source_node": a.cfg.Host, "source_compute": a.cfg.Host, "dest_node": a.cfg.Host, "dest_compute": a.cfg.Host,
		"dest_host": nil, "old_instance_type_id": nil, "new_instance_type_id": nil,
	}
	if v >= 23 {
		s["migration_type"] = "resize"
	}
	if v >= 59 {
		s["uuid"] = m.uuid()
	}
	if v >= 80 {
		s["user_id"], s["project_id"] = m.User, m.Project
	}
	return s
}

// migrationFilters compare a migration with a parameter of the query.
var migrationFilters = map[string]func(a *API, m *migration, value string) bool{
	"host":           func(a *API, _ *migration, value string) bool { return value == a.cfg.Host },
	"source_compute": func(a *API, _ *migration, value string) bool { return value == a.cfg.Host },
	"instance_uuid":  func(_ *API, m *migration, value string) bool { return value == m.Server },
	"status":         func(_ *API, m *migration, value string) bool { return value == m.status },
	"migration_type": func(_ *API, _ *migration, value string) bool { return value == "resize" },
	"hidden":         func(_ *API, _ *migration, value string) bool { return !isTrue(value) },
	"user_id":        func(_ *API, m *migration, value string) bool { return value == m.User },
	"project_id":     func(_ *API, m *migration, value string) bool { return value == m.Project },
}

func (a *API) listMigrations(w http.ResponseWriter, r *http.Request) error {
	known := []string{"limit", "marker", "changes-since", "changes-before"}
	for name := range migrationFilters {
		known = append(known, name)
	}
	q, err := checkQuery(r, known...)
	if err != nil {
		return err
	}
	page := openstack.Page{Limit: maxServers}
	v := openstack.MicroversionOf(r.Context())
	if v >= 59 {
		if page, err = openstack.ReadPage(r, maxServers); err != nil {
			return err
		}
	}
	since, before, err := changedBetween(q, v)
	if err != nil {
		return err
	}
	list, err := a.migrations(r, func(m *migration) bool {
		for name, keeps := range migrationFilters {
			if q.Get(name) != "" && !keeps(a, m, q.Get(name)) {
				return false
			}
		}
		return !m.updated.Before(since) && (before.IsZero() || !m.updated.After(before))
	})
	if err != nil {
		return err
	}
	part, more, err := openstack.Cut(list, page, func(m migration) string { return m.uuid() }, nil)
	if err != nil {
		return err
	}
	views := make([]view, 0, len(part))
	for i := range part {
		views = append(views, a.viewMigration(r, &part[i]))
	}
	answer := view{"migrations": views}
	if more && v >= 59 {
		answer["migrations_links"] = page.NextLinks(r, part[len(part)-1].uuid())
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

// migrations are those of all servers, deleted ones too, the latest first.
func (a *API) migrations(r *http.Request, keeps func(*migration) bool) ([]migration, error) {
	var all []migration
	for _, srv := range slices.Concat(a.cfg.Manager.Servers(), a.cfg.Manager.Deleted()) {
		records, err := a.cfg.Manager.Actions(r.Context(), srv.ID)
		if err != nil {
			return nil, err
		}
		for _, m := range migrationsOf(records) {
			if keeps(&m) {
				all = append(all, m)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b migration) int { return b.Start.Compare(a.Start) })
	return all, nil
}
