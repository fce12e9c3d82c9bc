package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
)

// PullBody is the body of a request to pull an image.
type PullBody struct {
	Image string `json:"image"`
	Pull  string `json:"pull,omitempty"` // missing, always or never
	// Credentials are for the image's registry; the engine's own where absent.
	Credentials *launcher.Credentials `json:"credentials,omitempty"`
}

// PullEvent is one line of the answer to a pull: progress, then an image or an error.
type PullEvent struct {
	Progress *launcher.PullProgress `json:"progress,omitempty"`
	Image    *launcher.Image        `json:"image,omitempty"`
	Error    *Error                 `json:"error,omitempty"`
}

// progressInterval spaces the progress that a pull reports.
const progressInterval = 100 * time.Millisecond

func (a *API) listImages(w http.ResponseWriter, r *http.Request) error {
	list, err := a.manager.Images(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *API) showImage(w http.ResponseWriter, r *http.Request) error {
	img, err := a.manager.Image(r.Context(), r.URL.Query().Get("ref"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, img)
}

// saveImage answers with the image as a tar file. Its query: ref, and name, which it
// has in the file.
func (a *API) saveImage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	return a.sendArchive(w, r, q.Get("ref"), q.Get("name"))
}

func (a *API) sendArchive(w http.ResponseWriter, r *http.Request, ref, name string) error {
	archive, err := a.manager.SaveImage(r.Context(), ref, name, nil)
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	w.Header().Set("Content-Type", tarType)
	w.Header().Set("Content-Length", strconv.FormatInt(archive.Size(), 10))
	// A layer that cannot be had ends the answer before its length.
	return archive.Write(r.Context(), w)
}

func (a *API) deleteImage(w http.ResponseWriter, r *http.Request) error {
	force, _ := strconv.ParseBool(r.URL.Query().Get("force"))
	if err := a.manager.DeleteImage(r.Context(), r.URL.Query().Get("ref"), force); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// ImageBody is the body of a request to make an image of a server.
type ImageBody struct {
	Reference string `json:"reference"`
}

// createServerImage answers when the image is ready.
func (a *API) createServerImage(w http.ResponseWriter, r *http.Request) error {
	var body ImageBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	type result struct {
		img launcher.Image
		err error
	}
	made := make(chan result, 1)
	err := a.manager.CreateImage(r.Context(), r.PathValue("server"), body.Reference, func(img launcher.Image, err error) { made <- result{img, err} })
	if err != nil {
		return err
	}
	select {
	case m := <-made:
		if m.err != nil {
			return m.err
		}
		return writeJSON(w, http.StatusCreated, m.img)
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

// PruneBody is the body of a request to remove what is not used.
type PruneBody struct {
	All bool `json:"all,omitempty"` // images that no server was made from, too
}

func (a *API) pruneImages(w http.ResponseWriter, r *http.Request) error {
	var body PruneBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	pruned, err := a.manager.PruneImages(r.Context(), body.All)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, pruned)
}

func (a *API) verifyImage(w http.ResponseWriter, r *http.Request) error {
	if err := a.manager.VerifyImage(r.Context(), r.URL.Query().Get("ref")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) pullImage(w http.ResponseWriter, r *http.Request) error {
	var body PullBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	return sendPull(w, func(progress func(launcher.PullProgress)) (launcher.Image, error) {
		return a.manager.Pull(r.Context(), body.Image, body.Pull, body.Credentials, progress)
	})
}

// loadImage pulls the image in the archive that is the request's body. It is answered
// as a pull, once the archive is at its end.
func (a *API) loadImage(w http.ResponseWriter, r *http.Request) error {
	// An archive that fails is not read on.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		return err
	}
	return sendPull(w, func(progress func(launcher.PullProgress)) (launcher.Image, error) {
		return a.manager.Load(r.Context(), r.URL.Query().Get("ref"), r.Body, progress)
	})
}

// PushBody is the body of a request to push an image.
type PushBody struct {
	launcher.PushOrder
	// Credentials are for the registry that the image is from, Destination for the one
	// that it goes to; the engine's own where absent.
	Credentials *launcher.Credentials `json:"credentials,omitempty"`
	Destination *launcher.Credentials `json:"destination_credentials,omitempty"`
}

// PushEvent is one line of the answer to a push: progress, then what it came to or an
// error.
type PushEvent struct {
	Progress *launcher.PullProgress `json:"progress,omitempty"`
	Pushed   *images.Pushed         `json:"pushed,omitempty"`
	Error    *Error                 `json:"error,omitempty"`
}

func (a *API) pushImage(w http.ResponseWriter, r *http.Request) error {
	var body PushBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	return sendProgress(w, func(p *launcher.PullProgress, pushed *images.Pushed, e *Error) any { return PushEvent{p, pushed, e} },
		func(progress func(launcher.PullProgress)) (images.Pushed, error) {
			return a.manager.Push(r.Context(), body.PushOrder, body.Credentials, body.Destination, progress)
		})
}

// sendPull answers with a pull's progress and outcome.
func sendPull(w http.ResponseWriter, pull func(func(launcher.PullProgress)) (launcher.Image, error)) error {
	return sendProgress(w, func(p *launcher.PullProgress, img *launcher.Image, e *Error) any { return PullEvent{p, img, e} }, pull)
}

// sendProgress answers with the progress of what takes long and with its outcome, each
// a line made by event, which is given one of the three.
func sendProgress[T any](w http.ResponseWriter, event func(*launcher.PullProgress, *T, *Error) any, do func(func(launcher.PullProgress)) (T, error)) error {
	var mu sync.Mutex
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	send := func(e any) error {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(e); err != nil {
			return err
		}
		return flush.Flush()
	}
	var last time.Time
	done := 0
	outcome, err := do(func(p launcher.PullProgress) {
		if settled := settledLayers(p); settled > done || time.Since(last) >= progressInterval {
			last, done = time.Now(), settled
			_ = send(event(&p, nil, nil)) // a client that has gone ends the request's context
		}
	})
	if err != nil {
		e, _ := asError(err)
		return send(event(nil, nil, e))
	}
	return send(event(nil, &outcome, nil))
}

func settledLayers(p launcher.PullProgress) int {
	n := 0
	for _, l := range p.Layers {
		if l.Settled() {
			n++
		}
	}
	return n
}

// Kernels are the guest kernels; guest.KernelStore implements it.
type Kernels interface {
	List() ([]guest.Kernel, error)
	Import(ctx context.Context, file string) (guest.Kernel, error)
	Default(ctx context.Context) (guest.Kernel, error)
	SetDefault(ctx context.Context, ref string) (guest.Kernel, error)
}

// Kernel is a guest kernel as it is shown.
type Kernel struct {
	guest.Kernel
	Default bool `json:"default"`
}

// ImportBody is the body of a request to import a kernel.
type ImportBody struct {
	File string `json:"file"` // absolute, on the engine's host
}

// DefaultBody is the body of a request to choose the default kernel.
type DefaultBody struct {
	Kernel string `json:"kernel"` // name or digest
}

func (a *API) listKernels(w http.ResponseWriter, r *http.Request) error {
	all, err := a.kernels.List()
	if err != nil {
		return err
	}
	list := []Kernel{}
	def, derr := a.kernels.Default(r.Context())
	for _, k := range all {
		list = append(list, Kernel{k, derr == nil && k.Digest == def.Digest})
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *API) importKernel(w http.ResponseWriter, r *http.Request) error {
	var body ImportBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	k, err := a.kernels.Import(r.Context(), body.File)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, Kernel{Kernel: k})
}

func (a *API) setDefaultKernel(w http.ResponseWriter, r *http.Request) error {
	var body DefaultBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	k, err := a.kernels.SetDefault(r.Context(), body.Kernel)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Kernel{k, true})
}
