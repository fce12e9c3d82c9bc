package images

import (
	"errors"

	"github.com/slipway-vm/slipway/images/content"
)

// Kinds of error, to be tested with errors.Is.
var (
	// ErrNotFound: no such image, neither here nor where the reference points.
	ErrNotFound = content.ErrNotFound
	// ErrInvalidReference: not a reference at all.
	ErrInvalidReference = errors.New("invalid reference")
	// ErrUnauthorized: the registry wants other credentials, or says so to
	// hide that there is nothing.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrUnavailable: the registry cannot be reached or is out of order.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrCorrupt: bytes are not what their digest or size says.
	ErrCorrupt = content.ErrCorrupt
	// ErrUnsupported: an image, but not one that can be run here.
	ErrUnsupported = errors.New("unsupported image")
	// ErrAmbiguous: a prefix of several images.
	ErrAmbiguous = errors.New("ambiguous")
)
