package archtest

import (
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// A rule keeps packages from importing others. A pattern names a package, or
// with "/..." a package and all below it. Test files obey it too unless it says
// otherwise.
type rule struct {
	name     string
	from     []string // who it binds; all packages when empty
	not      []string // what they must not import
	except   []string // who it does not bind, or "FROM -> IMPORTED" for one edge
	notTests bool     // test files are free
}

var rules = []rule{
	{
		name: "the launcher is imported by cmd and by its own adapters only",
		from: []string{"images/...", "rootfs/...", "guest/...", "cloudinit/..."},
		not:  []string{"launcher/..."},
	},
	{
		name: "nothing imports cmd",
		from: []string{"images/...", "rootfs/...", "guest/...", "cloudinit/...", "launcher/..."},
		not:  []string{"cmd/..."},
	},
	{name: "images stands alone", from: []string{"images/..."}, not: []string{"rootfs/...", "guest/...", "cloudinit/..."}},
	{
		name:   "rootfs uses the content store and nothing else of images",
		from:   []string{"rootfs/..."},
		not:    []string{"images/...", "guest/...", "cloudinit/..."},
		except: []string{"rootfs/... -> images/content", "rootfs/... -> images/content/crashtest"},
	},
	{
		// guest/vmtest boots guests, so it writes the seed that they read; guest/source
		// completes the seed of a guest that no engine started.
		name:   "the seed is read by PID 1 and guest/configure; nothing else of guest knows cloudinit",
		from:   []string{"guest/..."},
		not:    []string{"images/...", "rootfs/...", "cloudinit/..."},
		except: []string{"guest/boot -> cloudinit", "guest/configure -> cloudinit", "guest/source -> cloudinit", "guest/source -> cloudinit/seed", "guest/vmtest -> cloudinit/..."},
	},
	{name: "cloudinit stands alone", from: []string{"cloudinit/..."}, not: []string{"images/...", "rootfs/...", "guest/..."}},
	{name: "the launcher does not know its adapters", from: []string{"launcher"}, not: []string{"launcher/virt/...", "launcher/store/...", "launcher/api/..."}},
	{name: "adapters do not know one another", from: []string{"launcher/virt/..."}, not: []string{"launcher/store/...", "launcher/api/..."}},
	{name: "adapters do not know one another", from: []string{"launcher/store/..."}, not: []string{"launcher/virt/...", "launcher/api/..."}},
	{name: "adapters do not know one another", from: []string{"launcher/api/..."}, not: []string{"launcher/virt/...", "launcher/store/..."}},
	{name: "only launcher/virt speaks to libvirt", not: []string{"libvirt.org/go/libvirt"}, except: []string{"launcher/virt/..."}},
	{name: "domain XML is made in one place", not: []string{"libvirt.org/go/libvirtxml"}, except: []string{"launcher/domain/...", "launcher/virt/..."}},
	{
		name:   "cgo of our own is for ISA-L alone, behind a build tag",
		not:    []string{"C"},
		except: []string{"rootfs/inflate"},
	},
	{name: "records are kept in one place", not: []string{"database/sql", "github.com/mattn/go-sqlite3"}, except: []string{"launcher/store/..."}},
	{name: "configuration is read in one place", not: []string{"github.com/spf13/viper"}, except: []string{"cmd/internal/config"}},
	{
		name: "libraries know no command line",
		from: []string{"images/...", "rootfs/...", "guest/...", "cloudinit/...", "launcher/..."},
		not:  []string{"flag", "github.com/spf13/cobra", "github.com/spf13/pflag"},
		// A test with golden files has the usual -update.
		notTests: true,
	},
}

// matches tells whether pkg is one of the patterns.
func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		base, below := strings.CutSuffix(pattern, "/...")
		return pkg == base || below && strings.HasPrefix(pkg, base+"/")
	})
}

// breaks tells whether pkg breaks r by importing imported.
func (r rule) breaks(pkg, imported string) bool {
	if len(r.from) > 0 && !matches(r.from, pkg) || !matches(r.not, imported) {
		return false
	}
	// A package and its external tests are one.
	if pkg == imported || sameTree(r.from, pkg, imported) {
		return false
	}
	return !slices.ContainsFunc(r.except, func(e string) bool {
		from, to, edge := strings.Cut(e, " -> ")
		return matches([]string{from}, pkg) && (!edge || matches([]string{to}, imported))
	})
}

// sameTree tells whether one of the patterns holds both packages: a rule is about
// what leaves the tree that it binds.
func sameTree(patterns []string, a, b string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return matches([]string{p}, a) && matches([]string{p}, b)
	})
}

func TestImports(t *testing.T) {
	for _, f := range files(t) {
		for i, imported := range f.imports {
			for _, r := range rules {
				if !(r.notTests && f.isTest()) && r.breaks(f.pkg, imported) {
					t.Errorf("%s:%d imports %s: %s", f.path, f.line(i), imported, r.name)
				}
			}
		}
	}
}

func TestRules(t *testing.T) {
	tests := []struct {
		pkg, imported string
		broken        bool
	}{
		{"images/content", "launcher", true},
		{"images", "images/content", false},
		{"rootfs", "images/content", false},
		{"rootfs/disk", "images/content", false},
		{"rootfs", "images", true},
		{"guest/boot", "cloudinit", false},
		{"guest/boot", "cloudinit/seed", true},
		{"guest/agent", "cloudinit", true},
		{"cloudinit/seed", "cloudinit", false},
		{"launcher/virt", "libvirt.org/go/libvirt", false},
		{"launcher", "libvirt.org/go/libvirt", true},
		{"cmd/slipwayd", "libvirt.org/go/libvirt", true},
		{"launcher/virt", "launcher", false},
		{"launcher", "launcher/virt", true},
		{"launcher/api", "launcher/store", true},
		{"launcher", "cmd/internal/config", true},
		{"cmd/slipway", "github.com/spf13/viper", true},
		{"cmd/internal/config", "github.com/spf13/viper", false},
		{"guest/boot", "C", true},
		{"launcher/virt", "C", true},
		{"images", "flag", true},
		{"imagesque", "launcher", false},
	}
	for _, tt := range tests {
		broken := slices.ContainsFunc(rules, func(r rule) bool { return r.breaks(tt.pkg, tt.imported) })
		if broken != tt.broken {
			t.Errorf("%s -> %s: broken = %v, want %v", tt.pkg, tt.imported, broken, tt.broken)
		}
	}
}

// The guest's code goes into an initramfs without a C library.
func TestGuestBuildsWithoutCgo(t *testing.T) {
	var pkgs []string
	for _, pkg := range []string{"guest/boot", "guest/agent", "cloudinit", "cmd/slipway-init"} {
		if _, err := os.Stat(path.Join(root, pkg)); err == nil {
			pkgs = append(pkgs, "./"+pkg)
		}
	}
	if len(pkgs) == 0 {
		t.Log("no guest packages yet")
		return
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", os.DevNull}, pkgs...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, out)
	}
}

// Each package opens with one comment, in one file, in the form that go doc shows.
func TestPackageComments(t *testing.T) {
	comments := map[string][]string{} // by package, the files that have one
	for _, f := range files(t) {
		if f.isTest() {
			continue
		}
		if _, ok := comments[f.pkg]; !ok {
			comments[f.pkg] = nil
		}
		if f.syntax.Doc == nil {
			continue
		}
		comments[f.pkg] = append(comments[f.pkg], f.path)
		start := "Package " + f.syntax.Name.Name + " "
		if f.syntax.Name.Name == "main" {
			start = "Command " + path.Base(f.pkg) + " "
		}
		if !strings.HasPrefix(f.syntax.Doc.Text(), start) {
			t.Errorf("%s: the package comment does not begin with %q", f.path, start)
		}
	}
	for pkg, in := range comments {
		if len(in) != 1 {
			t.Errorf("package %s has %d package comments %v, want one", pkg, len(in), in)
		}
	}
}

// The top level is fixed; what is built and cached lies there too, ignored by git.
func TestTopLevel(t *testing.T) {
	allowed := strings.Fields("cmd launcher rootfs guest cloudinit images etc bin go.mod go.sum Makefile README.md LICENSE")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

// What git keeps, it keeps for ever: a binary that was committed by accident stays
// in every clone.
func TestNoLargeFiles(t *testing.T) {
	const limit = 512 << 10
	out, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Logf("not in a git checkout: %v", err)
		return
	}
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(path.Join(root, name))
		if err == nil && info.Size() > limit {
			t.Errorf("%s has %d bytes, more than %d", name, info.Size(), limit)
		}
	}
}
