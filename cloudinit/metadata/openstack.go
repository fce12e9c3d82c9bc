package metadata

import (
	"crypto/rand"
	"slices"
	"strings"
)

// latest is the version that means the newest.
const latest = "latest"

// openstackVersions are Nova's versions of its own format, the oldest first.
var openstackVersions = []string{
	"2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
}

// openstackFiles are the names in a version, and the version that began with them.
var openstackFiles = []struct{ name, since string }{
	{"meta_data.json", "2012-08-10"},
	{"user_data", "2012-08-10"},
	{"password", "2013-04-04"},
	{"vendor_data.json", "2013-10-17"},
	{"network_data.json", "2015-10-15"},
	{"vendor_data2.json", "2016-10-06"},
}

// openstackHas reports whether a version is one, and has a file of that name.
func openstackHas(version, name string) bool {
	return slices.Contains(openstackNames(version), name)
}

// openstackNames lists what a version may hold; nothing for an unknown one.
func openstackNames(version string) []string {
	if version == latest {
		version = openstackVersions[len(openstackVersions)-1]
	}
	if !slices.Contains(openstackVersions, version) {
		return nil
	}
	var names []string
	for _, f := range openstackFiles {
		if f.since <= version {
			names = append(names, f.name)
		}
	}
	return names
}

// openstack finds what is at a path below /openstack.
func (i *Instance) openstack(parts []string) (data []byte, media string, err error) {
	const text = "text/plain; charset=UTF-8"
	if len(parts) == 0 {
		return []byte(strings.Join(append(slices.Clone(openstackVersions), latest), "\n")), text, nil
	}
	names := openstackNames(parts[0])
	if names == nil || len(parts) > 2 {
		return nil, "", errPath
	}
	seed := i.Seed
	if len(seed.MetaData.RandomSeed) == 0 {
		seed.MetaData.RandomSeed = make([]byte, 512)
		_, _ = rand.Read(seed.MetaData.RandomSeed) // it never fails
	}
	drive, err := seed.ConfigDrive()
	if err != nil {
		return nil, "", err
	}
	if seed.Network == nil {
		drive["openstack/latest/network_data.json"] = []byte("{}")
	}
	if len(parts) == 1 {
		names = slices.DeleteFunc(names, func(name string) bool {
			return name != "password" && drive["openstack/latest/"+name] == nil
		})
		return []byte(strings.Join(names, "\n")), text, nil
	}
	data, ok := drive["openstack/latest/"+parts[1]]
	if !ok || !slices.Contains(names, parts[1]) {
		return nil, "", errPath
	}
	if strings.HasSuffix(parts[1], ".json") {
		return data, "application/json", nil
	}
	return data, "application/octet-stream", nil
}
