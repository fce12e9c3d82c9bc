package nova

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// lastProxies is the last microversion in which Nova passes on to Neutron and Glance.
const lastProxies = 35

func (a *API) securityGroupRoutes() []route {
	if a.cfg.Networks == nil {
		return nil
	}
	const policy, group = "os_compute_api:os-security-groups:", "/os-security-groups/{id}"
	all := []route{
		{method: "GET", path: "/os-security-groups", role: openstack.Reader, policy: policy + "get", serve: a.listSecurityGroups},
		{method: "POST", path: "/os-security-groups", role: openstack.Member, policy: policy + "create", serve: a.createSecurityGroup},
		{method: "GET", path: group, role: openstack.Reader, policy: policy + "show", serve: a.showSecurityGroup},
		{method: "PUT", path: group, role: openstack.Member, policy: policy + "update", serve: a.updateSecurityGroup},
		{method: "DELETE", path: group, role: openstack.Member, policy: policy + "delete", serve: a.deleteSecurityGroup},
		{method: "POST", path: "/os-security-group-rules", role: openstack.Member, policy: policy + "rule:create", serve: a.createSecurityGroupRule},
		{method: "DELETE", path: "/os-security-group-rules/{id}", role: openstack.Member, policy: policy + "rule:delete", serve: a.deleteSecurityGroupRule},
	}
	for i := range all {
		all[i].max = lastProxies
	}
	return all
}

func (a *API) viewSecurityGroup(g *network.SecurityGroup) view {
	rules := []view{}
	for _, r := range a.cfg.Networks.RulesOf(g.ID) {
		if r.Direction == network.Ingress && (r.EtherType == "IPv4" || r.RemotePrefix.IsValid()) {
			rules = append(rules, a.viewSecurityGroupRule(&r))
		}
	}
	return view{"id": g.ID, "name": g.Name, "description": g.Description, "tenant_id": g.Project, "rules": rules}
}

// viewSecurityGroupRule is a rule as nova-network had it: without ports where it is for
// all, which of a protocol are -1 of ICMP, and 1 to 65535.
func (a *API) viewSecurityGroupRule(r *network.Rule) view {
	v := view{"id": r.ID, "parent_group_id": r.Group, "ip_protocol": text(r.Protocol), "from_port": nil, "to_port": nil, "group": view{}, "ip_range": view{}}
	switch {
	case r.Min != nil && r.Max != nil:
		v["from_port"], v["to_port"] = *r.Min, *r.Max
	case strings.HasPrefix(r.Protocol, "icmp"):
		v["from_port"], v["to_port"] = -1, -1
	case r.Protocol != "":
		v["from_port"], v["to_port"] = 1, 65535
	}
	g, err := a.cfg.Networks.Group(r.RemoteGroup)
	switch {
	case r.RemoteGroup != "" && err == nil:
		v["group"] = view{"name": g.Name, "tenant_id": g.Project}
	case r.RemotePrefix.IsValid():
		v["ip_range"] = view{"cidr": r.RemotePrefix.String()}
	default:
		v["ip_range"] = view{"cidr": map[bool]string{true: "::/0", false: "0.0.0.0/0"}[r.EtherType == "IPv6"]}
	}
	return v
}

func (a *API) listSecurityGroups(w http.ResponseWriter, r *http.Request) error {
	project := callersProject(r)
	if _, err := a.cfg.Networks.DefaultGroup(r.Context(), project); err != nil {
		return err
	}
	q := r.URL.Query()
	everybodys := isAdmin(r) && q.Has("all_tenants")
	groups := a.cfg.Networks.Groups(func(g network.SecurityGroup) bool { return everybodys || g.Project == project })
	views := []view{}
	for i := range groups {
		views = append(views, a.viewSecurityGroup(&groups[i]))
	}
	from, limit := number(q.Get("offset"), 0), number(q.Get("limit"), len(views))
	views = views[min(from, len(views)):]
	return writeOne(w, http.StatusOK, "security_groups", views[:min(limit, len(views))])
}

// number reads a whole number of a query, which is another where it is none.
func number(s string, otherwise int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

// securityGroup finds a group of the caller's by the ID of a request.
func (a *API) securityGroup(r *http.Request, id string) (network.SecurityGroup, error) {
	if !uuidForm.MatchString(id) {
		return network.SecurityGroup{}, openstack.BadRequest("Security group id should be uuid")
	}
	if err := a.cfg.Networks.LearnGroups(r.Context(), callersProject(r)); err != nil {
		return network.SecurityGroup{}, err
	}
	g, err := a.cfg.Networks.Group(id)
	if err != nil || !a.uses(r, g.Project) {
		return g, openstack.NotFound("Security group %s not found.", id)
	}
	return g, nil
}

func (a *API) showSecurityGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := a.securityGroup(r, r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "security_group", a.viewSecurityGroup(&g))
}

// aGroupName may begin and end with spaces, unlike a server's.
var aGroupName = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255, form: func(s string) error {
	if strings.TrimSpace(s) == "" {
		return openstack.BadRequest("Security group name is blank.")
	}
	return nil
}}

var aSecurityGroup = one("security_group", object(map[string]*schema{"name": aGroupName, "description": aDescription}, "name"))

func (a *API) createSecurityGroup(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, aSecurityGroup)
	if err != nil {
		return err
	}
	b = b.in("security_group")
	name := b.text("name")
	if name == network.DefaultName {
		return openstack.BadRequest("Default security group already exists")
	}
	g, err := a.cfg.Networks.CreateGroup(r.Context(), network.SecurityGroup{Base: network.Base{
		Name: name, Description: b.text("description"), Project: callersProject(r),
	}})
	if err != nil {
		return overQuota(err)
	}
	return writeOne(w, http.StatusOK, "security_group", a.viewSecurityGroup(&g))
}

// overQuota words Neutron's refusal as Nova words it.
func overQuota(err error) error {
	if f := openstack.FaultOf(err); strings.HasPrefix(f.Message, "Quota exceeded") {
		return openstack.Forbidden("%s", f.Message)
	}
	return err
}

func (a *API) updateSecurityGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := a.securityGroup(r, r.PathValue("id"))
	if err != nil {
		return err
	}
	b, err := readBody(r, aSecurityGroup)
	if err != nil {
		return err
	}
	b = b.in("security_group")
	if g.Name == network.DefaultName {
		return openstack.BadRequest("Unable to update system group '%s'", g.Name)
	}
	g, err = a.cfg.Networks.UpdateGroup(r.Context(), g.ID, func(g *network.SecurityGroup) error {
		g.Name, g.Description = b.text("name"), b.text("description")
		return nil
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "security_group", a.viewSecurityGroup(&g))
}

func (a *API) deleteSecurityGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := a.securityGroup(r, r.PathValue("id"))
	if err != nil {
		return err
	}
	if g.Name == network.DefaultName {
		return openstack.BadRequest("Unable to delete system group '%s'", g.Name)
	}
	if err := a.cfg.Networks.DeleteGroup(r.Context(), g.ID); err != nil {
		return openstack.BadRequest("%s", openstack.FaultOf(err).Message)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

var aSecurityGroupRule = one("security_group_rule", &schema{kinds: []string{"object"}, open: true})

func (a *API) createSecurityGroupRule(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, aSecurityGroupRule)
	if err != nil {
		return err
	}
	b = b.in("security_group_rule")
	g, err := a.securityGroup(r, b.text("parent_group_id"))
	if err != nil {
		return err
	}
	rule := network.Rule{Base: network.Base{Project: g.Project}, Group: g.ID, Direction: network.Ingress, EtherType: "IPv4"}
	if id := b.text("group_id"); id != "" {
		other, err := a.securityGroup(r, id)
		if err != nil {
			return err
		}
		rule.RemoteGroup = other.ID
	} else if cidr := b.text("cidr"); cidr != "" {
		if rule.RemotePrefix, err = netip.ParsePrefix(cidr); err != nil {
			return openstack.BadRequest("Invalid cidr %s", cidr)
		}
		if rule.RemotePrefix.Addr().Is6() {
			rule.EtherType = "IPv6"
		}
	}
	if err := portsOf(b, &rule); err != nil {
		return err
	}
	if rule.RemoteGroup == "" && !rule.RemotePrefix.IsValid() {
		rule.RemotePrefix = netip.MustParsePrefix("0.0.0.0/0")
	}
	made, err := a.cfg.Networks.CreateRule(r.Context(), rule)
	if err != nil {
		return ruleFault(err)
	}
	return writeOne(w, http.StatusOK, "security_group_rule", a.viewSecurityGroupRule(&made))
}

// ruleFault words Neutron's refusal of a rule as Nova words it.
func ruleFault(err error) error {
	if err = overQuota(err); openstack.FaultOf(err).Code == http.StatusConflict {
		return openstack.BadRequest("This rule already exists in group")
	}
	return err
}

// portsOf reads protocol and ports, which a rule for a group may lack.
func portsOf(b body, rule *network.Rule) error {
	protocol := strings.ToLower(b.text("ip_protocol"))
	from, ferr := strconv.Atoi(b.text("from_port"))
	to, terr := strconv.Atoi(b.text("to_port"))
	switch {
	case protocol == "" && rule.RemoteGroup != "" && b.text("from_port") == "":
		return nil
	case ferr != nil || terr != nil:
		return openstack.BadRequest("Invalid input received: Invalid port %s or %s", b.text("from_port"), b.text("to_port"))
	case !slices.Contains([]string{"tcp", "udp", "icmp"}, protocol):
		return openstack.BadRequest("Invalid IP protocol %s.", b.text("ip_protocol"))
	case from > to:
		return openstack.BadRequest("Invalid port range %d:%d. Former value cannot be greater than the later", from, to)
	case protocol != "icmp" && (from < 1 || to > 65535):
		return openstack.BadRequest("Invalid port range %d:%d. Valid TCP ports should be between 1-65535", from, to)
	case protocol == "icmp" && (from < -1 || from > 255 || to < -1 || to > 255):
		return openstack.BadRequest("Invalid port range %d:%d. For ICMP, the type:code must be valid", from, to)
	}
	rule.Protocol = protocol
	if protocol != "icmp" || from >= 0 {
		rule.Min = &from
	}
	if protocol != "icmp" || to >= 0 {
		rule.Max = &to
	}
	return nil
}

func (a *API) deleteSecurityGroupRule(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !uuidForm.MatchString(id) {
		return openstack.BadRequest("The id should be uuid")
	}
	rule, err := a.cfg.Networks.Rule(id)
	if err != nil || !a.uses(r, rule.Project) {
		return openstack.NotFound("Security group rule %s not found.", id)
	}
	if err := a.cfg.Networks.DeleteRule(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
