package metadata

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ec2Versions are the versions of EC2's format that Nova knows, the oldest first.
var ec2Versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
}

// tree is a directory of metadata: its values are string, []byte or tree.
type tree map[string]any

// named is a directory that is listed by another name than its own, without a slash,
// as EC2 lists public keys.
type named struct {
	as string
	tree
}

// ec2 finds what is at a path of EC2's format, which begins with a version.
func (i *Instance) ec2(parts []string) ([]byte, error) {
	if len(parts) == 0 || parts[0] == "" {
		return []byte(strings.Join(append(slices.Clone(ec2Versions), latest), "\n")), nil
	}
	version := parts[0]
	if version == latest {
		version = ec2Versions[len(ec2Versions)-1]
	}
	if !slices.Contains(ec2Versions, version) {
		return nil, errPath
	}
	var at any = i.ec2Tree(version)
	for _, part := range parts[1:] {
		dir, ok := at.(tree)
		if n, is := at.(named); is {
			dir, ok = n.tree, true
		}
		if !ok || dir[part] == nil {
			return nil, errPath
		}
		at = dir[part]
	}
	switch v := at.(type) {
	case tree:
		return v.list(), nil
	case named:
		return v.list(), nil
	case []byte:
		return v, nil
	}
	return []byte(fmt.Sprint(at)), nil
}

// ec2Tree is everything of a version.
func (i *Instance) ec2Tree(version string) tree {
	m := i.Seed.MetaData
	meta := tree{
		"ami-id": ec2ID("ami", i.ImageID), "ami-launch-index": strconv.Itoa(m.LaunchIndex), "ami-manifest-path": "FIXME", // so says EC2 of none
		"instance-id": ec2ID("i", m.InstanceID), "hostname": m.LocalHostname, "local-ipv4": text(i.LocalIPv4),
		"reservation-id": i.Reservation, "security-groups": strings.Join(i.SecurityGroups, "\n"),
	}
	if len(m.PublicKeys) > 0 {
		keys := tree{}
		for n, key := range m.PublicKeys {
			number := strconv.Itoa(n)
			keys[number] = named{as: number + "=" + m.KeyNameOf(n), tree: tree{"openssh-key": key}}
		}
		meta["public-keys"] = keys
	}
	if version >= "2007-01-19" {
		meta["local-hostname"], meta["public-hostname"], meta["public-ipv4"] = m.LocalHostname, m.LocalHostname, text(i.PublicIPv4)
	}
	if version >= "2007-08-29" {
		meta["instance-type"] = i.Flavor
	}
	if version >= "2008-02-01" {
		meta["placement"] = tree{"availability-zone": m.AvailabilityZone}
	}
	if version >= "2008-09-01" {
		meta["instance-action"] = "none"
	}
	all := tree{"meta-data": meta}
	if len(i.Seed.UserData) > 0 {
		all["user-data"] = i.Seed.UserData
	}
	return all
}

// list names what a directory holds, directories with a slash.
func (t tree) list() []byte {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		switch v := t[name].(type) {
		case tree:
			name += "/"
		case named:
			name = v.as
		}
		lines = append(lines, name)
	}
	return []byte(strings.Join(lines, "\n"))
}

// ec2ID makes an ID of EC2's form out of a UUID.
func ec2ID(kind, id string) string {
	digits := strings.ReplaceAll(id, "-", "")
	return kind + "-" + digits[:min(17, len(digits))]
}

// text is an address, or nothing.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
