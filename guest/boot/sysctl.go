package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// setSysctls writes settings of the guest's kernel, in the order of their
// names. A setting that cannot be made is the user's mistake, not init's.
func setSysctls(settings map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		err := writeSysctl(filepath.Join("/proc/sys", share.SysctlFile(name)), settings[name])
		switch {
		case err == nil:
			continue
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
			err = errors.New("the guest's kernel has no such setting")
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			err = errors.New("the guest's kernel lets nobody change it")
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
			err = fmt.Errorf("the guest's kernel does not take the value %q", settings[name])
		}
		return startFailure(fmt.Errorf("sysctl %s: %w", name, err))
	}
	return nil
}

func writeSysctl(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// setEntropy starts the kernel's random numbers with what the host has drawn.
func setEntropy(seed []byte) error {
	if len(seed) == 0 {
		return nil
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("seed the random numbers: %w", err)
	}
	defer f.Close()
	if err := addEntropy(f, seed); err != nil {
		return fmt.Errorf("seed the random numbers: %w", err)
	}
	return nil
}

// addEntropy is the ioctl RNDADDENTROPY of random(4): struct rand_pool_info.
func addEntropy(f *os.File, seed []byte) error {
	info := binary.NativeEndian.AppendUint32(nil, uint32(8*len(seed))) // in bits
	info = binary.NativeEndian.AppendUint32(info, uint32(len(seed)))
	info = append(info, seed...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
