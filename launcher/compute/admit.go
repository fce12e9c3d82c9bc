package compute

import (
	"errors"

	"github.com/slipway-vm/slipway/launcher"
)

// ErrNoValidHost says that a server can run on no host. It is the server's fault
// rather than its request's: Nova takes the request and puts the server into error.
var ErrNoValidHost = errors.New("No valid host was found. ") //nolint:staticcheck // Nova's words, as they are shown

// Ask is a request for servers.
type Ask struct {
	Project, User string
	Group         string // ID of a server group; empty: none
	Flavor        launcher.Flavor
	// Min is how many there must be, and Max how many are wanted; 0 is one.
	Min, Max int
}

// Admit creates as many servers as quotas allow, at least ask.Min. It calls create
// for each, one after the other, until one fails; noHost is ErrNoValidHost for a
// server that is to be created in error, else nil. No other request is admitted
// meanwhile, so that limits hold however many come at once: create must be quick,
// and what it has created must be among the Servers when it returns.
//
// The error matches launcher.ErrForbidden where a quota is exceeded, and
// launcher.ErrInvalid where the group does not exist in the project.
func (c *Compute) Admit(ask Ask, create func(n int, noHost error) error) error {
	c.Quotas.admitting.Lock()
	defer c.Quotas.admitting.Unlock()
	count, err := c.admitted(ask)
	if err != nil {
		return err
	}
	for n := range count {
		noHost, err := c.place(ask)
		if err != nil {
			return err
		}
		if err := create(n, noHost); err != nil {
			return err
		}
	}
	return nil
}

// admitted is how many servers the quotas allow.
func (c *Compute) admitted(ask Ask) (int, error) {
	fewest := max(ask.Min, 1)
	count := max(ask.Max, fewest)
	err := c.Quotas.check(ask.Project, ask.User, ask.size(count))
	for err != nil && count > fewest {
		count--
		if c.Quotas.check(ask.Project, ask.User, ask.size(count)) == nil {
			err = nil
		}
	}
	if err != nil || ask.Group == "" {
		return count, err
	}
	group, err := c.Groups.Find(ask.Group)
	if err != nil || group.Project != ask.Project {
		return 0, launcher.Errorf(launcher.ErrInvalid, "Instance group %s could not be found.", ask.Group)
	}
	limit := c.Quotas.Limit(ask.Project, ask.User, ServerGroupMembers)
	if limit != Unlimited && len(group.Members)+count > limit {
		return 0, launcher.Errorf(launcher.ErrForbidden, "Quota exceeded, too many servers in group")
	}
	return count, nil
}

// size is what n servers take.
func (a Ask) size(n int) Limits {
	return Limits{Instances: n, Cores: n * a.Flavor.VCPUs, RAM: n * int(ceil(a.Flavor.Memory, 1<<20))}
}

// place looks for a host for the next server.
func (c *Compute) place(ask Ask) (noHost, err error) {
	if !c.Service.State().Takes() {
		return ErrNoValidHost, nil
	}
	if ask.Group == "" {
		return nil, nil
	}
	group, err := c.Groups.Find(ask.Group)
	if err == nil && group.full() {
		return ErrNoValidHost, nil
	}
	return nil, err
}

// Resize calls resize if quotas allow a server of the project to change its size.
func (c *Compute) Resize(project, user string, from, to launcher.Flavor, resize func() error) error {
	c.Quotas.admitting.Lock()
	defer c.Quotas.admitting.Unlock()
	old, wanted := Ask{Flavor: from}.size(1), Ask{Flavor: to}.size(1)
	more := Limits{Cores: wanted[Cores] - old[Cores], RAM: wanted[RAM] - old[RAM]}
	if err := c.Quotas.check(project, user, more); err != nil {
		return err
	}
	return resize()
}
