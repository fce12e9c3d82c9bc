package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// swapOn swaps to a device or a file. An overlay's files the kernel cannot swap to but
// by a loop device.
func swapOn(path string) error {
	err := swapOnto(path)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	device, err := loop(path)
	if err != nil {
		return err
	}
	defer func() { _ = device.Close() }()
	return swapOnto(device.Name())
}

func swapOnto(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 && errno != unix.EBUSY {
		return errno
	}
	return nil
}

// loopControl is the device (10, 237), which containers do not have.
const loopControl = "/dev/.loop-control"

// loop makes a file a block device, until nobody has that open any more.
func loop(path string) (*os.File, error) {
	if err := unix.Mknod(loopControl, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 237))); err != nil {
		return nil, &os.PathError{Op: "mknod", Path: loopControl, Err: err}
	}
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	_ = os.Remove(loopControl)
	if err != nil {
		return nil, fmt.Errorf("the kernel has no loop devices: %w", err)
	}
	defer func() { _ = control.Close() }()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("find a free loop device: %w", err)
	}
	name := "/dev/loop" + strconv.Itoa(n)
	about, err := uevent("/sys/class/block/loop" + strconv.Itoa(n) + "/uevent")
	if err != nil {
		return nil, err
	}
	if err := makeNode(name, about); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	device, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), device.Close())
	}
	return device, nil
}
