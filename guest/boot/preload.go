package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// preloadData is the directory of upper.img, beside what the root has written, that is
// dockerd's data root: dockerd takes a file system of its own kind only.
const preloadData = upperDir + "/docker"

// mountPreloaded mounts the disks of preloaded images, and makes the data root in which
// dockerd finds them. Their layers stay where they are: the data root leads there.
func mountPreloaded(disks diskNames) error {
	for n := 0; ; n++ {
		number := strconv.Itoa(n)
		device, ok := disks[share.DiskPreload+number]
		if !ok {
			return nil
		}
		dir := filepath.Join(shareDir, share.PreloadDir, number)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := (mount{source: device, target: dir, fstype: "erofs", flags: unix.MS_RDONLY}).do(); err != nil {
			return fmt.Errorf("disk %d of preloaded images: %w", n, err)
		}
		if n == 0 {
			if err := bindData(); err != nil {
				return err
			}
		}
		p := dockerPreload{
			from: filepath.Join(dir, share.PreloadDocker),
			at:   filepath.Join(share.PreloadTarget, number, share.PreloadDocker), to: preloadData,
		}
		if err := p.fill(); err != nil {
			return fmt.Errorf("disk %d of preloaded images: %w", n, err)
		}
	}
}

// bindData puts the data root where mounts of the root come from.
func bindData() error {
	target := filepath.Join(shareDir, share.DockerDir)
	for dir, mode := range map[string]os.FileMode{preloadData: 0o710, target: 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	return unix.Mount(preloadData, target, "", unix.MS_BIND, "")
}

// dockerPreload adds to a data root what a disk has. What is there already is
// dockerd's, and stays.
type dockerPreload struct {
	from string // the disk's data root
	at   string // where that is for dockerd
	to   string // dockerd's
}

const (
	dockerImages       = "image/overlay2"
	dockerLayers       = dockerImages + "/layerdb/sha256"
	dockerRepositories = dockerImages + "/repositories.json"
	dockerStorage      = "overlay2"
	dockerLinks        = dockerStorage + "/l"
)

func (p *dockerPreload) fill() error {
	layers, err := os.ReadDir(filepath.Join(p.from, dockerLayers))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(p.to, dockerLinks), 0o710); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(p.to, dockerLayers), 0o700); err != nil {
		return err
	}
	for _, l := range layers {
		if err := p.layer(l.Name()); err != nil {
			return fmt.Errorf("layer %s: %w", l.Name(), err)
		}
	}
	if err := p.copyTree(dockerImages+"/imagedb", filepath.Join(p.to, dockerImages, "imagedb")); err != nil {
		return err
	}
	if err := p.copyTree(dockerImages+"/distribution", filepath.Join(p.to, dockerImages, "distribution")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.tag()
}

// layer adds one that dockerd does not have: first its directory, then the record
// that leads there.
func (p *dockerPreload) layer(chain string) error {
	record := filepath.Join(p.to, dockerLayers, chain)
	if _, err := os.Lstat(record); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	storage := filepath.Join(dockerStorage, chain)
	dir := filepath.Join(p.to, storage)
	for _, name := range []string{dir, filepath.Join(dir, "work")} {
		if err := os.MkdirAll(name, 0o710); err != nil {
			return err
		}
	}
	for _, name := range []string{"link", "lower", "committed"} {
		data, err := os.ReadFile(filepath.Join(p.from, storage, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		if err != nil {
			return err
		}
		if name == "link" {
			if err := symlink(filepath.Join("..", chain, "diff"), filepath.Join(p.to, dockerLinks, filepath.Base(string(data)))); err != nil {
				return err
			}
		}
	}
	if err := symlink(filepath.Join(p.at, storage, "diff"), filepath.Join(dir, "diff")); err != nil {
		return err
	}
	fresh := record + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := p.copyTree(filepath.Join(dockerLayers, chain), fresh); err != nil {
		return err
	}
	return os.Rename(fresh, record)
}

func symlink(target, name string) error {
	if err := os.Symlink(target, name); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// copyTree copies the files that are missing.
func (p *dockerPreload) copyTree(tree, to string) error {
	from := filepath.Join(p.from, tree)
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(name, from))
		if e.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
}

// tag adds the names that dockerd has not given to anything else.
func (p *dockerPreload) tag() error {
	type names struct {
		Repositories map[string]map[string]string
	}
	read := func(name string) (n names, err error) {
		data, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(data, &n)
		}
		return n, err
	}
	more, err := read(filepath.Join(p.from, dockerRepositories))
	if err != nil {
		return err
	}
	file := filepath.Join(p.to, dockerRepositories)
	all, err := read(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if all.Repositories == nil {
		all.Repositories = map[string]map[string]string{}
	}
	for repo, tags := range more.Repositories {
		if all.Repositories[repo] == nil {
			all.Repositories[repo] = map[string]string{}
		}
		for ref, id := range tags {
			if _, ok := all.Repositories[repo][ref]; !ok {
				all.Repositories[repo][ref] = id
			}
		}
	}
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
