package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	belongs "github.com/slipway-vm/slipway/cmd/internal/cloud"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/rootfs/disk"
)

// glance is the image service of a cloud of clouds.yaml, of the one that commands are
// for, or of the one that Slipway belongs to.
func (c *cli) glance(ctx context.Context, cloud string) (*glance.Client, error) {
	if cloud == "" && c.onCloud {
		cloud = c.cloud
	} else if cloud == "" {
		own, err := belongs.Open(c.cfg, "slipway/"+version)
		if err != nil {
			return nil, err
		}
		if g := own.Glance(c.cfg.Image); g != nil {
			return g, nil
		}
		return nil, errors.New("no Glance is configured (image.url): name a cloud of clouds.yaml by --cloud")
	}
	s, err := login(ctx, cloud)
	if err != nil {
		return nil, err
	}
	return s.glance()
}

// glance is the cloud's image service.
func (s *session) glance() (*glance.Client, error) {
	opts := s.endpoint
	opts.ApplyDefaults("image")
	url, err := s.EndpointLocator(opts)
	if err != nil {
		return nil, fmt.Errorf("the cloud at %s has no image service: %w", s.IdentityEndpoint, plainly(err))
	}
	return glance.New(glance.Config{
		URL:     url,
		Login:   func(context.Context) (*gophercloud.ProviderClient, error) { return s.ProviderClient, nil },
		Project: func(context.Context) (string, error) { return s.project() },
	}), nil
}

// project is the ID of the one that the login is for.
func (s *session) project() (string, error) {
	result, ok := s.GetAuthResult().(interface {
		ExtractProject() (*tokens.Project, error)
	})
	if !ok {
		return "", fmt.Errorf("the cloud at %s does not say what project this is", s.IdentityEndpoint)
	}
	p, err := result.ExtractProject()
	if err == nil && p == nil {
		err = fmt.Errorf("the login at %s is for no project: name one", s.IdentityEndpoint)
	}
	if err != nil {
		return "", err
	}
	return p.ID, nil
}

// uploader stores exported disks in Glance.
type uploader struct {
	glance     *glance.Client
	engine     *client.Client
	say        func(string)
	properties map[string]string // besides
	visibility string
}

// lean are the properties of an image that boots with nothing it does not need.
var lean = map[string]string{
	"os_type": "linux", "architecture": "x86_64",
	"hw_disk_bus": "virtio", "hw_vif_model": "virtio", "hw_rng_model": "virtio",
	"hw_video_model": "none",
}

// disk sees to it that an export is there. With a name, it is the image of that name;
// without one any will do, and a new one is called fallback.
func (u *uploader) disk(ctx context.Context, body api.DiskBody, name, fallback string) (glance.Image, error) {
	facts, err := u.engine.ExportFacts(ctx, body)
	if err != nil {
		return glance.Image{}, err
	}
	// What an image is told besides makes another of it.
	digest := facts.Digest
	if len(u.properties) > 0 {
		sum := sha256.Sum256(fmt.Append(nil, digest, u.properties))
		digest = "sha256:" + hex.EncodeToString(sum[:])
	}
	there, err := u.glance.Exported(ctx, digest)
	if err != nil {
		return glance.Image{}, fmt.Errorf("look for the disk in Glance: %w", plainly(err))
	}
	for _, i := range there {
		if !i.Hidden && (name == "" || i.Name == name) && (u.visibility != "public" || i.Visibility == "public") {
			u.say(fmt.Sprintf("image %s (%s): up to date, nothing to do", i.Name, i.ID))
			return i, nil
		}
	}
	var before []glance.Image
	if name != "" {
		if before, err = u.named(ctx, name); err != nil {
			return glance.Image{}, err
		}
	} else {
		name = fallback
	}
	properties, err := u.describe(ctx, body, facts.CommandLine)
	if err != nil {
		return glance.Image{}, err
	}
	properties[glance.Export] = digest
	stored, err := u.part(ctx, body, api.PartDisk, glance.NewImage{
		Name: name, Visibility: u.visibility, Container: "bare", Disk: string(body.Format), Properties: properties,
	})
	if err != nil {
		return glance.Image{}, err
	}
	for _, b := range before {
		if err := u.glance.Hide(ctx, b.ID); err != nil {
			return stored, fmt.Errorf("hide image %s, which had the name: %w", b.ID, plainly(err))
		}
	}
	return stored, nil
}

// named are the images that give a name away, which images that nobody exported do not.
func (u *uploader) named(ctx context.Context, name string) ([]glance.Image, error) {
	before, err := u.glance.Named(ctx, name)
	if err != nil {
		return nil, plainly(err)
	}
	for _, b := range before {
		if b.Export == "" {
			return nil, fmt.Errorf("image %s of the name %s is no disk that was exported: rename or delete it first", b.ID, name)
		}
	}
	return before, nil
}

// describe gives a disk's properties, and uploads its kernel where it has none.
func (u *uploader) describe(ctx context.Context, body api.DiskBody, commandLine string) (map[string]string, error) {
	p := maps.Clone(lean)
	if body.Layout == disk.LayoutUEFI {
		p["hw_firmware_type"] = "uefi"
	}
	if grace := body.Spec.StopGrace; grace != nil {
		// Nova's patience with a server that is stopped, in seconds.
		p["os_shutdown_timeout"] = fmt.Sprint(int(grace.Seconds()) + 15)
	}
	if body.Layout == disk.LayoutNone {
		p["os_command_line"] = commandLine
		for _, k := range []struct{ property, part, format string }{
			{"kernel_id", api.PartKernel, "aki"}, {"ramdisk_id", api.PartInitramfs, "ari"},
		} {
			id, err := u.beside(ctx, body, k.part, k.format)
			if err != nil {
				return nil, err
			}
			p[k.property] = id
		}
	}
	maps.Copy(p, u.properties)
	return p, nil
}

// beside sees to it that a kernel or ramdisk is there, which many disks share.
func (u *uploader) beside(ctx context.Context, body api.DiskBody, part, format string) (string, error) {
	body.Part = part
	from, _, err := u.engine.Export(ctx, body)
	if err != nil {
		return "", err
	}
	defer func() { _ = from.Close() }()
	data, err := io.ReadAll(from)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	there, err := u.glance.Exported(ctx, digest)
	if err != nil {
		return "", plainly(err)
	}
	for _, i := range there {
		if i.Disk == format && (u.visibility != "public" || i.Visibility == "public") {
			return i.ID, nil
		}
	}
	stored, err := u.store(ctx, glance.NewImage{
		Name: "slipway-" + part, Hidden: true, Visibility: u.visibility, Container: format, Disk: format,
		Properties: map[string]string{glance.Export: digest},
	}, bytes.NewReader(data), int64(len(data)))
	return stored.ID, err
}

// part uploads a part of the export as it is made.
func (u *uploader) part(ctx context.Context, body api.DiskBody, part string, n glance.NewImage) (glance.Image, error) {
	body.Part = part
	from, length, err := u.engine.Export(ctx, body)
	if err != nil {
		return glance.Image{}, err
	}
	defer func() { _ = from.Close() }()
	in := bufio.NewReader(from)
	head, err := in.Peek(disk.HeadSize)
	if err != nil {
		return glance.Image{}, err
	}
	const gib = 1 << 30
	n.MinDisk = int((disk.VirtualSize(body.Format, head, length) + gib - 1) / gib)
	return u.store(ctx, n, in, length)
}

func (u *uploader) store(ctx context.Context, n glance.NewImage, from io.Reader, length int64) (glance.Image, error) {
	u.say(fmt.Sprintf("image %s: uploading %.1f MB", n.Name, float64(length)/1e6))
	stored, err := u.glance.Store(ctx, n, from)
	if err != nil {
		return stored, fmt.Errorf("upload image %s: %w", n.Name, plainly(err))
	}
	return stored, nil
}

// upload stores the disk where --upload says.
func (d *diskFlags) store(ctx context.Context, c *cli, engine *client.Client) error {
	name, ok := strings.CutPrefix(d.upload, string(images.Glance)+":")
	if !ok || name == "" || glance.IsID(name) {
		return fmt.Errorf("--upload %q: use glance:NAME", d.upload)
	}
	properties, err := keyValues("--property", d.properties)
	if err != nil {
		return err
	}
	client, err := c.glance(ctx, d.cloud)
	if err != nil {
		return err
	}
	say := func(line string) { fmt.Fprintln(os.Stderr, line) }
	u := &uploader{glance: client, engine: engine, say: say, properties: properties, visibility: "private"}
	if d.public {
		u.visibility = "public"
	}
	stored, err := u.disk(ctx, d.body, name, "")
	if err != nil {
		return err
	}
	fmt.Println(stored.ID)
	return nil
}
