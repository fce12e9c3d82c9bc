package boot

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

// A guest is alone when it was booted from a self-contained disk: no engine hears
// its agent. Its entrypoint's output goes to the console, who it is it asks a cloud,
// and its end is its own business.

// alone says so of a guest that is given no other root, too: clouds that boot a
// kernel beside the disk may give it a command line of their own.
func (c cmdline) alone() bool {
	mode, _, _ := strings.Cut(c.root, ":")
	return c.root == "" || share.RootMode(mode) == share.RootDisk
}

// askSource has the seed completed by what the cloud says: identity, keys,
// user-data, network. A guest that is told nothing starts all the same.
func (g *guestState) askSource() error {
	if !g.cmdline.alone() {
		return nil
	}
	program := filepath.Join(shareDir, share.ConfigureFile)
	if _, err := os.Stat(program); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return g.aside(program, configureSource)
}

// keepLeases renews the leases that the guest was given when it asked.
func (g *guestState) keepLeases() error {
	if !g.cmdline.alone() {
		return nil
	}
	_, err := os.Stat(filepath.Join(shareDir, share.LeasesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has none that end
	}
	if err != nil {
		return err
	}
	go func() {
		if err := g.aside(filepath.Join(shareDir, share.ConfigureFile), configureKeep); err != nil {
			g.warn(fmt.Sprintf("renew leases: %v", err))
		}
	}()
	return nil
}

// aside runs the program that came with the seed, outside of the root, to its end, and
// warns of what it prints.
func (g *guestState) aside(program, what string) error {
	cmd := exec.CommandContext(context.Background(), program, what, filepath.Join(shareDir, share.SeedDir))
	cmd.Env = append([]string{"TMPDIR=/run"}, configureEnv...)
	cmd.Stderr = os.Stderr
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd.Stdout = write
	_, ended, err := g.reaper.start(func() (int, error) {
		defer write.Close()
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", share.ConfigureFile, err)
	}
	for lines := bufio.NewScanner(read); lines.Scan(); {
		g.warn(lines.Text())
	}
	<-ended
	return nil
}

// end does what the disk says follows the entrypoint's end.
func (g *guestState) end() {
	g.mu.Lock()
	exit, stopped := g.entry.exit, g.stop != nil
	g.mu.Unlock()
	logf("%s", share.ConsoleEndLine(exit.Code))
	d, err := readDisks()
	if err != nil {
		logf("%v", err)
		d = &share.Disks{}
	}
	switch {
	case stopped:
	case d.OnExit == share.EndStay:
		return
	case d.OnExit == share.EndReboot:
		g.rebooting.Store(true)
	}
	if stopped {
		g.requestPowerOff()
		return
	}
	time.AfterFunc(g.spec.Linger, g.requestPowerOff)
}

// inputEvent is the kernel's struct input_event.
type inputEvent struct {
	_     [2]int64
	Type  uint16
	Code  uint16
	Value int32
}

const (
	eventKey = 1   // EV_KEY
	keyPower = 116 // KEY_POWER
)

// watchPowerButton stops the entrypoint, and then the guest, when the machine's
// power button is pressed.
func (g *guestState) watchPowerButton() {
	for _, name := range []string{"button", "evdev"} {
		if err := g.modules.load(name); err != nil {
			logf("%v", err)
		}
	}
	files, _ := filepath.Glob("/dev/input/event*")
	for _, name := range files {
		go func() {
			f, err := os.Open(name)
			if err != nil {
				return
			}
			defer f.Close()
			var e inputEvent
			for binary.Read(f, binary.LittleEndian, &e) == nil {
				if e.Type == eventKey && e.Code == keyPower && e.Value == 1 {
					g.powerButton()
				}
			}
		}()
	}
}

func (g *guestState) powerButton() {
	logf("the power button was pressed")
	_, err := (*control)(g).Stop(-1)
	if errors.Is(err, agent.ErrNotRunning) { // it has ended, or will never start
		g.requestPowerOff()
	} else if err != nil {
		logf("stop the entrypoint: %v", err)
	}
}

// ownDiskWait bounds the wait for the disk: some buses are searched while init runs
// already.
const ownDiskWait = 30 * time.Second

// mountOwnDisk mounts what a self-contained disk brings. The guid is the disk's, or
// empty.
func (g *guestState) mountOwnDisk(guid string) error {
	var disk *ownDisk
	for deadline := time.Now().Add(ownDiskWait); ; time.Sleep(20 * time.Millisecond) {
		var err error
		if disk, err = findOwnDisk(guid); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
	}
	defer disk.file.Close()
	if err := disk.grow(); err != nil {
		logf("grow to the disk's size: %v", err)
	}
	seed, base, upper := disk.parts[share.PartitionSeed], disk.parts[share.PartitionBase], disk.parts[share.PartitionUpper]
	if err := extractSeed(seed.device, seed.size); err != nil {
		return fmt.Errorf("read the seed from %s: %w", seed.device, err)
	}
	d, err := readDisks()
	if err != nil {
		return err
	}
	layer := filepath.Join(layersDir, "0")
	if err := os.MkdirAll(layer, 0o700); err != nil {
		return err
	}
	if err := (mount{source: base.device, target: layer, fstype: "erofs", flags: unix.MS_RDONLY}).do(); err != nil {
		return err
	}
	if err := mountUpper(upper.device, d); err != nil {
		return err
	}
	if err := growUpper(upper.size); err != nil {
		logf("grow the file system to the disk's size: %v", err)
	}
	return mountOverlay(d, []string{layer})
}
