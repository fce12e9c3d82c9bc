package images

import (
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// selectPlatform picks an index's manifest. Attestations, which some builders
// put beside the images, say "unknown" and are never meant.
func selectPlatform(index *v1.IndexManifest, want *v1.Platform) (v1.Descriptor, error) {
	var candidates []v1.Descriptor
	var offered []string
	for _, d := range index.Manifests {
		if attestation(d) || !d.MediaType.IsImage() && !d.MediaType.IsIndex() && d.MediaType != "" {
			continue
		}
		if d.Platform == nil {
			candidates = append(candidates, d)
			continue
		}
		offered = append(offered, d.Platform.String())
		if fits(d.Platform, want) {
			return d, nil
		}
	}
	// Without platforms, one image is the image; its configuration is checked.
	if len(candidates) == 1 {
		return candidates[0], nil
	}
	if len(candidates) > 1 && len(offered) == 0 {
		return v1.Descriptor{}, fmt.Errorf("index of %d images that name no platform; a tag or a digest is needed: %w", len(candidates), ErrAmbiguous)
	}
	return v1.Descriptor{}, fmt.Errorf("no image for %s, only for %s: %w", want, strings.Join(offered, ", "), ErrNotFound)
}

func attestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown"
}

// fits compares what the wish names. Of arm, an image without a variant is
// taken as fitting.
func fits(have, want *v1.Platform) bool {
	return have.OS == want.OS && have.Architecture == want.Architecture &&
		(want.Variant == "" || have.Variant == "" || have.Variant == want.Variant)
}

func checkPlatform(i *Image, want *v1.Platform) error {
	c, err := i.ConfigFile()
	if err != nil {
		return err
	}
	have := &v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
	if have.OS == "" && have.Architecture == "" {
		return nil // some tools leave both out
	}
	if !fits(have, want) {
		return fmt.Errorf("image %s is for %s, not for %s: %w", i.Digest, have, want, ErrUnsupported)
	}
	return nil
}
