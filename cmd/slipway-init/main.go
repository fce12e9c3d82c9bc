// Command slipway-init is PID 1 of Slipway's guests, and what runs entrypoints in
// guests of other systems. It is static and alone in its initramfs; package
// guest/boot tells what it does.
//
// It has all processors, where Go would look for the limits of its cgroup, a hundredth
// of an emulated boot.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"
	"runtime"

	"github.com/slipway-vm/slipway/guest/boot"
)

// The main goroutine keeps the main thread, see boot.Main.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case boot.StageArg:
			boot.Stage()
		case boot.ReaperArg:
			boot.Reap(os.Args[2:])
		case boot.ClassicArg:
			boot.Classic(os.Args[2])
		}
	}
	boot.Main()
}
