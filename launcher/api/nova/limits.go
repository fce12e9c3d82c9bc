package nova

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

// limitNames are what the limits are called here, each with the last microversion
// that shows it; 0: all.
var limitNames = []struct {
	name     string
	resource compute.Resource
	used     bool
	last     openstack.Microversion
}{
	{"maxTotalInstances", compute.Instances, false, 0},
	{"maxTotalCores", compute.Cores, false, 0},
	{"maxTotalRAMSize", compute.RAM, false, 0},
	{"maxServerMeta", compute.MetadataItems, false, 0},
	{"maxImageMeta", compute.MetadataItems, false, 38},
	{"maxPersonality", compute.InjectedFiles, false, 56},
	{"maxPersonalitySize", compute.InjectedFileBytes, false, 56},
	{"maxTotalKeypairs", compute.KeyPairs, false, 0},
	{"maxServerGroups", compute.ServerGroups, false, 0},
	{"maxServerGroupMembers", compute.ServerGroupMembers, false, 0},
	{"maxTotalFloatingIps", compute.FloatingIPs, false, 35},
	{"maxSecurityGroups", compute.SecurityGroups, false, 35},
	{"maxSecurityGroupRules", compute.SecurityGroupRules, false, 35},
	{"totalRAMUsed", compute.RAM, true, 0},
	{"totalCoresUsed", compute.Cores, true, 0},
	{"totalInstancesUsed", compute.Instances, true, 0},
	{"totalFloatingIpsUsed", compute.FloatingIPs, true, 35},
	{"totalSecurityGroupsUsed", compute.SecurityGroups, true, 35},
	{"totalServerGroupsUsed", compute.ServerGroups, true, 0},
}

func (a *API) showLimits(w http.ResponseWriter, r *http.Request) error {
	known := []string{"tenant_id"}
	if isAdmin(r) {
		known = append(known, "reserved") // the openstack client sends it
	}
	q, err := checkQuery(r, known...)
	if err != nil {
		return err
	}
	project := callersProject(r)
	if q.Has("tenant_id") {
		project = q.Get("tenant_id")
		if !isAdmin(r) {
			return refused("os_compute_api:limits:other_project")
		}
	}
	limits, used := a.cfg.Compute.Quotas.Limits(project, ""), a.cfg.Compute.Quotas.Used(project, "")
	version := openstack.MicroversionOf(r.Context())
	absolute := map[string]int{}
	for _, l := range limitNames {
		switch {
		case l.last != 0 && version > l.last:
		case l.used:
			absolute[l.name] = used[l.resource]
		default:
			absolute[l.name] = limits[l.resource]
		}
	}
	return writeOne(w, http.StatusOK, "limits", map[string]any{"rate": []string{}, "absolute": absolute})
}
