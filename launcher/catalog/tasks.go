package catalog

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Methods of an import.
const (
	MethodDirect   = "glance-direct"    // of what is staged
	MethodDownload = "web-download"     // of a URL
	MethodRegistry = "slipway-registry" // of a reference
)

// Methods are those that there are.
var Methods = []string{MethodDirect, MethodDownload, MethodRegistry}

// Statuses of a task.
const (
	TaskPending    = "pending"
	TaskProcessing = "processing"
	TaskSuccess    = "success"
	TaskFailure    = "failure"
)

// Task is an import.
type Task struct {
	ID      string         `json:"id"`
	Type    string         `json:"type"`
	Status  string         `json:"status"`
	Owner   string         `json:"owner"`
	Image   string         `json:"image"`
	Request string         `json:"request,omitempty"`
	Input   map[string]any `json:"input,omitempty"`
	Message string         `json:"message"`
	Created time.Time      `json:"created"`
	Updated time.Time      `json:"updated"`
	Expires time.Time      `json:"expires,omitzero"`
}

// taskLife is how long a task that has ended is shown.
const taskLife = 48 * time.Hour

// Download says what may be imported from the web.
type Download struct {
	// Hosts that a URL may be of, perhaps with a port; none: all but this machine and
	// those of its link, on the usual ports.
	Hosts []string
}

// Import is a request to fill an image.
type Import struct {
	Method  string
	URI     string // of MethodDownload and MethodRegistry
	Request string // its ID
	// Type and Input are the task's, where it is not an image's import.
	Type  string
	Input map[string]any
}

// Import begins to fill an image and gives the task.
func (c *Catalog) Import(ctx context.Context, who Caller, id string, in Import) (Task, error) {
	from := []Status{Queued}
	switch in.Method {
	case MethodDirect:
		from = []Status{Uploading}
	case MethodDownload:
		if err := c.cfg.Download.allows(in.URI); err != nil {
			return Task{}, err
		}
	case MethodRegistry:
		if in.URI == "" || strings.HasPrefix(in.URI, "/") || localTransport(in.URI) {
			return Task{}, launcher.Errorf(launcher.ErrInvalid, "Import from a registry needs the image's reference as uri.")
		}
	default:
		return Task{}, launcher.Errorf(launcher.ErrInvalid, "Unknown import method name '%s'.", in.Method)
	}
	i, err := c.move(ctx, who, id, "import_image", Importing, from...)
	if err != nil {
		return Task{}, err
	}
	now := c.cfg.Now().UTC()
	t := Task{
		ID: uuid.NewString(), Type: "api_image_import", Status: TaskProcessing, Owner: who.Project, Image: id, Request: in.Request,
		Input:   map[string]any{"image_id": id, "import_req": map[string]any{"method": map[string]string{"name": in.Method, "uri": in.URI}}},
		Created: now, Updated: now,
	}
	if in.Type != "" {
		t.Type, t.Input = in.Type, in.Input
	}
	if err := c.putTask(ctx, t); err != nil {
		return Task{}, c.fail(ctx, i, err)
	}
	c.begin(i, t, in)
	return t, nil
}

// begin runs an import that ends with the image.
func (c *Catalog) begin(i Image, t Task, in Import) {
	ctx, cancel := context.WithCancel(c.ctx)
	c.mu.Lock()
	c.running[i.ID] = cancel
	c.mu.Unlock()
	c.imports.Go(func() {
		defer cancel()
		c.run(ctx, i, t, in)
		c.mu.Lock()
		delete(c.running, i.ID)
		c.mu.Unlock()
	})
}

// localTransport tells references to files of this host.
func localTransport(ref string) bool {
	transport, _, ok := strings.Cut(ref, ":")
	return ok && slices.Contains([]string{"oci", "oci-archive", "docker-archive"}, transport)
}

// run does an import.
func (c *Catalog) run(ctx context.Context, i Image, t Task, in Import) {
	var err error
	switch in.Method {
	case MethodDirect:
		err = c.activate(ctx, i)
	case MethodDownload:
		if err = c.download(ctx, i, in.URI); err == nil {
			err = c.activate(ctx, i)
		}
	case MethodRegistry:
		err = c.refer(ctx, i, in.URI)
	}
	t.Status = TaskSuccess
	if err != nil {
		c.log.Info("image not imported", "image", i.ID, "task", t.ID, "err", err)
		if err := c.fail(ctx, i, nil); err != nil {
			c.log.Error("image not taken back", "image", i.ID, "err", err)
		}
		t.Status, t.Message = TaskFailure, err.Error()
	}
	t.Updated = c.cfg.Now().UTC()
	t.Expires = t.Updated.Add(taskLife)
	if err := c.putTask(context.WithoutCancel(ctx), t); err != nil {
		c.log.Error("task not recorded", "task", t.ID, "err", err)
	}
}

// refer makes an image one of a registry's.
func (c *Catalog) refer(ctx context.Context, i Image, ref string) error {
	if i.Container != Container {
		return launcher.Errorf(launcher.ErrInvalid, "An image of a registry has container_format %s.", Container)
	}
	ref = strings.TrimPrefix(ref, "docker://")
	img, err := c.cfg.Launcher.Pull(ctx, ref, "missing", nil, func(launcher.PullProgress) {})
	if err != nil {
		return err
	}
	_, err = c.change(ctx, Caller{Admin: true}, i.ID, func(i *Image) error {
		i.Size, i.Status, i.FailedImport = img.Size, Active, false
		i.take(img.Reference, img)
		return nil
	})
	return err
}

// putTask stores a task, and drops those that have expired.
func (c *Catalog) putTask(ctx context.Context, t Task) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tx records.Tx
	records.DropAll(&tx, &c.tasks, func(t Task) bool { return !t.Expires.IsZero() && t.Expires.Before(c.cfg.Now()) })
	if err := records.Put(&tx, &c.tasks, t.ID, t); err != nil {
		return err
	}
	return tx.Commit(ctx, c.cfg.Store)
}

// Tasks returns a caller's tasks, the newest first.
func (c *Catalog) Tasks(who Caller) []Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Task
	for _, t := range c.tasks.Rows {
		if who.Admin || t.Owner == who.Project {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b Task) int { return b.Created.Compare(a.Created) })
	return list
}

// Task returns one of a caller's.
func (c *Catalog) Task(who Caller, id string) (Task, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.tasks.Rows[id]
	if !ok || !who.Admin && t.Owner != who.Project {
		return Task{}, launcher.Errorf(launcher.ErrNotFound, "No task found with ID %s", id)
	}
	return t, nil
}

// allows refuses URLs that are not for this service to fetch.
func (d Download) allows(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return launcher.Errorf(launcher.ErrInvalid, "URI for web-download does not pass filtering: %s: it must be an http or https URL.", uri)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	usual := port == "80" || port == "443"
	if len(d.Hosts) == 0 && usual || slices.Contains(d.Hosts, net.JoinHostPort(u.Hostname(), port)) || usual && slices.Contains(d.Hosts, u.Hostname()) {
		return nil
	}
	return launcher.Errorf(launcher.ErrInvalid, "URI for web-download does not pass filtering: %s: its host and port are not allowed (images.download_hosts).", uri)
}

// client fetches what is allowed, also after redirections and whatever names resolve
// to.
func (d Download) client() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		ip := at.Addr().Unmap()
		if len(d.Hosts) == 0 && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast()) {
			return launcher.Errorf(launcher.ErrInvalid, "%s is an address of this machine or its link (images.download_hosts)", ip)
		}
		return nil
	}}
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute, DisableCompression: true},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 5 {
				return errors.New("too many redirections")
			}
			return d.allows(r.URL.String())
		},
	}
}

// download stages what a URL has.
func (c *Catalog) download(ctx context.Context, i Image, uri string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return err
	}
	client := c.cfg.Download.client()
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return launcher.Errorf(launcher.ErrUnavailable, "%s answers %s", uri, resp.Status)
	}
	if err := c.write(ctx, c.staged(i.ID), resp.Body); err != nil {
		return err
	}
	if st, err := os.Stat(c.staged(i.ID)); err != nil || resp.ContentLength >= 0 && st.Size() != resp.ContentLength {
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	return nil
}
