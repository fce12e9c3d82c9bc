package neutron

import (
	"fmt"
	"net/http"
	"regexp"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// reasonf is why a value is refused.
func reasonf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// disallowed is Neutron's answer to who may not do something.
func disallowed(rule string) error {
	return &openstack.Fault{Code: http.StatusForbidden, Type: "PolicyNotAuthorized", Message: "rule:" + rule + " is disallowed by policy"}
}

// types are the names of Neutron's exceptions, by how their messages look. Clients
// tell faults of one status apart by them.
var types = []struct {
	message *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`^Network \S+ could not be found`), "NetworkNotFound"},
	{regexp.MustCompile(`^Subnet \S+ could not be found`), "SubnetNotFound"},
	{regexp.MustCompile(`^Port \S+ could not be found`), "PortNotFound"},
	{regexp.MustCompile(`^Security group \S+ could not be found`), "SecurityGroupNotFound"},
	{regexp.MustCompile(`^Security group rule \S+ could not be found`), "SecurityGroupRuleNotFound"},
	{regexp.MustCompile(`^Floating IP \S+ could not be found`), "FloatingIPNotFound"},
	{regexp.MustCompile(`^Unable to complete operation on network`), "NetworkInUse"},
	{regexp.MustCompile(`^Unable to complete operation on subnet`), "SubnetInUse"},
	{regexp.MustCompile(`^Unable to complete operation on port .* already bound`), "PortBound"},
	{regexp.MustCompile(`^Port \S+ cannot be deleted directly`), "ServicePortInUse"},
	{regexp.MustCompile(`The mac address \S+ is in use`), "MacAddressInUse"},
	{regexp.MustCompile(`^IP address \S+ already allocated`), "IpAddressAlreadyAllocated"},
	{regexp.MustCompile(`^No more IP addresses available`), "IpAddressGenerationFailure"},
	{regexp.MustCompile(`^IP address \S+ is not a valid IP for the specified subnet`), "InvalidIpForSubnet"},
	{regexp.MustCompile(`^The allocation pool .* spans beyond`), "OutOfBoundsAllocationPool"},
	{regexp.MustCompile(`^The allocation pool .* is not valid`), "InvalidAllocationPool"},
	{regexp.MustCompile(`^Found overlapping allocation pools`), "OverlappingAllocationPools"},
	{regexp.MustCompile(`^Gateway ip .* conflicts with allocation pool`), "GatewayConflictWithAllocationPools"},
	{regexp.MustCompile(`^Current gateway ip`), "GatewayIpInUse"},
	{regexp.MustCompile(`^A default network already exists`), "DefaultExternalNetworkExists"},
	{regexp.MustCompile(`^Security Group \S+ in use`), "SecurityGroupInUse"},
	{regexp.MustCompile(`^Security group rule already exists`), "SecurityGroupRuleExists"},
	{regexp.MustCompile(`^Removal of default security group`), "SecurityGroupCannotRemoveDefault"},
	{regexp.MustCompile(`^Updating default security group`), "SecurityGroupCannotUpdateDefault"},
	{regexp.MustCompile(`^Default security group already exists`), "SecurityGroupDefaultAlreadyExists"},
	{regexp.MustCompile(`^Security group rule protocol`), "SecurityGroupRuleInvalidProtocol"},
	{regexp.MustCompile(`^Security group rule for ethertype`), "SecurityGroupRuleInvalidEtherType"},
	{regexp.MustCompile(`^Conflicting value ethertype`), "SecurityGroupRuleParameterConflict"},
	{regexp.MustCompile(`^Port security must be enabled`), "PortSecurityAndIPRequiredForSecurityGroups"},
	{regexp.MustCompile(`^Cannot associate floating IP`), "FloatingIPPortAlreadyAssociated"},
	{regexp.MustCompile(`^Quota exceeded`), "OverQuota"},
	{regexp.MustCompile(`^Bad \S+ request`), "BadRequest"},
	{regexp.MustCompile(`^Invalid input for operation`), "InvalidInput"},
}

// faultOf names the exception that a failure is in Neutron.
func faultOf(err error) error {
	f := *openstack.FaultOf(err)
	for _, t := range types {
		if f.Type == "" && t.message.MatchString(f.Message) {
			f.Type = t.name
		}
	}
	return &f
}
