package host

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var uuidForm = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// ProcessesOf returns how much memory the processes of servers take, in bytes (PSS),
// by server and name of program ("qemu", "virtiofsd"). They are known by their
// arguments, which name a path below the state directory dir and the server's ID.
func ProcessesOf(dir string) map[string]map[string]int64 {
	all := map[string]map[string]int64{}
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
	for _, path := range paths {
		args, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(args, []byte(dir+"/")) {
			continue // it has ended, or is somebody else's
		}
		program, _, _ := bytes.Cut(args, []byte{0})
		name := filepath.Base(string(program))
		if strings.HasPrefix(name, "qemu-system-") {
			name = "qemu"
		}
		ids := map[string]bool{}
		for _, id := range uuidForm.FindAll(args, -1) {
			ids[string(id)] = true
		}
		n, err := pss(filepath.Dir(path))
		if err != nil {
			continue
		}
		for id := range ids {
			if all[id] == nil {
				all[id] = map[string]int64{}
			}
			all[id][name] += n
		}
	}
	return all
}

// pss reads a process's proportional set size, in bytes.
func pss(proc string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(proc, "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, os.ErrNotExist
}
