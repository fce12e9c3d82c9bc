// Package dockerd writes what dockerd keeps of images in its data root, for its
// storage driver overlay2: so that it finds them as if it had pulled them. The layers'
// files are not written here; [Root.Layers] says where they belong.
//
// What is read back of it is dockerd's to decide: its own formats of versions 1.10
// and later. Layers are kept without the description of their archives, so that
// dockerd runs these images and builds on them, but cannot save or push them.
package dockerd

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Places below the data root.
const (
	driver = "overlay2"
	// Storage is where layers are, each in a directory of its own.
	Storage = driver
	// Diff is a layer's files, in its directory.
	Diff  = "diff"
	links = driver + "/l"
	store = "image/" + driver
	// Repositories is the list of names.
	Repositories = store + "/repositories.json"
)

// Image is one that dockerd is to find.
type Image struct {
	Name     name.Reference
	Manifest v1.Hash
	Config   []byte // as it was pulled
	Layers   []Layer
}

// Layer is one of an image, bottom first.
type Layer struct {
	DiffID v1.Hash
	Digest v1.Hash // of the blob
	Size   int64   // of the files
}

// Root is a data root, or what is to be added to one.
type Root struct {
	// Files are the small ones, by path.
	Files map[string][]byte
	// Symlinks are targets by path.
	Symlinks map[string]string
	// Layers say which layer's files are to be in which directory.
	Layers map[string]v1.Hash

	names map[string]map[string]string
}

// New makes an empty root.
func New() *Root {
	return &Root{Files: map[string][]byte{}, Symlinks: map[string]string{}, Layers: map[string]v1.Hash{}, names: map[string]map[string]string{}}
}

// Add adds an image.
func (r *Root) Add(i Image) error {
	if len(i.Layers) == 0 {
		return errors.New("an image without layers: dockerd has none")
	}
	sum := sha256.Sum256(i.Config)
	id := hex.EncodeToString(sum[:])
	r.Files[path.Join(store, "imagedb/content/sha256", id)] = i.Config
	var chain v1.Hash
	var lower string
	for _, l := range i.Layers {
		parent := chain
		chain = next(parent, l.DiffID)
		lower = r.layer(chain, parent, l, lower)
	}
	r.tag(i.Name, i.Manifest, "sha256:"+id)
	list, err := json.Marshal(map[string]any{"Repositories": r.names})
	r.Files[Repositories] = list
	return err
}

// next is the chain ID of a layer on top of a chain, as the OCI image specification
// has it.
func next(chain, diffID v1.Hash) v1.Hash {
	if chain == (v1.Hash{}) {
		return diffID
	}
	sum := sha256.Sum256([]byte(chain.String() + " " + diffID.String()))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// layer adds a layer and gives what the one above it has below it.
func (r *Root) layer(chain, parent v1.Hash, l Layer, lower string) string {
	db := path.Join(store, "layerdb/sha256", chain.Hex)
	dir := path.Join(Storage, chain.Hex)
	for name, text := range map[string]string{
		"cache-id": chain.Hex, "diff": l.DiffID.String(), "size": strconv.FormatInt(l.Size, 10),
	} {
		r.Files[path.Join(db, name)] = []byte(text)
	}
	if parent != (v1.Hash{}) {
		r.Files[path.Join(db, "parent")] = []byte(parent.String())
		r.Files[path.Join(dir, "lower")] = []byte(lower)
	}
	link := linkName(chain)
	r.Files[path.Join(dir, "link")] = []byte(link)
	r.Files[path.Join(dir, "committed")] = nil
	r.Symlinks[path.Join(links, link)] = path.Join("..", chain.Hex, Diff)
	r.Layers[path.Join(dir, Diff)] = l.DiffID
	if l.Digest != (v1.Hash{}) {
		r.Files[path.Join(store, "distribution/diffid-by-digest/sha256", l.Digest.Hex)] = []byte(l.DiffID.String())
	}
	if lower == "" {
		return "l/" + link
	}
	return "l/" + link + ":" + lower
}

// linkName is the short name that keeps the options of a mount short.
func linkName(chain v1.Hash) string {
	sum := sha256.Sum256([]byte(chain.String()))
	return base32.StdEncoding.EncodeToString(sum[:])[:26]
}

// tag gives an image a name, and the one with its digest that a pull gives it.
func (r *Root) tag(ref name.Reference, manifest v1.Hash, id string) {
	repo := familiar(ref.Context())
	if r.names[repo] == nil {
		r.names[repo] = map[string]string{}
	}
	if t, ok := ref.(name.Tag); ok {
		r.names[repo][repo+":"+t.TagStr()] = id
	}
	if manifest != (v1.Hash{}) {
		r.names[repo][repo+"@"+manifest.String()] = id
	}
}

// familiar is a repository as docker shows it.
func familiar(repo name.Repository) string {
	if repo.RegistryStr() != name.DefaultRegistry {
		return repo.Name()
	}
	text := repo.RepositoryStr()
	return strings.TrimPrefix(text, "library/")
}
