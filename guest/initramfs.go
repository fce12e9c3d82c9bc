package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Initramfs returns the path of the initramfs for a kernel and a slipway-init
// binary. It is made once for each pair of contents and is not compressed:
// decompressing costs an emulated guest more than reading costs the host.
func (s *KernelStore) Initramfs(ctx context.Context, k Kernel, initBinary string) (string, error) {
	archive, err := s.buildInitramfs(ctx, k, initBinary)
	if err != nil {
		return "", fmt.Errorf("initramfs for kernel %s: %w", k.Name, err)
	}
	sum := sha256.Sum256(archive)
	name := filepath.Join(s.dir, initramfsDir, hex.EncodeToString(sum[:])+".cpio")
	info, err := os.Stat(name)
	if err == nil && info.Size() == int64(len(archive)) {
		return name, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("initramfs for kernel %s: %w", k.Name, err)
	}
	if err := writeFileDurably(name, archive); err != nil {
		return "", fmt.Errorf("initramfs for kernel %s: %w", k.Name, err)
	}
	return name, nil
}

func (s *KernelStore) buildInitramfs(ctx context.Context, k Kernel, initBinary string) ([]byte, error) {
	init, err := os.ReadFile(initBinary)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := newCPIOWriter(&out)
	for _, dir := range []string{"dev", "proc", "sys", "run", "lib", "lib/modules"} {
		w.directory(dir)
	}
	// The kernel opens this node as init's standard streams before init can
	// mount devtmpfs.
	w.charDevice("dev/console", 5, 1)
	w.file("init", 0o755, init)
	if len(k.Modules) > 0 {
		index, err := json.Marshal(k.Modules)
		if err != nil {
			return nil, err
		}
		w.file(strings.TrimPrefix(ModuleIndex, "/"), 0o644, index)
	}
	for _, m := range k.Modules {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(filepath.Join(filepath.Dir(k.Path), modulesDir, filepath.Base(m.File)))
		if err != nil {
			return nil, err
		}
		w.file(path.Join(strings.TrimPrefix(ModuleRoot, "/"), m.File), 0o644, data)
	}
	w.close()
	return out.Bytes(), nil
}
