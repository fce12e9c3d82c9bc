package process

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrUnknownUser is matched where a user or group is named that the root does
// not know, or a number is out of range.
var ErrUnknownUser = errors.New("unknown user")

// maxID is the largest uid and gid that docker takes.
const maxID = 1<<31 - 1

// Identity is who a process runs as.
type Identity struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	Home   string   `json:"home"`
}

// LookupUser resolves name|uid[:group|gid] against the root's /etc/passwd and
// /etc/group, by docker's rules: an unknown number is taken as it is, with gid
// 0; supplementary groups are those that list the user's name, unless a group
// was asked for.
func (r *Root) LookupUser(user string) (Identity, error) { return finder{r}.user(user) }

func (r finder) user(user string) (Identity, error) {
	name, group, _ := strings.Cut(user, ":")
	id, matched, err := r.lookupName(name)
	if err != nil {
		return Identity{}, err
	}
	if group != "" {
		if id.GID, err = r.lookupGroup(group); err != nil {
			return Identity{}, err
		}
		return id, nil
	}
	if matched == "" {
		return id, nil
	}
	err = r.lines("/etc/group", 4, func(f []string) bool {
		if slices.Contains(strings.Split(f[3], ","), matched) {
			if gid, ok := parseID(f[2]); ok && !slices.Contains(id.Groups, gid) {
				id.Groups = append(id.Groups, gid)
			}
		}
		return true
	})
	return id, err
}

// addGroups adds groups by name or number.
func (r finder) addGroups(id *Identity, groups []string) error {
	for _, group := range groups {
		gid, err := r.lookupGroup(group)
		if err != nil {
			return err
		}
		if !slices.Contains(id.Groups, gid) {
			id.Groups = append(id.Groups, gid)
		}
	}
	return nil
}

// lookupName also returns the name under which the user is listed, empty for a
// number that is not.
func (r finder) lookupName(name string) (Identity, string, error) {
	uid, numeric := parseID(name)
	if name == "" {
		uid, numeric = 0, true
	}
	id := Identity{UID: uid, Home: "/"}
	matched := ""
	err := r.lines("/etc/passwd", 7, func(f []string) bool {
		fileUID, ok := parseID(f[2])
		if !ok || (numeric && fileUID != uid) || (!numeric && f[0] != name) {
			return true
		}
		gid, ok := parseID(f[3])
		if !ok {
			return true
		}
		id.UID, id.GID, matched = fileUID, gid, f[0]
		if f[5] != "" {
			id.Home = f[5]
		}
		return false
	})
	switch {
	case err != nil:
		return Identity{}, "", err
	case matched == "" && !numeric:
		return Identity{}, "", fmt.Errorf("%w: %s is not in the image's /etc/passwd", ErrUnknownUser, name)
	}
	return id, matched, nil
}

func (r finder) lookupGroup(group string) (uint32, error) {
	gid, numeric := parseID(group)
	found := false
	err := r.lines("/etc/group", 3, func(f []string) bool {
		fileGID, ok := parseID(f[2])
		if !ok || (numeric && fileGID != gid) || (!numeric && f[0] != group) {
			return true
		}
		gid, found = fileGID, true
		return false
	})
	if err != nil {
		return 0, err
	}
	if !found && !numeric {
		return 0, fmt.Errorf("%w: group %s is not in the image's /etc/group", ErrUnknownUser, group)
	}
	return gid, nil
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= maxID
}
