package guest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// initramfsLayout changes when the archive of the same inputs does.
const initramfsLayout = 1

// Initramfs returns the path of the initramfs for a kernel and a slipway-init
// binary. It is made once for each pair of contents and is not compressed:
// decompressing costs an emulated guest more than reading costs the host. What a
// boot finds unchanged is not read again.
func (s *KernelStore) Initramfs(ctx context.Context, k Kernel, initBinary string) (string, error) {
	name, err := s.initramfs(ctx, k, initBinary)
	if err != nil {
		return "", fmt.Errorf("initramfs for kernel %s: %w", k.Name, err)
	}
	return name, nil
}

func (s *KernelStore) initramfs(ctx context.Context, k Kernel, initBinary string) (string, error) {
	init, err := os.Open(initBinary)
	if err != nil {
		return "", err
	}
	defer init.Close()
	info, err := init.Stat()
	if err != nil {
		return "", err
	}
	from := madeFrom{kernel: k.Digest, init: initBinary, size: info.Size(), changed: info.ModTime().UnixNano()}
	if name, ok := s.made.Load(from); ok && k.Digest != "" {
		if _, err := os.Stat(name.(string)); err == nil {
			return name.(string), nil
		}
	}
	name, err := s.makeInitramfs(ctx, k, init)
	if err == nil {
		s.made.Store(from, name)
	}
	return name, err
}

// madeFrom tells what an initramfs was made from, as far as a look at files does.
type madeFrom struct {
	kernel, init  string
	size, changed int64
}

func (s *KernelStore) makeInitramfs(ctx context.Context, k Kernel, init *os.File) (string, error) {
	index, err := json.Marshal(k.Modules) // with their digests
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s\n", initramfsLayout, index)
	if _, err := io.Copy(sum, init); err != nil {
		return "", err
	}
	name := filepath.Join(s.dir, initramfsDir, hex.EncodeToString(sum.Sum(nil))+".cpio")
	// It was renamed into place, so it is whole.
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	if _, err := init.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return name, replaceFile(name, func(to io.Writer) error {
		return writeInitramfs(ctx, to, k, index, init)
	})
}

func writeInitramfs(ctx context.Context, to io.Writer, k Kernel, index []byte, init *os.File) error {
	out := bufio.NewWriterSize(to, 256<<10)
	w := newCPIOWriter(out)
	for _, dir := range []string{"dev", "proc", "sys", "run", "lib", "lib/modules"} {
		w.directory(dir)
	}
	// The kernel opens this node as init's standard streams before init can
	// mount devtmpfs.
	w.charDevice("dev/console", 5, 1)
	if err := w.copyFile("init", 0o755, init); err != nil {
		return err
	}
	if len(k.Modules) > 0 {
		w.file(strings.TrimPrefix(ModuleIndex, "/"), 0o644, index)
	}
	for _, m := range k.Modules {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(filepath.Dir(k.Path), modulesDir, filepath.Base(m.File)))
		if err != nil {
			return err
		}
		err = w.copyFile(path.Join(strings.TrimPrefix(ModuleRoot, "/"), m.File), 0o644, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	w.close()
	return out.Flush()
}
