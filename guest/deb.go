package guest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
)

// Bounds on what a package may make us hold in memory.
const (
	maxImageSize  = 512 << 20
	maxModuleSize = 64 << 20
)

// readDeb takes the kernel and the modules that guests need out of a Debian
// linux-image package, without unpacking anything else. dpkg-deb is asked to
// decompress: every Debian has it and it knows each compression in use.
func readDeb(ctx context.Context, file string) (source, error) {
	want := map[string]bool{}
	for _, name := range append(wantedModules(), usualDependencies...) {
		want[name] = true
	}
	// The dependencies of a module are known when it has been read, perhaps
	// after they have gone by. The usual ones are wanted from the start, so a
	// second pass is made only for a kernel that differs.
	for range 4 {
		src, err := scanDeb(ctx, file, want)
		if err != nil {
			return source{}, err
		}
		missing := missingDependencies(src.modules)
		added := false
		for _, name := range missing {
			added = added || !want[name]
			want[name] = true
		}
		if !added {
			return src, nil
		}
	}
	return source{}, errors.New("module dependencies do not settle")
}

func scanDeb(ctx context.Context, file string, want map[string]bool) (source, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return source{}, err
	}
	if err := cmd.Start(); err != nil {
		return source{}, err
	}
	src, scanErr := scanPackage(out, want)
	if scanErr == nil {
		_, scanErr = io.Copy(io.Discard, out)
	} else {
		cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil && scanErr == nil {
		return source{}, fmt.Errorf("dpkg-deb: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	if scanErr != nil {
		return source{}, scanErr
	}
	if src.bzImage == nil {
		return source{}, fmt.Errorf("%w: the package holds no boot/vmlinuz", ErrNotKernel)
	}
	src.image, err = extractVmlinux(ctx, src.bzImage)
	return src, err
}

func scanPackage(r io.Reader, want map[string]bool) (source, error) {
	src := source{name: StockName}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return src, nil
		}
		if err != nil {
			return source{}, fmt.Errorf("read package: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := path.Clean(h.Name)
		switch base := path.Base(name); {
		case strings.HasPrefix(name, "boot/vmlinuz-"):
			if src.bzImage, err = readBounded(tr, h.Size, maxImageSize); err != nil {
				return source{}, fmt.Errorf("read %s: %w", name, err)
			}
		case isModule(base) && want[moduleName(base)]:
			data, err := readBounded(tr, h.Size, maxModuleSize)
			if err != nil {
				return source{}, fmt.Errorf("read %s: %w", name, err)
			}
			m, err := parseModule(base, data)
			if err != nil {
				return source{}, err
			}
			src.modules = append(src.modules, m)
		}
	}
}

func readBounded(r io.Reader, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%d bytes, more than the %d allowed", size, limit)
	}
	data := make([]byte, size)
	_, err := io.ReadFull(r, data)
	return data, err
}
