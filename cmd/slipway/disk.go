package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/rootfs/disk"
)

// diskFlags are the flags of what exports a disk.
type diskFlags struct {
	body   api.DiskBody
	format string
	layout string
	output string
	size   config.Size

	upload, cloud string
	properties    []string
	public        bool
}

// add defines the flags of how a disk is made.
func (d *diskFlags) add(f *pflag.FlagSet) {
	f.StringVar(&d.format, "format", "", "qcow2, raw or vmdk (default: by the name of the file, or qcow2)")
	f.StringVar(&d.layout, "layout", string(disk.LayoutBoth), "firmware that boots it: bios, uefi, both, or none: kernel and ramdisk are written beside it")
	f.StringVarP(&d.output, "output", "o", "", "`file` to write; - for the standard output")
	f.StringVar(&d.upload, "upload", "", "`glance:NAME`: an image to make of the disk, in the Glance of the configuration or of --cloud")
	f.StringVar(&d.cloud, "cloud", "", "`cloud` of clouds.yaml to upload to")
	f.StringArrayVar(&d.properties, "property", nil, "`KEY=VALUE` of the uploaded image; can be repeated")
	f.BoolVar(&d.public, "public", false, "let every project use the uploaded image (Glance lets administrators say so)")
	f.Var(&d.size, "size", "size of the disk (default: as small as possible); it grows to the disk it is given when it boots")
	f.StringVar(&d.body.OnExit, "on-exit", "poweroff", "what the machine does when the entrypoint has ended: poweroff, reboot or stay")
	f.StringArrayVar(&d.body.KernelArgs, "kernel-arg", nil, "`argument` for the kernel's command line; can be repeated")
}

// fill makes the request of the flags.
func (d *diskFlags) fill() error {
	if d.output == "" && d.upload == "" {
		return errors.New("no file is named: use -o FILE, -o - for the standard output, or --upload glance:NAME")
	}
	if d.upload == "" && (d.cloud != "" || len(d.properties) > 0 || d.public) {
		return errors.New("--cloud, --property and --public are about --upload, which is not given")
	}
	if d.format == "" {
		d.format = string(disk.FormatQCOW2)
		for _, f := range disk.Formats {
			if strings.HasSuffix(d.output, "."+string(f)) {
				d.format = string(f)
			}
		}
	}
	d.body.Format, d.body.Layout, d.body.Size = disk.Format(d.format), disk.Layout(d.layout), int64(d.size)
	if d.body.Layout == disk.LayoutNone && d.output == "-" {
		return errors.New("--layout none writes several files: use -o FILE")
	}
	return nil
}

func (c *cli) imageDisk() *cobra.Command {
	var b bootFlags
	var d diskFlags
	cmd := &cobra.Command{
		Use: "disk [flags] IMAGE [COMMAND [ARG...]]", Short: "Make a disk of an image, which any virtual machine boots",
		Long: `Make a disk of an image, which any virtual machine boots: with a kernel, a boot
loader and the image's file system. The machine needs nothing of Slipway. Who it is
it learns from a config drive, a NoCloud seed or a metadata service; what the
entrypoint writes goes to its serial console.

The same image, flags and Slipway make the same bytes.

With --layout none, FILE has no kernel: FILE.vmlinuz, FILE.initrd and FILE.cmdline
are written beside it, as kernel, ramdisk and os_command_line for Glance.

--upload glance:NAME makes an image of it that Nova boots, unless the image of that name
is the same disk; of another, which was exported too, it takes the name. The image's ID
is printed.`,
		Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			if err := errors.Join(b.fill(cmd, args), d.fill()); err != nil {
				return err
			}
			if err := b.load(cmd.Context(), engine); err != nil {
				return err
			}
			auth, err := credentials(cmd.Context(), b.spec.Image)
			if err != nil {
				return err
			}
			d.body.Spec, d.body.Credentials = b.spec, auth
			return d.run(cmd.Context(), cmd.OutOrStdout(), c, engine)
		}),
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	b.addProcess(f)
	d.add(f)
	return cmd
}

func (c *cli) serverExport() *cobra.Command {
	var d diskFlags
	cmd := &cobra.Command{
		Use: "export [flags] SERVER", Short: "Make a disk of a server, with what it has written", Args: cobra.ExactArgs(1),
		Long: `Make a disk of a server that does not run, with what it has written, as
"slipway image disk" makes one of an image.`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			if err := d.fill(); err != nil {
				return err
			}
			d.body.Server = args[0]
			return d.run(cmd.Context(), cmd.OutOrStdout(), c, engine)
		}),
	}
	d.add(cmd.Flags())
	return cmd
}

// run writes the files and uploads, as asked.
func (d *diskFlags) run(ctx context.Context, out io.Writer, c *cli, engine *client.Client) error {
	if d.output != "" {
		if err := d.write(ctx, out, engine); err != nil {
			return err
		}
	}
	if d.upload == "" {
		return nil
	}
	return d.store(ctx, c, engine)
}

// write writes the files, all or none.
func (d *diskFlags) write(ctx context.Context, out io.Writer, engine *client.Client) (err error) {
	files := []exportFile{{api.PartDisk, d.output, nil}}
	if d.body.Layout == disk.LayoutNone {
		facts, err := engine.ExportFacts(ctx, d.body)
		if err != nil {
			return err
		}
		files = append(files, exportFile{api.PartKernel, d.output + ".vmlinuz", nil}, exportFile{api.PartInitramfs, d.output + ".initrd", nil},
			exportFile{"", d.output + ".cmdline", strings.NewReader(facts.CommandLine + "\n")})
	}
	if d.output == "-" {
		d.body.Part = api.PartDisk
		from, _, err := engine.Export(ctx, d.body)
		if err != nil {
			return err
		}
		defer func() { _ = from.Close() }()
		_, err = io.Copy(os.Stdout, from)
		return err
	}
	var done []string
	defer func() {
		if err == nil {
			return
		}
		for _, name := range done {
			_ = os.Remove(name)
		}
	}()
	for _, f := range files {
		from, size := f.from, int64(-1)
		if from == nil {
			d.body.Part = f.part
			body, n, err := engine.Export(ctx, d.body)
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			from, size = body, n
		}
		if err := writeWhole(f.name, from, size); err != nil {
			return err
		}
		done = append(done, f.name)
	}
	info, err := os.Stat(d.output)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %s, %.1f MB\n", d.output, d.format, float64(info.Size())/1e6)
	return err
}

// exportFile is a part of an export and where it goes.
type exportFile struct {
	part string
	name string
	from io.Reader
}

// writeWhole makes a file, sparse where there are zeros, that is there when it is
// whole. A negative size is any.
func writeWhole(name string, from io.Reader, size int64) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", name, err), f.Close(), os.Remove(f.Name()))
		}
	}()
	n, err := copySparse(f, from)
	if err != nil {
		return err
	}
	if size >= 0 && n != size {
		return io.ErrUnexpectedEOF
	}
	if err := errors.Join(f.Truncate(n), f.Chmod(0o644)); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return f.Close()
}

// copySparse leaves out blocks of zeros, and gives how much it read.
func copySparse(f *os.File, from io.Reader) (int64, error) {
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(from, block)
		if n > 0 && string(block[:n]) != string(zeros[:n]) {
			if _, err := f.WriteAt(block[:n], at); err != nil {
				return at, err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
	}
}
