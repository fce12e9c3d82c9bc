package boot

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// placement is something that a user wants mounted in the root.
type placement struct {
	target string
	mount  func() error
}

// mountPlacements mounts the volumes and file systems in memory that the user
// asked for: what lies above something else goes first.
func mountPlacements(root *process.Root, shareDir string, spec *share.Spec) error {
	var all []placement
	for _, m := range spec.Mounts {
		all = append(all, placement{m.Target, func() error {
			if err := bindVolume(root, shareDir, m); err != nil {
				return fmt.Errorf("mount volume on %s: %w", m.Target, err)
			}
			return nil
		}})
	}
	for _, t := range spec.Tmpfs {
		all = append(all, placement{t.Target, func() error { return mountTmpfs(root, t) }})
	}
	depth := func(p placement) int { return strings.Count(path.Clean(p.target), "/") }
	slices.SortStableFunc(all, func(a, b placement) int { return depth(a) - depth(b) })
	for _, p := range all {
		if err := p.mount(); err != nil {
			return err
		}
	}
	return nil
}

// mountTmpfs keeps the mode of a directory that the image has, as runc does.
func mountTmpfs(root *process.Root, t share.Tmpfs) error {
	mode := "mode=1777"
	if st, err := root.Stat(t.Target); err == nil {
		mode = fmt.Sprintf("mode=%o", st.Mode&0o7777)
	}
	dir, err := root.MkdirAll(t.Target, 0o755, 0, 0)
	if err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", t.Target, err)
	}
	defer dir.Close()
	flags, data := mountOptions(noAll, t.Options)
	m := mount{"tmpfs", t.Target, "tmpfs", flags, strings.Trim(mode+","+data, ",")}
	return m.at(dir)
}

// mountFlags are the options of mount(8) that are flags of mount(2), and
// whether they set or clear.
var mountFlags = map[string]struct {
	flag uintptr
	set  bool
}{
	"ro": {unix.MS_RDONLY, true}, "rw": {unix.MS_RDONLY, false},
	"noexec": {unix.MS_NOEXEC, true}, "exec": {unix.MS_NOEXEC, false},
	"nosuid": {unix.MS_NOSUID, true}, "suid": {unix.MS_NOSUID, false},
	"nodev": {unix.MS_NODEV, true}, "dev": {unix.MS_NODEV, false},
	"sync": {unix.MS_SYNCHRONOUS, true}, "async": {unix.MS_SYNCHRONOUS, false},
	"noatime": {unix.MS_NOATIME, true}, "atime": {unix.MS_NOATIME, false},
	"nodiratime": {unix.MS_NODIRATIME, true}, "diratime": {unix.MS_NODIRATIME, false},
	"relatime": {unix.MS_RELATIME, true}, "norelatime": {unix.MS_RELATIME, false},
	"strictatime": {unix.MS_STRICTATIME, true}, "nostrictatime": {unix.MS_STRICTATIME, false},
}

// mountOptions applies options to flags; what is no flag is the file system's.
func mountOptions(flags uintptr, options string) (all uintptr, data string) {
	var rest []string
	for option := range strings.SplitSeq(options, ",") {
		f, ok := mountFlags[option]
		switch {
		case !ok:
			rest = append(rest, option)
		case f.set:
			flags |= f.flag
		default:
			flags &^= f.flag
		}
	}
	return flags, strings.Join(rest, ",")
}
