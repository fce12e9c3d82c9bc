package api

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/slipway-vm/slipway/launcher"
)

// The parts of an export that are asked for one by one.
const (
	PartFacts     = "facts" // what the export is: a launcher.Export
	PartDisk      = "disk"
	PartKernel    = "kernel"
	PartInitramfs = "initramfs"
)

// DiskBody is the body of a request for a part of an exported disk.
type DiskBody struct {
	launcher.DiskSpec
	Part        string                `json:"part"`
	Credentials *launcher.Credentials `json:"credentials,omitempty"`
}

// exportDisk answers with the bytes of a part, or its facts as JSON.
func (a *API) exportDisk(w http.ResponseWriter, r *http.Request) error {
	var body DiskBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	return a.sendDisk(w, r, body)
}

func (a *API) sendDisk(w http.ResponseWriter, r *http.Request, body DiskBody) error {
	e, err := a.manager.Export(r.Context(), body.DiskSpec, body.Credentials)
	if err != nil {
		return err
	}
	defer e.Close()
	switch body.Part {
	case PartFacts:
		return writeJSON(w, http.StatusOK, e)
	case PartInitramfs:
		return sendBytes(w, bytes.NewReader(e.Initramfs), int64(len(e.Initramfs)))
	case PartKernel:
		f, err := os.Open(e.KernelFile)
		if err != nil {
			return err
		}
		return sendFile(w, f)
	case PartDisk:
		f, err := e.Write(r.Context())
		if err != nil {
			return err
		}
		return sendFile(w, f)
	}
	return &Error{"invalid", "part " + strconv.Quote(body.Part) + ": use facts, disk, kernel or initramfs"}
}

// preload answers with a disk of images.
func (a *API) preload(w http.ResponseWriter, r *http.Request) error {
	var spec launcher.PreloadSpec
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	f, err := a.manager.Preload(r.Context(), spec)
	if err != nil {
		return err
	}
	return sendFile(w, f)
}

func sendFile(w http.ResponseWriter, f *os.File) error {
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return sendBytes(w, f, info.Size())
}

func sendBytes(w http.ResponseWriter, r io.Reader, size int64) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.WriteHeader(http.StatusOK)
	_, err := io.Copy(w, r)
	return err
}
