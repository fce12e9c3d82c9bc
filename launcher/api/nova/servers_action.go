package nova

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// action is one member of an action's body.
type action struct {
	policy   string // without "os_compute_api:"
	role     string // empty: member
	min, max openstack.Microversion
	// arg is what the member may be; nil: anything.
	arg *schema
	// free says that a lock does not keep users from it.
	free bool
	do   func(a *API, w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error
}

// simply makes an action of a method of the manager that takes a server alone.
func simply(f func(m *launcher.Manager, ctx context.Context, id string) error) func(*API, http.ResponseWriter, *http.Request, *launcher.Server, any) error {
	return func(a *API, w http.ResponseWriter, r *http.Request, srv *launcher.Server, _ any) error {
		if err := f(a.cfg.Manager, asCaller(r), srv.ID); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
}

const notSupported = "The requested functionality is not supported."

// notHere answers what Slipway has not.
func notHere(*API, http.ResponseWriter, *http.Request, *launcher.Server, any) error {
	return openstack.Faultf(http.StatusNotImplemented, "%s", notSupported)
}

func unavailableConsole(_ *API, _ http.ResponseWriter, _ *http.Request, _ *launcher.Server, arg any) error {
	m, _ := arg.(map[string]any)
	return openstack.BadRequest("Unavailable console type %s.", body(m).text("type"))
}

var (
	aReboot     = object(map[string]*schema{"type": {kinds: []string{"string"}, enum: []any{"HARD", "Hard", "hard", "SOFT", "Soft", "soft"}}}, "type")
	aState      = object(map[string]*schema{"state": {kinds: []string{"string"}, enum: []any{"active", "error"}}}, "state")
	aResize     = object(map[string]*schema{"flavorRef": aFlavor, "OS-DCF:diskConfig": aDiskConfig}, "flavorRef")
	aConsole    = &schema{kinds: []string{"object"}, props: map[string]*schema{"length": {kinds: []string{"integer", "string", "null"}, pattern: consoleLength}}}
	aRemoteType = object(map[string]*schema{"type": aText}, "type")
	aSnapshot   = &schema{kinds: []string{"object"}, props: map[string]*schema{"name": aName, "metadata": aMetadata}, required: []string{"name"}}
	aBackup     = object(map[string]*schema{"name": aName, "backup_type": aText, "rotation": aCountOrNone, "metadata": aMetadata}, "name", "backup_type", "rotation")
	aGroup      = object(map[string]*schema{"name": aWord}, "name")
	aPassword   = object(map[string]*schema{"adminPass": aText}, "adminPass")
)

var actions = map[string]action{
	"os-start":      {policy: "servers:start", do: simply((*launcher.Manager).Start)},
	"os-stop":       {policy: "servers:stop", do: (*API).powerOff},
	"reboot":        {policy: "servers:reboot", arg: aReboot, do: (*API).reboot},
	"pause":         {policy: "os-pause-server:pause", do: simply((*launcher.Manager).Pause)},
	"unpause":       {policy: "os-pause-server:unpause", do: simply((*launcher.Manager).Unpause)},
	"suspend":       {policy: "os-suspend-server:suspend", do: simply((*launcher.Manager).Suspend)},
	"resume":        {policy: "os-suspend-server:resume", do: simply((*launcher.Manager).Resume)},
	"lock":          {policy: "os-lock-server:lock", free: true, do: (*API).lock},
	"unlock":        {policy: "os-lock-server:unlock", free: true, do: (*API).unlock},
	"rebuild":       {policy: "servers:rebuild", do: (*API).rebuild},
	"resize":        {policy: "servers:resize", arg: aResize, do: (*API).resize},
	"confirmResize": {policy: "servers:confirm_resize", do: (*API).confirmResize},
	"revertResize":  {policy: "servers:revert_resize", do: simply((*launcher.Manager).RevertResize)},
	"forceDelete":   {policy: "os-deferred-delete:force", do: simply((*launcher.Manager).DeleteLater)},
	"os-resetState": {policy: "os-admin-actions:reset_state", role: openstack.Admin, arg: aState, do: (*API).resetState},

	"os-getConsoleOutput":   {policy: "os-console-output", free: true, arg: aConsole, do: (*API).consoleOutput},
	"os-getVNCConsole":      {policy: "os-remote-consoles", max: 5, arg: aRemoteType, do: unavailableConsole},
	"os-getSPICEConsole":    {policy: "os-remote-consoles", max: 5, arg: aRemoteType, do: unavailableConsole},
	"os-getRDPConsole":      {policy: "os-remote-consoles", max: 5, arg: aRemoteType, do: unavailableConsole},
	"os-getSerialConsole":   {policy: "os-remote-consoles", max: 5, arg: aRemoteType, do: unavailableConsole},
	"createImage":           {policy: "servers:create_image", arg: aSnapshot, do: (*API).createImage},
	"changePassword":        {policy: "os-admin-password", arg: aPassword, do: (*API).changePassword},
	"createBackup":          {policy: "os-create-backup", arg: aBackup, do: (*API).createBackup},
	"trigger_crash_dump":    {policy: "servers:trigger_crash_dump", min: 17, do: notHere},
	"rescue":                {policy: "os-rescue", do: notHere},
	"unrescue":              {policy: "os-unrescue", do: notHere},
	"shelve":                {policy: "os-shelve:shelve", do: notHere},
	"unshelve":              {policy: "os-shelve:unshelve", do: notHere},
	"shelveOffload":         {policy: "os-shelve:shelve_offload", role: openstack.Admin, do: notHere},
	"migrate":               {policy: "os-migrate-server:migrate", role: openstack.Admin, do: noHost},
	"os-migrateLive":        {policy: "os-migrate-server:migrate_live", role: openstack.Admin, do: noHost},
	"evacuate":              {policy: "os-evacuate", role: openstack.Admin, do: noHost},
	"restore":               {policy: "os-deferred-delete:restore", do: notDeleted},
	"addSecurityGroup":      {policy: "os-security-groups:add", arg: aGroup, do: changeGroup(true)},
	"removeSecurityGroup":   {policy: "os-security-groups:remove", arg: aGroup, do: changeGroup(false)},
	"addFixedIp":            {policy: "os-multinic:add", max: 43, arg: object(map[string]*schema{"networkId": aWord}, "networkId"), do: (*API).addFixedIP},
	"removeFixedIp":         {policy: "os-multinic:remove", max: 43, arg: object(map[string]*schema{"address": aWord}, "address"), do: (*API).removeFixedIP},
	"resetNetwork":          {policy: "os-admin-actions:reset_network", role: openstack.Admin, do: goneAction},
	"injectNetworkInfo":     {policy: "os-admin-actions:inject_network_info", role: openstack.Admin, do: goneAction},
	"os-getPasswordConsole": {policy: "os-remote-consoles", max: 5, do: unavailableConsole},
}

func noHost(*API, http.ResponseWriter, *http.Request, *launcher.Server, any) error {
	return openstack.BadRequest("No valid host was found. There is one host only.")
}

func notDeleted(_ *API, _ http.ResponseWriter, _ *http.Request, srv *launcher.Server, _ any) error {
	return &launcher.StateError{ID: srv.ID, Server: srv.Name, Action: "restore", VM: srv.VMState, Task: srv.TaskState}
}

func goneAction(*API, http.ResponseWriter, *http.Request, *launcher.Server, any) error {
	return gone(nil, nil)
}

var anyObject = &schema{kinds: []string{"object"}, open: true}

// actOnServer answers POST /servers/{id}/action.
func (a *API) actOnServer(w http.ResponseWriter, r *http.Request) error {
	whole, err := readBody(r, anyObject)
	if err != nil {
		return err
	}
	v := openstack.MicroversionOf(r.Context())
	for name, arg := range whole {
		act, ok := actions[name]
		if !ok || v < act.min || act.max != 0 && v > act.max {
			return openstack.BadRequest("There is no such action: %s", name)
		}
		if len(whole) > 1 {
			return openstack.BadRequest("Additional properties are not allowed: a request is for one action")
		}
		if !openstack.CallerOf(r.Context()).Has(cmp.Or(act.role, openstack.Member)) {
			return refused("os_compute_api:" + act.policy)
		}
		find := a.writable
		if act.free {
			find = a.server
		}
		srv, err := find(r)
		if err != nil {
			return err
		}
		if act.arg != nil {
			if err := act.arg.check(name, arg); err != nil {
				return err
			}
		}
		return notFoundAs(act.do(a, w, r, &srv, arg), noServer(srv.ID))
	}
	return openstack.BadRequest("There is no such action: the body is empty")
}

func (a *API) reboot(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	hard := strings.EqualFold(body(arg.(map[string]any)).text("type"), "hard")
	if err := a.cfg.Manager.Reboot(asCaller(r), srv.ID, hard); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

var aLock = &schema{kinds: []string{"object"}, props: map[string]*schema{"locked_reason": {kinds: []string{"string"}, minLen: 1, maxLen: 255}}}

func (a *API) lock(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	reason := ""
	if openstack.MicroversionOf(r.Context()) >= 73 && arg != nil {
		if err := aLock.check("lock", arg); err != nil {
			return err
		}
		reason = body(arg.(map[string]any)).text("locked_reason")
	}
	theirs := callersProject(r) == a.projectOf(srv)
	err := a.cfg.Manager.Lock(asCaller(r), srv.ID, launcher.ActionLock, func(s *launcher.Server) {
		if !s.Locked {
			s.AdminLocked = !theirs
		}
		s.Locked, s.LockedReason = true, reason
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) unlock(w http.ResponseWriter, r *http.Request, srv *launcher.Server, _ any) error {
	if srv.AdminLocked && !isAdmin(r) {
		return refused("os_compute_api:os-lock-server:unlock:unlock_override")
	}
	err := a.cfg.Manager.Lock(asCaller(r), srv.ID, launcher.ActionUnlock, func(s *launcher.Server) {
		s.Locked, s.AdminLocked, s.LockedReason = false, false, ""
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func serverRebuild(v openstack.Microversion) *schema {
	props := described(v, map[string]*schema{
		"name": aName, "imageRef": anImage, "adminPass": aText, "metadata": aMetadata, "preserve_ephemeral": aBoolean,
	})
	if v < 57 {
		props["personality"] = aList(aFile)
	} else {
		props["user_data"] = aUserData
	}
	if v >= 54 {
		props["key_name"] = &schema{kinds: []string{"string", "null"}, minLen: 1, maxLen: 255}
	}
	if v >= 63 {
		props["trusted_image_certificates"] = &schema{kinds: []string{"array", "null"}, items: aWord, maxLen: 50}
	}
	return object(props, "imageRef")
}

func (a *API) rebuild(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	v := openstack.MicroversionOf(r.Context())
	if err := serverRebuild(v).check("rebuild", arg); err != nil {
		return err
	}
	b := body(arg.(map[string]any))
	files, err := a.filesOf(r, b)
	if err != nil {
		return err
	}
	image, err := a.image(r, b.text("imageRef"), &srv.Flavor)
	if err != nil {
		return err
	}
	err = a.cfg.Manager.Rebuild(asCaller(r), srv.ID, func(s *launcher.Server) error {
		describe(b, s)
		s.ImageRef, s.Spec.Image, s.Files = image.ID, image.Reference, files
		if m, ok := b["metadata"].(map[string]any); ok {
			s.Metadata = stringsOf(m)
		}
		if b["user_data"] != nil || slices.Contains(keysOf(b), "user_data") {
			s.UserData = b.text("user_data")
		}
		if slices.Contains(keysOf(b), "key_name") {
			s.KeyName, s.PublicKey = "", ""
			return a.giveKey(s, openstack.CallerOf(r.Context()).UserID, b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	now, err := a.server(r)
	if err != nil {
		return err
	}
	s := a.viewServer(r, &now, v >= 75)
	s["adminPass"] = cmp.Or(b.text("adminPass"), randomText(12))
	if v >= 57 {
		s["user_data"] = text(now.UserData)
		delete(s, "OS-EXT-SRV-ATTR:user_data") // the same again
	}
	if v >= 54 {
		s["key_name"] = text(now.KeyName)
	}
	if v >= 71 {
		s["server_groups"] = groupsOf(&now)
	}
	w.Header().Set("Location", links(r, "/servers/"+srv.ID)[0].Href)
	return writeOne(w, http.StatusAccepted, "server", s)
}

func keysOf(b body) []string {
	var keys []string
	for k := range b {
		keys = append(keys, k)
	}
	return keys
}

func (a *API) resize(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	b := body(arg.(map[string]any))
	flavor, err := a.flavorOf(r, b.text("flavorRef"))
	if err != nil {
		return err
	}
	switch {
	case flavorID(&flavor) == flavorID(&srv.Flavor):
		return openstack.BadRequest("When resizing, instances must change flavor!")
	case flavor.Disk < srv.Flavor.Disk:
		return openstack.BadRequest("Resize to a flavor with a smaller disk is not possible.")
	}
	err = a.cfg.Compute.Resize(a.projectOf(srv), srv.User, srv.Flavor, flavor, func() error {
		return a.cfg.Manager.Resize(asCaller(r), srv.ID, flavor)
	})
	if config := b.text("OS-DCF:diskConfig"); err == nil && config != "" {
		_, err = a.cfg.Manager.Update(r.Context(), srv.ID, func(s *launcher.Server) error { s.DiskConfig = config; return nil })
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) changePassword(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	if err := a.cfg.Manager.SetPassword(asCaller(r), srv.ID, body(arg.(map[string]any)).text("adminPass")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) confirmResize(w http.ResponseWriter, r *http.Request, srv *launcher.Server, _ any) error {
	if err := a.cfg.Manager.ConfirmResize(asCaller(r), srv.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) resetState(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	state := body(arg.(map[string]any)).text("state")
	if err := a.cfg.Manager.ResetState(asCaller(r), srv.ID, launcher.VMState(state)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
