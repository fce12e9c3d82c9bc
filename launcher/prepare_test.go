package launcher

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestProcessMergesAsDockerDoes(t *testing.T) {
	image := v1.Config{
		Entrypoint: []string{"/entry"}, Cmd: []string{"default"}, Env: []string{"A=1", "B=2"},
		User: "app", WorkingDir: "/app", StopSignal: "SIGQUIT",
	}
	for name, c := range map[string]struct {
		spec Spec
		args []string
		env  []string
	}{
		"as the image says":   {Spec{}, []string{"/entry", "default"}, []string{"A=1", "B=2"}},
		"another command":     {Spec{Command: []string{"x", "y"}}, []string{"/entry", "x", "y"}, []string{"A=1", "B=2"}},
		"another entrypoint":  {Spec{Entrypoint: &[]string{"/e"}}, []string{"/e"}, []string{"A=1", "B=2"}},
		"both":                {Spec{Entrypoint: &[]string{"/e"}, Command: []string{"x"}}, []string{"/e", "x"}, []string{"A=1", "B=2"}},
		"no entrypoint":       {Spec{Entrypoint: &[]string{}, Command: []string{"x"}}, []string{"x"}, []string{"A=1", "B=2"}},
		"environment":         {Spec{Env: []string{"B=3", "C=4"}}, []string{"/entry", "default"}, []string{"A=1", "B=3", "C=4"}},
		"environment, a twin": {Spec{Env: []string{"AA=1"}}, []string{"/entry", "default"}, []string{"A=1", "B=2", "AA=1"}},
	} {
		p, err := c.spec.process(&image, "host")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(p.Args, c.args) || !slices.Equal(p.Env, c.env) {
			t.Errorf("%s: %q with %q", name, p.Args, p.Env)
		}
		if p.User != "app" || p.Dir != "/app" || p.StopSignal != "SIGQUIT" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p, err := (&Spec{StopSignal: "USR1"}).process(&image, "host"); err != nil || p.StopSignal != "USR1" {
		t.Errorf("another stop signal: %+v, %v", p, err)
	}
	if _, err := (&Spec{Entrypoint: &[]string{}}).process(&image, "host"); !errors.Is(err, ErrInvalid) {
		t.Errorf("nothing to run: %v", err)
	}
}

func TestValidate(t *testing.T) {
	negative := -time.Second
	for want, s := range map[string]Spec{
		"no image":          {},
		"server name":       {Image: "i", Name: "a\nb"},
		"host name":         {Image: "i", Hostname: "-x"},
		"root mode":         {Image: "i", RootMode: "nfs"},
		"pull policy":       {Image: "i", Pull: "sometimes"},
		"working directory": {Image: "i", Dir: "x"},
		"negative":          {Image: "i", StopGrace: &negative},
		"unknown signal":    {Image: "i", StopSignal: "SIGNOSUCH"},
		"NAME=VALUE":        {Image: "i", Env: []string{"=x"}},
		"host directory":    {Image: "i", Volumes: []Volume{{Host: "x", Guest: "/y"}}},
		"path in the":       {Image: "i", Volumes: []Volume{{Host: "/x", Guest: "y"}}},
		"the root":          {Image: "i", Volumes: []Volume{{Host: "/x", Guest: "/y/.."}}},
	} {
		if err := s.validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestFlavor(t *testing.T) {
	known := []Flavor{{Name: "a", VCPUs: 1, Memory: 1 << 30, Disk: 1 << 30}}
	s := Spec{Memory: 2 << 30}
	if f, err := s.flavor(known, "a"); err != nil || f.Memory != 2<<30 || f.VCPUs != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	for want, s := range map[string]Spec{
		"there are a": {Flavor: "b"},
		"processors":  {VCPUs: 1000},
		"memory":      {Memory: -1},
		"disk":        {Disk: 1 << 60},
	} {
		if _, err := s.flavor(known, "a"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestFlavorOfItsOwn(t *testing.T) {
	specs := map[string]string{SpecRootMode: "9p", SpecKernel: "small"}
	s := Spec{Size: &Flavor{ID: "1", Name: "b", VCPUs: 2, Memory: 1 << 30, Disk: 1 << 30, ExtraSpecs: specs}, Kernel: "mine"}
	f, err := s.flavor(nil, "a")
	if err != nil || f.ID != "1" || s.RootMode != "9p" || s.Kernel != "mine" {
		t.Errorf("flavor %+v, root mode %q, kernel %q, %v", f, s.RootMode, s.Kernel, err)
	}
}

func TestNamesMadeUp(t *testing.T) {
	for in, want := range map[string]string{
		"web": "web", "My Web_1.example": "my-web-1-example", "---": "server", "日本": "server",
		strings.Repeat("a", 100): strings.Repeat("a", 63),
	} {
		if got := Hostname(in); got != want || !validHostname(got) {
			t.Errorf("host name of %q is %q", in, got)
		}
	}
	for image, want := range map[string]string{
		"oci:/x/hello": "hello-", "oci:/x/hello:latest": "hello-", "docker.io/library/nginx:1.2": "nginx-",
		"localhost:5000/app@sha256:00": "app-", "docker-archive:/x/a.tar": "a-",
	} {
		if got := defaultName(image); !strings.HasPrefix(got, want) || !nameRE.MatchString(got) {
			t.Errorf("name for %q is %q", image, got)
		}
	}
}
