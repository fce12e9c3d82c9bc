package guest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// source is a kernel as found in a file, before it is kept.
type source struct {
	name    string
	image   []byte // ELF vmlinux
	bzImage []byte // what the image was in, if anything
	modules []moduleFile
}

// Import adds the kernel in file to the store and returns it. The file is a
// Debian linux-image package (the stock kernel), a bzImage or an ELF vmlinux,
// told apart by content. Importing the same kernel again returns the one that
// is there; a file that was imported before is read only to recognize it.
func (s *KernelStore) Import(ctx context.Context, file string) (Kernel, error) {
	k, err := s.importFile(ctx, file)
	if err != nil {
		return Kernel{}, fmt.Errorf("import kernel %s: %w", file, err)
	}
	return k, nil
}

func (s *KernelStore) importFile(ctx context.Context, file string) (Kernel, error) {
	key, err := sourceKey(ctx, file)
	if err != nil {
		return Kernel{}, err
	}
	memo := filepath.Join(s.dir, sourcesDir, key)
	if digest, err := os.ReadFile(memo); err == nil {
		if k, err := s.load(strings.TrimSpace(string(digest))); err == nil && k.Name == kernelName(file, k) {
			return k, nil
		}
	}
	k, err := s.importSource(ctx, file)
	if err != nil {
		return Kernel{}, err
	}
	return k, writeFileDurably(memo, []byte(strings.TrimPrefix(k.Digest, "sha256:")+"\n"))
}

// sourceKey stands for a file's content and for what is taken out of it.
func sourceKey(ctx context.Context, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	fmt.Fprintln(sum, wantedModules(), unrecordedDependencies, baseMemory, bootImage, mpTableMessage, minimalSuffix)
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	if _, err := io.Copy(sum, f); err != nil {
		return "", cmp.Or(context.Cause(ctx), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// kernelName is what the kernel of a file is called: a package's is stock, another
// is called like its file.
func kernelName(file string, k Kernel) string {
	if k.Name == StockName {
		return StockName
	}
	return fileName(file)
}

func fileName(file string) string { return strings.TrimSuffix(filepath.Base(file), ".elf") }

func (s *KernelStore) importSource(ctx context.Context, file string) (Kernel, error) {
	src, err := readSource(ctx, file)
	if err != nil {
		return Kernel{}, err
	}
	info, err := inspectImage(src.image)
	if err != nil {
		return Kernel{}, err
	}
	order, err := orderModules(src.modules)
	if err != nil {
		return Kernel{}, err
	}
	k := Kernel{
		Name:      src.name,
		Version:   info.version,
		MinMemory: info.memory + moduleMemory(order),
		MPTable:   info.mpTable,
		Minimal:   info.minimal,
		Imported:  time.Now().UTC(),
	}
	for _, m := range order {
		k.Modules = append(k.Modules, m.Module)
	}
	digest, err := kernelDigest(src.image, k.Modules)
	if err != nil {
		return Kernel{}, err
	}
	k.Digest = "sha256:" + digest
	if old, err := s.load(digest); err == nil && old.Name == k.Name && old.MPTable == k.MPTable && old.Minimal == k.Minimal {
		return old, s.keepBootImage(&old, src.bzImage)
	}
	if err := s.commit(digest, k, src, order); err != nil {
		return Kernel{}, err
	}
	return s.load(digest)
}

// kernelDigest covers everything that makes a difference to a guest: the image
// and the modules' bytes and order, but not names given by people or dates.
func kernelDigest(image []byte, modules []Module) (string, error) {
	sum := sha256.Sum256(image)
	data, err := json.Marshal(struct {
		Image   string
		Modules []Module
	}{hex.EncodeToString(sum[:]), modules})
	if err != nil {
		return "", err
	}
	all := sha256.Sum256(data)
	return hex.EncodeToString(all[:]), nil
}

// keepBootImage gives a kernel that was imported from an ELF file, or by an older
// version, the bzImage that it lacks.
func (s *KernelStore) keepBootImage(k *Kernel, bzImage []byte) error {
	if k.BootImage != "" || bzImage == nil {
		return nil
	}
	name := filepath.Join(filepath.Dir(k.Path), bootImage)
	if err := writeFileDurably(name, bzImage); err != nil {
		return err
	}
	k.BootImage = name
	return nil
}

// commit writes the kernel under a temporary name and renames it into place,
// so that a kernel that can be seen is whole.
func (s *KernelStore) commit(digest string, k Kernel, src source, modules []moduleFile) error {
	tmp, err := os.MkdirTemp(s.dir, ".import-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(tmp, modulesDir), 0o755); err != nil {
		return err
	}
	record, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	files := map[string][]byte{kernelImage: src.image, kernelRecord: record}
	if src.bzImage != nil {
		files[bootImage] = src.bzImage
	}
	for _, m := range modules {
		files[filepath.Join(modulesDir, m.File)] = m.data
	}
	for name, data := range files {
		if err := writeFileSynced(filepath.Join(tmp, name), data); err != nil {
			return err
		}
	}
	final := filepath.Join(s.dir, digest)
	if err := os.Rename(tmp, final); err != nil {
		// A directory in the way is an earlier import of the same bytes.
		if _, statErr := os.Stat(filepath.Join(final, kernelImage)); statErr != nil {
			return err
		}
		return writeFileDurably(filepath.Join(final, kernelRecord), record)
	}
	return syncDir(s.dir)
}

func readSource(ctx context.Context, file string) (source, error) {
	f, err := os.Open(file)
	if err != nil {
		return source{}, err
	}
	defer f.Close()
	magic := make([]byte, 0x206)
	n, err := io.ReadFull(f, magic)
	if err != nil && n < 8 {
		return source{}, fmt.Errorf("%w: %d bytes long", ErrNotKernel, n)
	}
	magic = magic[:n]
	if bytes.HasPrefix(magic, []byte("!<arch>\n")) {
		return readDeb(ctx, file)
	}
	if !bytes.HasPrefix(magic, []byte("\x7fELF")) && !isBzImage(magic) {
		return source{}, fmt.Errorf("%w: neither a linux-image package, a bzImage nor an ELF file", ErrNotKernel)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return source{}, err
	}
	src := source{name: fileName(file), image: data}
	if isBzImage(data) {
		src.bzImage = data
		if src.image, err = extractVmlinux(ctx, data); err != nil {
			return source{}, err
		}
	}
	return src, nil
}

func writeFileSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// writeFileDurably replaces name with data as one step.
func writeFileDurably(name string, data []byte) error {
	return replaceFile(name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// replaceFile replaces name with what write writes, as one step.
func replaceFile(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	err = errors.Join(err, f.Chmod(0o644), f.Sync())
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
