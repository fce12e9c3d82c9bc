package nova

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// view is a resource as it is shown; which members it has depends on the microversion
// and on who looks.
type view map[string]any

// second is a time as the members that are older than microversions have it.
func second(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// text is for members that are null where they are empty.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// viewServerBriefly is a server in a list without details.
func viewServerBriefly(r *http.Request, srv *launcher.Server) view {
	return view{"id": srv.ID, "name": srv.Name, "links": links(r, "/servers/"+srv.ID)}
}

// viewServer is a server in full; extended says whether with what Nova's extensions
// once added, which some answers lack in old microversions.
func (a *API) viewServer(r *http.Request, srv *launcher.Server, extended bool) view {
	v := openstack.MicroversionOf(r.Context())
	s := viewServerBriefly(r, srv)
	s["status"] = srv.Status()
	s["tenant_id"] = a.projectOf(srv)
	s["user_id"] = srv.User
	s["metadata"] = orEmpty(srv.Metadata)
	s["hostId"] = a.hostID(srv)
	s["image"] = viewServerImage(r, srv)
	s["flavor"] = viewServerFlavor(r, &srv.Flavor)
	s["created"] = second(srv.Created)
	s["updated"] = second(srv.Updated)
	s["addresses"] = a.addresses(srv, extended)
	s["accessIPv4"], s["accessIPv6"] = srv.AccessIPv4, srv.AccessIPv6
	s["OS-DCF:diskConfig"] = diskConfig(srv)
	switch srv.Status() {
	case "ERROR", "DELETED":
		if srv.Fault != "" {
			s["fault"] = viewFault(srv)
		}
	case "ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE":
		s["progress"] = 0
	}
	if v >= 9 {
		s["locked"] = srv.Locked
	}
	if v >= 19 {
		s["description"] = srv.Description
	}
	if v >= 26 {
		s["tags"] = orNone(srv.Tags)
	}
	if v >= 63 {
		s["trusted_image_certificates"] = srv.Certificates
	}
	if v >= 73 {
		s["locked_reason"] = text(srv.LockedReason)
	}
	if v >= 90 {
		s["OS-EXT-SRV-ATTR:hostname"] = hostnameOf(srv)
	}
	if extended {
		a.extend(r, s, srv)
	}
	return s
}

// extend adds what Nova's extensions once did.
func (a *API) extend(r *http.Request, s view, srv *launcher.Server) {
	v := openstack.MicroversionOf(r.Context())
	placed := a.placed(srv)
	s["OS-EXT-AZ:availability_zone"] = ""
	if placed {
		s["OS-EXT-AZ:availability_zone"] = a.cfg.Compute.Zone()
	} else if srv.Zone != "" {
		s["OS-EXT-AZ:availability_zone"] = srv.Zone
	}
	if groups := a.viewGroups(srv); len(groups) > 0 {
		s["security_groups"] = groups
	}
	s["config_drive"] = ""
	if srv.ConfigDrive {
		s["config_drive"] = "True"
	}
	s["key_name"] = text(srv.KeyName)
	s["OS-SRV-USG:launched_at"] = stamp(srv.FirstLaunched)
	s["OS-SRV-USG:terminated_at"] = stamp(srv.Terminated)
	s["OS-EXT-STS:task_state"] = text(string(srv.TaskState))
	s["OS-EXT-STS:vm_state"] = srv.VMState
	s["OS-EXT-STS:power_state"] = srv.Power
	s["os-extended-volumes:volumes_attached"] = []string{}
	if !isAdmin(r) {
		return
	}
	s["OS-EXT-SRV-ATTR:host"], s["OS-EXT-SRV-ATTR:hypervisor_hostname"] = nil, nil
	s["OS-EXT-SRV-ATTR:instance_name"] = "slipway-" + srv.ID
	if placed {
		s["OS-EXT-SRV-ATTR:host"], s["OS-EXT-SRV-ATTR:hypervisor_hostname"] = a.cfg.Host, a.cfg.Host
	}
	if v >= 3 {
		s["OS-EXT-SRV-ATTR:reservation_id"] = srv.Reservation
		s["OS-EXT-SRV-ATTR:launch_index"] = srv.Index
		s["OS-EXT-SRV-ATTR:hostname"] = hostnameOf(srv)
		s["OS-EXT-SRV-ATTR:kernel_id"], s["OS-EXT-SRV-ATTR:ramdisk_id"] = "", ""
		s["OS-EXT-SRV-ATTR:root_device_name"] = rootDevice
		s["OS-EXT-SRV-ATTR:user_data"] = text(srv.UserData)
	}
	if v >= 16 {
		s["host_status"] = ""
		if placed {
			s["host_status"] = "UP"
		}
	}
}

// placed reports whether a server has got as far as this host.
func (a *API) placed(srv *launcher.Server) bool {
	return srv.TaskState != launcher.TaskScheduling && (srv.Run > 0 || srv.VMState != launcher.VMError)
}

// hostID names this host to a project, and to no other by the same name.
func (a *API) hostID(srv *launcher.Server) string {
	if !a.placed(srv) {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum224([]byte(a.projectOf(srv)+a.cfg.Host)))
}

func diskConfig(srv *launcher.Server) string {
	if srv.DiskConfig == "" {
		return "MANUAL"
	}
	return srv.DiskConfig
}

func hostnameOf(srv *launcher.Server) string {
	if srv.Spec.Hostname != "" {
		return srv.Spec.Hostname
	}
	return launcher.Hostname(srv.Name)
}

// viewServerImage names the image by its UUID or, where it has none, its reference.
func viewServerImage(r *http.Request, srv *launcher.Server) view {
	id := srv.ImageRef
	if id == "" {
		id = srv.Spec.Image
	}
	return view{"id": id, "links": bookmark(r, "/images/"+url.PathEscape(id))}
}

func flavorID(f *launcher.Flavor) string {
	if f.ID == "" {
		return f.Name
	}
	return f.ID
}

// rootDevice is where clients of Nova expect a server's root, whatever way it reaches
// the guest.
const rootDevice = "/dev/vda"

func viewServerFlavor(r *http.Request, f *launcher.Flavor) view {
	if openstack.MicroversionOf(r.Context()) < 47 {
		return view{"id": flavorID(f), "links": bookmark(r, "/flavors/"+url.PathEscape(flavorID(f)))}
	}
	units := func(bytes int64, shift uint) int64 { return (bytes + 1<<shift - 1) >> shift }
	return view{
		"vcpus": f.VCPUs, "ram": units(f.Memory, 20), "disk": units(f.Disk, 30),
		"ephemeral": units(f.Ephemeral, 30), "swap": units(f.Swap, 20),
		"original_name": f.Name, "extra_specs": orEmpty(f.ExtraSpecs),
	}
}

func viewFault(srv *launcher.Server) view {
	at := srv.FaultAt
	if at.IsZero() {
		at = srv.Updated
	}
	return view{"code": http.StatusInternalServerError, "created": second(at), "message": srv.Fault}
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// checkAddress refuses what is not an IP address of a family.
func checkAddress(family string) func(string) error {
	return func(s string) error {
		addr, err := netip.ParseAddr(s)
		if s == "" || err == nil && (family == "ipv4") == addr.Is4() {
			return nil
		}
		return openstack.BadRequest("Invalid input for field/attribute. Value: %s. '%s' is not a '%s'", s, s, family)
	}
}
