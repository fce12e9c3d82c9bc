package main

import (
	"strings"
	"testing"
	"time"
)

func TestVersion(t *testing.T) {
	for said, want := range map[string]string{
		"podman version 4.3.1\n": "4.3.1",
		"containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3": "1.6.20",
		"umoci version 0.4.7+ds-3+b7": "0.4.7",
		"nothing":                     "",
	} {
		if got := version(said); got != want {
			t.Errorf("%q is version %q, want %q", said, got, want)
		}
	}
}

func TestPrintPull(t *testing.T) {
	runs := func(seconds ...int) (all []sample) {
		for _, s := range seconds {
			all = append(all, sample{Elapsed: time.Duration(s) * time.Second, Synced: time.Duration(s+1) * time.Second, Peak: 60e6, Before: 40e6})
		}
		return all
	}
	var out strings.Builder
	pullResults{
		Image: &pullImage{Label: "large", Layers: 7, Missing: 7, Compressed: 272e6, Unpacked: 918e6, Entries: 89991},
		Subjects: []*subjectResults{
			{Name: goFloor, Floor: true, Runs: runs(4, 2, 9)},
			{Name: ours, Runs: runs(5, 5, 6)},
			{Name: "podman", Runs: runs(20, 30, 20)},
		},
		Absent: []string{"umoci: not installed: umoci"},
	}.print(&out)
	for _, want := range []string{
		"large: 7 layers; to pull 272.0 MB, unpacked 918.0 MB in 89991 entries\n",
		"| " + goFloor + " | 4.000 s | 2.000 s | 9.000 s | 1.00 |  | 1.25 |  |\n",
		"| slipway image pull | 5.000 s | 5.000 s | 6.000 s | 1.25 |  | 1.00 | 6.000 s |\n",
		"| podman | 20.0 s | 20.0 s | 30.0 s | 5.00 |  | 0.25 | 21.0 s |\n",
		"Not measured: umoci: not installed: umoci\n",
		"60 MB, at most 60 MB, of which 40 MB before the pull\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestParts(t *testing.T) {
	b := newImageBench(options{parts: "large,clones"}, "")
	if err := b.check(); err != nil || !b.wants("large") || b.wants("small") {
		t.Errorf("large,clones: %v, large %v, small %v", err, b.wants("large"), b.wants("small"))
	}
	b.parts = "huge"
	if err := b.check(); err == nil {
		t.Error("there is a huge image")
	}
}

func TestSummary(t *testing.T) {
	run := func(name string, ms int) *subjectResults {
		return &subjectResults{Name: name, Runs: []sample{{Elapsed: time.Duration(ms) * time.Millisecond}}}
	}
	r := imageResults{Pulls: []pullResults{
		{Image: &pullImage{Label: "large"}, Subjects: []*subjectResults{run(isalFloor, 1000), run(ours, 1200)}},
		{Image: &pullImage{Label: "small"}, Subjects: []*subjectResults{run(isalFloor, 10), run(ours, 30)}},
	}}
	var b strings.Builder
	r.printSummary(&b)
	want := "\n| | large | slipway ÷ | small | slipway ÷ |\n|---|--:|--:|--:|--:|\n" +
		"| " + isalFloor + " | 1.000 s | 1.20 | 0.010 s | 3.00 |\n| " + ours + " | 1.200 s | 1.00 | 0.030 s | 1.00 |\n"
	if b.String() != want {
		t.Errorf("%s\nwant%s", b.String(), want)
	}
}
