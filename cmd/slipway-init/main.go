// Command slipway-init is PID 1 of Slipway's guests. It is static and alone in
// its initramfs; package guest/boot tells what it does.
package main

import (
	"os"

	"github.com/slipway-vm/slipway/guest/boot"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == boot.StageArg {
		boot.Stage()
	}
	boot.Main()
}
