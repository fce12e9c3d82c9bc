//go:build guest

package main

import (
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// testImage is the image that most tests boot.
func testImage(t *testing.T) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(filepath.Join(imageDir, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// configured is the test image with another configuration.
func configured(t *testing.T, change func(*v1.Config)) v1.Image {
	t.Helper()
	img := testImage(t)
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg := file.Config.DeepCopy()
	change(cfg)
	if img, err = mutate.Config(img, *cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

// ociLayout writes an image to a directory and returns its reference.
func ociLayout(t *testing.T, img v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

const whoAmI = `echo uid $(id -u) gid $(id -g) groups $(id -G); echo home $HOME; echo in $(pwd); `

// The entrypoint is started as image and flags say, flags first.
func TestProcess(t *testing.T) {
	image := func(change func(*v1.Config)) func(*testing.T) string {
		return func(t *testing.T) string { return ociLayout(t, configured(t, change)) }
	}
	tests := []struct {
		name  string
		image func(*testing.T) string // the test image where nil
		flags []string
		args  []string
		want  string
	}{
		{
			name:  "user by name, with what belongs to it",
			flags: []string{"--user", "app", "--hostname", "berth-7", "--workdir", "/srv", "--env", "A=1", "--env", "FROM_IMAGE=flag"},
			args:  []string{"sh", "-c", whoAmI + `hostname; echo "$A" "$FROM_IMAGE" "$PATH"`},
			want: "uid 1000 gid 1000 groups 1000 2000 2001\nhome /home/app\nin /srv\nberth-7\n" +
				"1 flag /usr/local/bin:/usr/bin:/bin\n",
		},
		{
			name:  "user by ID, host name by server name",
			flags: []string{"--user", "1000", "--name", "Berth_8"},
			args:  []string{"sh", "-c", whoAmI + `hostname; echo "$FROM_IMAGE"`},
			want:  "uid 1000 gid 1000 groups 1000 2000 2001\nhome /home/app\nin /\nberth-8\na value with spaces\n",
		},
		{
			name:  "name:group, wide IDs, relative to the workdir",
			flags: []string{"--user", "big:huge", "--workdir", "/made/for/it", "--entrypoint", "sh"},
			args:  []string{"-c", whoAmI},
			want:  "uid 70000 gid 70002 groups 70002\nhome /home/big\nin /made/for/it\n",
		},
		{
			name:  "unknown ID",
			flags: []string{"--user", "12345"},
			args:  []string{"sh", "-c", whoAmI},
			want:  "uid 12345 gid 0 groups 0\nhome /\nin /\n",
		},
		{
			name: "all from the image",
			image: image(func(c *v1.Config) {
				c.User, c.WorkingDir = "nobody", "/var"
				c.Env = append(c.Env, "B=from image")
				c.Entrypoint, c.Cmd = []string{"sh", "-c", whoAmI + `echo "$B" "$@"`, "name"}, []string{"one", "two words"}
			}),
			want: "uid 65534 gid 65534 groups 65534 2000\nhome /\nin /var\nfrom image one two words\n",
		},
		{
			name: "the command over the image's",
			image: image(func(c *v1.Config) {
				c.Entrypoint, c.Cmd = []string{"echo", "entrypoint"}, []string{"command"}
			}),
			args: []string{"mine", "-n"},
			want: "entrypoint mine -n\n",
		},
		{
			name: "no entrypoint",
			image: image(func(c *v1.Config) {
				c.Entrypoint, c.Cmd = []string{"false"}, []string{"command"}
			}),
			flags: []string{"--entrypoint", ""},
			args:  []string{"echo", "mine"},
			want:  "mine\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			ref := busybox
			if tt.image != nil {
				ref = tt.image(t)
			}
			args := append([]string{"boot", "--rm"}, tt.flags...)
			s.run(append(append(args, ref), tt.args...)...).ok().says(tt.want)
			s.clean()
		})
	}
}

// Environment files give lines, flags override them, and a bare name passes on
// the caller's value.
func TestEnvFile(t *testing.T) {
	t.Parallel()
	s := newState(t, "PASSED=on from here")
	file := filepath.Join(t.TempDir(), "env")
	writeFile(t, file, "# a comment\nA=from file\n\nB=  kept as it is \nPASSED\nABSENT\n")
	r := s.run("boot", "--rm", "--env-file", file, "--env", "A=from flag", "--env", "EMPTY=", busybox, "env").ok()
	for _, want := range []string{"A=from flag\n", "B=  kept as it is \n", "PASSED=on from here\n", "EMPTY=\n"} {
		if strings.Count("\n"+r.stdout, "\n"+want) != 1 {
			t.Errorf("not once in the environment: %q:\n%s", want, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "ABSENT") || strings.Contains(r.stdout, "SLIPWAY") {
		t.Errorf("environment:\n%s", r.stdout)
	}
}
