package launcher

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// lacking is a host that lacks something, or where it is nil nothing.
type lacking struct {
	HostUser
	err error
}

func (l lacking) Ready(context.Context) error { return l.err }

// An ordinary user's servers are on the host's network where it can be had, unless
// they are told otherwise; root's never are unasked.
func TestChooseNetwork(t *testing.T) {
	without := errors.New("no passt")
	web := []Publish{{HostPort: 8080, GuestPort: 80, Protocol: "tcp"}}
	for name, test := range map[string]struct {
		rootless bool
		host     HostUser
		spec     Spec
		chosen   bool
	}{
		"root":                          {false, lacking{}, Spec{}, false},
		"rootless":                      {true, lacking{}, Spec{}, true},
		"rootless, none asked for":      {true, lacking{}, Spec{Networks: []NetworkRequest{{Network: NetworkNone}}}, false},
		"no passt":                      {true, lacking{err: without}, Spec{}, false},
		"no passt, to be refused later": {true, lacking{err: without}, Spec{Publish: web}, true},
		"an engine without":             {true, nil, Spec{}, false},
	} {
		m := &Manager{cfg: Config{Rootless: test.rootless, HostUser: test.host}}
		if m.chooseNetwork(t.Context(), &test.spec); test.spec.hostUser() != test.chosen {
			t.Errorf("%s: networks %+v", name, test.spec.Networks)
		}
	}
}

func TestHostUserRefused(t *testing.T) {
	for want, networks := range map[string][]NetworkRequest{
		"excludes other":   {{Network: "default"}, {Network: NetworkHostUser}},
		"cannot be chosen": {{Network: NetworkHostUser, IPs: []netip.Addr{netip.MustParseAddr("10.0.2.16")}}},
		"security groups":  {{Network: NetworkHostUser, SecurityGroups: []string{"web"}}},
	} {
		err := (&Spec{Networks: networks}).validateNetworks()
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := (&Spec{Networks: []NetworkRequest{{Network: NetworkHostUser}}}).validateNetworks(); err != nil {
		t.Error(err)
	}
}
