// Package glance speaks to OpenStack's image service for package images: it finds
// images and blobs, reads them, and stores them.
//
// A blob of an OCI image (a manifest, a configuration, a layer) is a Glance image
// whose properties [Digest] and [MediaType] say what it is. Those but manifests are
// hidden from lists. Images that have a blob in common share it: it is found by its
// digest.
//
// Requests are made in the name of whoever the context says ([WithCaller]), else in
// that of Slipway's own user. What Glance lets him see is what there is.
package glance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
)

// Properties of Glance images that are blobs.
const (
	Digest    = "oci_digest"
	MediaType = "oci_media_type"
)

// Export is the property of a disk that Slipway has made, or of what belongs to one: a
// digest of all that it was made of.
const Export = "slipway_digest"

// Config says how the service is reached.
type Config struct {
	URL string // of the service: http://127.0.0.1:9292
	// Login gives a client that is logged in as Slipway's own user.
	Login func(context.Context) (*gophercloud.ProviderClient, error)
	// Project is that of Slipway's own user.
	Project func(context.Context) (string, error)
	// HTTP makes the requests with others' tokens.
	HTTP http.Client
}

// Client speaks to one image service.
type Client struct{ cfg Config }

// New makes a client. It connects when it is first used.
func New(cfg Config) *Client {
	cfg.URL = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(cfg.URL, "/"), "/v2"), "/") + "/"
	return &Client{cfg}
}

// Caller is whose token a request is made with.
type Caller struct{ Token, Project string }

type callerKey struct{}

// WithCaller gives a context whose requests are made in somebody's name.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is in whose name requests with this context are made, if not in Slipway's
// own.
func CallerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// project is the one that new images will be in.
func (c *Client) project(ctx context.Context) (string, error) {
	if caller, ok := CallerOf(ctx); ok {
		return caller.Project, nil
	}
	return c.cfg.Project(ctx)
}

func (c *Client) service(ctx context.Context) (*gophercloud.ServiceClient, error) {
	provider := &gophercloud.ProviderClient{HTTPClient: c.cfg.HTTP}
	if caller, ok := CallerOf(ctx); ok {
		provider.TokenID = caller.Token
	} else {
		var err error
		if provider, err = c.cfg.Login(ctx); err != nil {
			return nil, err
		}
	}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: c.cfg.URL, ResourceBase: c.cfg.URL + "v2/", Type: "image"}, nil
}

// Image is a Glance image, as far as it matters here.
type Image struct {
	ID, Name   string
	Owner      string // project
	Visibility string
	Status     string
	Container  string // format
	Disk       string // format
	Size       int64
	// HashAlgo and HashValue are the checksum of the data; empty while there is none.
	HashAlgo, HashValue string
	Digest, MediaType   string // of a blob
	Export              string // of what was exported
	Kernel, Ramdisk     string // IDs; of a disk without them
	Hidden              bool   // from lists, as far as that was asked
	MinDisk             int    // GiB
	Arch                string
	Created, Updated    time.Time
}

func view(i *images.Image) Image {
	text := func(name string) string { s, _ := i.Properties[name].(string); return s }
	return Image{
		ID: i.ID, Name: i.Name, Owner: i.Owner, Visibility: string(i.Visibility), Status: string(i.Status),
		Container: i.ContainerFormat, Disk: i.DiskFormat, Size: i.SizeBytes,
		HashAlgo: text("os_hash_algo"), HashValue: text("os_hash_value"),
		Digest: text(Digest), MediaType: text(MediaType), Export: text(Export),
		Kernel: text("kernel_id"), Ramdisk: text("ramdisk_id"),
		MinDisk: i.MinDiskGigabytes, Arch: text("architecture"),
		Created: i.CreatedAt, Updated: i.UpdatedAt,
	}
}

// AmbiguousError says that a name means several images.
type AmbiguousError struct {
	Name string
	IDs  []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d images are named %q: use an ID: %s", len(e.IDs), e.Name, strings.Join(e.IDs, ", "))
}

// ErrNotFound says that there is no such image, or none that the caller may see.
var ErrNotFound = errors.New("no such image in Glance")

// IsID reports whether a name has the form of an ID.
func IsID(name string) bool {
	id, err := uuid.Parse(name)
	return err == nil && id.String() == name
}

// Find returns the image with an ID or, where there is none, the one with that name,
// which may be an *AmbiguousError. Hidden images have no name.
func (c *Client) Find(ctx context.Context, name string) (Image, error) {
	service, err := c.service(ctx)
	if err != nil {
		return Image{}, err
	}
	if IsID(name) {
		i, err := images.Get(ctx, service, name).Extract()
		if err == nil {
			return view(i), nil
		}
		if !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return Image{}, err
		}
	}
	found, err := c.List(ctx, url.Values{"name": {"eq:" + name}}) // a name may have colons
	switch {
	case err != nil:
		return Image{}, err
	case len(found) == 0:
		return Image{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	case len(found) > 1:
		e := &AmbiguousError{Name: name}
		for _, i := range found {
			e.IDs = append(e.IDs, i.ID)
		}
		return Image{}, e
	}
	return found[0], nil
}

// query is a list's filter; gophercloud's own knows no properties.
type query url.Values

func (q query) ToImageListQuery() (string, error) { return "?" + url.Values(q).Encode(), nil }

// List returns the images that pass a filter, the newest first.
func (c *Client) List(ctx context.Context, filter url.Values) ([]Image, error) {
	service, err := c.service(ctx)
	if err != nil {
		return nil, err
	}
	pages, err := images.List(service, query(filter)).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	found, err := images.ExtractImages(pages)
	if err != nil {
		return nil, err
	}
	list := make([]Image, 0, len(found))
	for n := range found {
		list = append(list, view(&found[n]))
	}
	return list, nil
}

// Blob finds the blob of a digest and a size.
func (c *Client) Blob(ctx context.Context, digest string, size int64) (Image, error) {
	found, err := c.marked(ctx, Digest, digest)
	if err != nil {
		return Image{}, err
	}
	for _, i := range found {
		if i.Size == size {
			return i, nil
		}
	}
	return Image{}, fmt.Errorf("blob %s: %w", digest, ErrNotFound)
}

// Exported finds what was stored with a digest as [Export], the newest first.
func (c *Client) Exported(ctx context.Context, digest string) ([]Image, error) {
	return c.marked(ctx, Export, digest)
}

// marked finds the images with a property, hidden or not, among those of the caller's
// own project and those that everybody may see, which an administrator has made so:
// what else says something of itself may have come from anywhere.
func (c *Client) marked(ctx context.Context, property, value string) ([]Image, error) {
	project, err := c.project(ctx)
	if err != nil {
		return nil, err
	}
	var all []Image
	for _, hidden := range []string{"false", "true"} {
		found, err := c.List(ctx, url.Values{property: {value}, "os_hidden": {hidden}, "status": {"active"}})
		if err != nil {
			return nil, err
		}
		for _, i := range found {
			if i.Owner == project || i.Visibility == "public" {
				i.Hidden = hidden == "true"
				all = append(all, i)
			}
		}
	}
	return all, nil
}

// Open reads an image's data, unchecked.
func (c *Client) Open(ctx context.Context, id string) (io.ReadCloser, error) {
	service, err := c.service(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	body, err := imagedata.Download(ctx, service, id).Extract()
	if err != nil {
		cancel(nil)
		return nil, err
	}
	r := &patient{body: body, ctx: ctx, cancel: cancel}
	r.timer = time.AfterFunc(stall, func() { cancel(errStalled) })
	return r, nil
}

// stall is how long a download may be silent.
const stall = time.Minute

var errStalled = fmt.Errorf("the image service has sent nothing for %s", stall)

// patient reads until nothing comes any more.
type patient struct {
	body   io.ReadCloser
	ctx    context.Context // of the request that is being read
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	if n > 0 {
		p.timer.Reset(stall)
	}
	if cause := context.Cause(p.ctx); err != nil && errors.Is(cause, errStalled) {
		err = cause
	}
	return n, err
}

func (p *patient) Close() error {
	p.timer.Stop()
	p.cancel(nil)
	return p.body.Close()
}

// NewImage is an image to be stored.
type NewImage struct {
	Name, Visibility  string
	Digest, MediaType string
	Arch              string // in Nova's words; may be empty
	Hidden            bool
	// Container and Disk are formats; empty: those of a container's image.
	Container, Disk string
	MinDisk         int               // GiB
	Properties      map[string]string // besides
}

// Store makes an image of what r reads. An image that fails does not stay.
func (c *Client) Store(ctx context.Context, n NewImage, r io.Reader) (_ Image, err error) {
	service, err := c.service(ctx)
	if err != nil {
		return Image{}, err
	}
	opts := n.options()
	made, err := images.Create(ctx, service, opts).Extract()
	if err != nil {
		return Image{}, err
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if derr := images.Delete(ctx, service, made.ID).ExtractErr(); derr != nil {
			err = errors.Join(err, fmt.Errorf("delete image %s, which is not whole: %w", made.ID, derr))
		}
	}()
	// What r fails with is better known to it than to the service.
	body := &failing{r: r}
	if err := imagedata.Upload(ctx, service, made.ID, body).ExtractErr(); err != nil {
		return Image{}, errors.Join(body.err, err)
	}
	stored, err := images.Get(ctx, service, made.ID).Extract()
	if err != nil {
		return Image{}, err
	}
	return view(stored), nil
}

func (n *NewImage) options() images.CreateOpts {
	visibility := images.ImageVisibility(n.Visibility)
	opts := images.CreateOpts{
		Name: n.Name, Visibility: &visibility, Hidden: &n.Hidden, MinDisk: n.MinDisk,
		ContainerFormat: cmp.Or(n.Container, "docker"), DiskFormat: cmp.Or(n.Disk, "raw"),
		Properties: map[string]string{},
	}
	for name, value := range map[string]string{Digest: n.Digest, MediaType: n.MediaType, "architecture": n.Arch} {
		if value != "" {
			opts.Properties[name] = value
		}
	}
	maps.Copy(opts.Properties, n.Properties)
	return opts
}

// failing remembers what reading failed with.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// Hide takes an image out of lists.
func (c *Client) Hide(ctx context.Context, id string) error {
	return c.update(ctx, id, images.ReplaceImageHidden{NewHidden: true})
}

// Renew counts a blob as stored just now, so that [Client.Prune] spares it, if it is of the
// caller's own project and was stored some time ago.
func (c *Client) Renew(ctx context.Context, blob Image) error {
	project, err := c.project(ctx)
	if err != nil || blob.Owner != project || time.Since(blob.Updated) < renewal {
		return err
	}
	return c.Hide(ctx, blob.ID)
}

// SetVisibility says who may see an image.
func (c *Client) SetVisibility(ctx context.Context, id, visibility string) error {
	return c.update(ctx, id, images.UpdateVisibility{Visibility: images.ImageVisibility(visibility)})
}

func (c *Client) update(ctx context.Context, id string, p images.Patch) error {
	service, err := c.service(ctx)
	if err != nil {
		return err
	}
	_, err = images.Update(ctx, service, id, images.UpdateOpts{p}).Extract()
	return err
}

// Named returns the images of the caller's own project that have a name and are not
// hidden.
func (c *Client) Named(ctx context.Context, name string) ([]Image, error) {
	project, err := c.project(ctx)
	if err != nil {
		return nil, err
	}
	return c.List(ctx, url.Values{"name": {"eq:" + name}, "owner": {project}})
}
