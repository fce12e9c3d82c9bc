package cloudinit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Labels of the disks that hold a seed: NoCloud's files, or OpenStack's.
const (
	NoCloudLabel     = "cidata"
	ConfigDriveLabel = "config-2"
)

// configDriveVersions are the directories below openstack/ that a config drive
// gets, all with the same content.
var configDriveVersions = []string{"2018-08-27", "latest"}

// openstackMetaData is meta_data.json, as
// https://docs.openstack.org/nova/latest/user/metadata.html has it.
type openstackMetaData struct {
	UUID             string            `json:"uuid"`
	Name             string            `json:"name"`
	Hostname         string            `json:"hostname,omitempty"`
	AvailabilityZone string            `json:"availability_zone,omitempty"`
	ProjectID        string            `json:"project_id,omitempty"`
	LaunchIndex      int               `json:"launch_index"`
	Meta             map[string]string `json:"meta,omitempty"`
	PublicKeys       map[string]string `json:"public_keys,omitempty"`
	Keys             []openstackKey    `json:"keys,omitempty"`
	RandomSeed       string            `json:"random_seed,omitempty"` // base64
	Devices          []openstackDevice `json:"devices"`
}

// openstackDevice is a device that has a tag. Which bus it is on is not known when a
// seed is made: "none", as Nova has it then.
type openstackDevice struct {
	Type    string   `json:"type"`
	MAC     string   `json:"mac"`
	Bus     string   `json:"bus"`
	Address string   `json:"address"`
	Tags    []string `json:"tags"`
}

type openstackKey struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Data string `json:"data"`
}

// ConfigDrive encodes the seed as the files of an OpenStack config drive, by their
// paths.
func (s *Seed) ConfigDrive() (map[string][]byte, error) {
	if _, err := s.MetaData.Encode(); err != nil { // what holds there holds here
		return nil, err
	}
	meta, err := s.MetaData.openstack()
	if err != nil {
		return nil, err
	}
	vendor, err := encodeVendorData(s.VendorData)
	if err != nil {
		return nil, err
	}
	latest := map[string][]byte{"meta_data.json": meta, "vendor_data.json": vendor, "vendor_data2.json": []byte("{}")}
	if len(s.UserData) > 0 {
		latest["user_data"] = s.UserData
	}
	if s.Network != nil {
		if latest["network_data.json"], err = s.Network.openstack(); err != nil {
			return nil, err
		}
	}
	files := map[string][]byte{}
	for _, version := range configDriveVersions {
		for name, data := range latest {
			files[path.Join("openstack", version, name)] = data
		}
	}
	return files, nil
}

func (m MetaData) openstack() ([]byte, error) {
	out := openstackMetaData{
		UUID: m.InstanceID, Name: m.Name, Hostname: m.LocalHostname, AvailabilityZone: m.AvailabilityZone,
		ProjectID: m.ProjectID, LaunchIndex: m.LaunchIndex, Meta: m.Meta, Devices: []openstackDevice{},
	}
	if out.Name == "" {
		out.Name = m.LocalHostname
	}
	if len(m.RandomSeed) > 0 {
		out.RandomSeed = base64.StdEncoding.EncodeToString(m.RandomSeed)
	}
	for i, key := range m.PublicKeys {
		name := m.KeyNameOf(i)
		if out.PublicKeys == nil {
			out.PublicKeys = map[string]string{}
		}
		out.PublicKeys[name] = key
		out.Keys = append(out.Keys, openstackKey{name, "ssh", key})
	}
	for _, n := range m.TaggedNICs {
		out.Devices = append(out.Devices, openstackDevice{"nic", n.MAC, "none", "none", []string{n.Tag}})
	}
	return json.Marshal(out)
}

// KeyNameOf is the name of a public key, by its place among them.
func (m MetaData) KeyNameOf(n int) string {
	if n == 0 && m.KeyName != "" {
		return m.KeyName
	}
	return fmt.Sprintf("key-%d", n)
}

// encodeVendorData puts vendor-data where cloud-init looks for it in
// vendor_data.json.
func encodeVendorData(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]string{"cloud-init": string(data)})
}

// ParseConfigDrive reads the files of an OpenStack config drive. What it may lack is
// left empty.
func ParseConfigDrive(drive fs.FS) (*Seed, error) {
	read := func(name string) ([]byte, error) {
		data, err := readSeedFile(drive, path.Join("openstack/latest", name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return data, err
	}
	data, err := readSeedFile(drive, "openstack/latest/meta_data.json")
	if err != nil {
		return nil, fmt.Errorf("%w: config drive: %w", ErrInvalid, err)
	}
	s := new(Seed)
	if s.MetaData, err = parseOpenStackMetaData(data); err != nil {
		return nil, err
	}
	if s.UserData, err = read("user_data"); err != nil {
		return nil, err
	}
	vendor, err := read("vendor_data.json")
	if err == nil {
		s.VendorData, err = decodeVendorData(vendor)
	}
	if err != nil {
		return nil, err
	}
	network, err := read("network_data.json")
	if err != nil || len(network) == 0 {
		return s, err
	}
	s.Network, err = parseNetworkData(network)
	return s, err
}

func parseOpenStackMetaData(data []byte) (MetaData, error) {
	var in openstackMetaData
	if err := json.Unmarshal(data, &in); err != nil {
		return MetaData{}, fmt.Errorf("%w: meta_data.json: %w", ErrInvalid, err)
	}
	m := MetaData{InstanceID: in.UUID, Name: in.Name, LocalHostname: in.Hostname,
		AvailabilityZone: in.AvailabilityZone, ProjectID: in.ProjectID, LaunchIndex: in.LaunchIndex, Meta: in.Meta}
	if m.InstanceID == "" {
		return MetaData{}, fmt.Errorf("%w: meta_data.json: no uuid", ErrInvalid)
	}
	if m.LocalHostname != "" && !validHostname(m.LocalHostname) {
		return MetaData{}, fmt.Errorf("%w: meta_data.json: hostname %q", ErrInvalid, m.LocalHostname)
	}
	if len(in.Keys) == 0 { // older drives have the names alone
		for _, name := range slices.Sorted(maps.Keys(in.PublicKeys)) {
			in.Keys = append(in.Keys, openstackKey{Name: name, Data: in.PublicKeys[name]})
		}
	}
	for _, key := range in.Keys {
		m.PublicKeys = append(m.PublicKeys, strings.TrimSpace(key.Data))
	}
	if len(in.Keys) > 0 && in.Keys[0].Name != m.KeyNameOf(0) {
		m.KeyName = in.Keys[0].Name
	}
	var err error
	if m.RandomSeed, err = base64.StdEncoding.DecodeString(in.RandomSeed); err != nil {
		return MetaData{}, fmt.Errorf("%w: meta_data.json: random_seed: %w", ErrInvalid, err)
	}
	if len(m.RandomSeed) == 0 {
		m.RandomSeed = nil
	}
	for _, d := range in.Devices {
		for _, tag := range d.Tags {
			if d.Type == "nic" {
				m.TaggedNICs = append(m.TaggedNICs, TaggedNIC{d.MAC, tag})
			}
		}
	}
	return m, nil
}

// decodeVendorData finds vendor-data in vendor_data.json: a text, or the value of
// cloud-init, which is a text or a list of them.
func decodeVendorData(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("%w: vendor_data.json: %w", ErrInvalid, err)
	}
	if m, ok := v.(map[string]any); ok {
		v = m["cloud-init"]
	}
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case []any:
		// Several texts are what a cloud-config-archive holds, and JSON is YAML.
		list, err := json.Marshal(v)
		return append([]byte("#cloud-config-archive\n"), list...), err
	}
	return nil, nil
}

// network_data.json, as
// https://docs.openstack.org/nova/latest/user/metadata.html has it.
type networkData struct {
	Links    []networkDataLink    `json:"links"`
	Networks []networkDataNetwork `json:"networks"`
	Services []networkDataService `json:"services"`
}

type networkDataLink struct {
	ID   string `json:"id"`
	VIF  string `json:"vif_id"`
	Type string `json:"type"`
	MTU  int    `json:"mtu,omitempty"`
	MAC  string `json:"ethernet_mac_address"`
}

type networkDataNetwork struct {
	ID       string               `json:"id"`
	Type     string               `json:"type"`
	Link     string               `json:"link"`
	Address  string               `json:"ip_address,omitempty"`
	Netmask  string               `json:"netmask,omitempty"`
	Routes   []networkDataRoute   `json:"routes"`
	Services []networkDataService `json:"services,omitempty"`
}

type networkDataRoute struct {
	Network string `json:"network"`
	Netmask string `json:"netmask"`
	Gateway string `json:"gateway"`
}

type networkDataService struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

func (n *NetworkConfig) openstack() ([]byte, error) {
	if _, err := n.Encode(); err != nil {
		return nil, err
	}
	out := networkData{Links: []networkDataLink{}, Networks: []networkDataNetwork{}, Services: []networkDataService{}}
	for _, l := range n.Links {
		out.Links = append(out.Links, networkDataLink{ID: l.Name, VIF: l.Name, Type: "phy", MTU: l.MTU, MAC: l.MAC})
		if l.DHCP4 {
			out.Networks = append(out.Networks, networkDataNetwork{ID: l.Name + "-dhcp", Type: "ipv4_dhcp", Link: l.Name, Routes: []networkDataRoute{}})
		}
		for i, a := range l.Addresses {
			net := networkDataNetwork{ID: fmt.Sprintf("%s-%d", l.Name, i), Type: "ipv4", Link: l.Name,
				Address: a.Addr().String(), Netmask: netmask(a), Routes: []networkDataRoute{}}
			gateway, all := l.Gateway4, "0.0.0.0"
			if a.Addr().Is6() {
				net.Type, gateway, all = "ipv6", l.Gateway6, "::"
			}
			if gateway.IsValid() {
				net.Routes = append(net.Routes, networkDataRoute{Network: all, Netmask: all, Gateway: gateway.String()})
			}
			out.Networks = append(out.Networks, net)
		}
		for _, a := range l.Nameservers {
			out.Services = append(out.Services, networkDataService{"dns", a.String()})
		}
	}
	return json.Marshal(out)
}

// netmask is a prefix's in the form of an address.
func netmask(p netip.Prefix) string {
	ones := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		ones[i/8] |= 0x80 >> (i % 8)
	}
	mask, _ := netip.AddrFromSlice(ones)
	return mask.String()
}

func parseNetworkData(data []byte) (*NetworkConfig, error) {
	var in networkData
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("%w: network_data.json: %w", ErrInvalid, err)
	}
	n := new(NetworkConfig)
	index := map[string]int{}
	for i, l := range in.Links {
		index[l.ID] = i
		n.Links = append(n.Links, Link{Name: fmt.Sprintf("eth%d", i), MAC: l.MAC, MTU: l.MTU})
	}
	for _, net := range in.Networks {
		i, ok := index[net.Link]
		if !ok {
			return nil, fmt.Errorf("%w: network_data.json: network %s: no link %s", ErrInvalid, net.ID, net.Link)
		}
		if err := n.Links[i].take(net); err != nil {
			return nil, fmt.Errorf("%w: network_data.json: network %s: %w", ErrInvalid, net.ID, err)
		}
	}
	for _, s := range in.Services {
		a, err := netip.ParseAddr(s.Address)
		if err != nil || s.Type != "dns" || len(n.Links) == 0 {
			continue
		}
		n.Links[0].Nameservers = append(n.Links[0].Nameservers, a)
	}
	return n, nil
}

// take adds what a network of network_data.json gives the link.
func (l *Link) take(net networkDataNetwork) error {
	if strings.Contains(net.Type, "dhcp") {
		l.DHCP4 = l.DHCP4 || net.Type == "ipv4_dhcp"
		return nil
	}
	prefix, err := parsePrefix(net.Address, net.Netmask)
	if err != nil {
		return err
	}
	l.Addresses = append(l.Addresses, prefix)
	for _, r := range net.Routes {
		to, err := parsePrefix(r.Network, r.Netmask)
		if err != nil {
			return err
		}
		gateway, err := netip.ParseAddr(r.Gateway)
		if err != nil {
			return err
		}
		if to.Bits() != 0 {
			continue
		}
		if gateway.Is4() {
			l.Gateway4 = gateway
		} else {
			l.Gateway6 = gateway
		}
	}
	return nil
}

// parsePrefix reads an address with its length, or with a mask beside it.
func parsePrefix(address, mask string) (netip.Prefix, error) {
	if strings.ContainsRune(address, '/') {
		return netip.ParsePrefix(address)
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, err
	}
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("netmask %q", mask)
	}
	bits := 0
	for _, b := range m.AsSlice() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
	}
	p := netip.PrefixFrom(a, bits)
	if netmask(p) != m.String() {
		return netip.Prefix{}, fmt.Errorf("netmask %q", mask)
	}
	return p, nil
}

func readSeedFile(seed fs.FS, name string) ([]byte, error) {
	f, err := seed.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := readBounded(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}
