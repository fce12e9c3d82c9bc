package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// imageResults is everything that the image benchmark measures.
type imageResults struct {
	Machine machine         `json:"machine"`
	Runs    int             `json:"runs"`
	Pulls   []pullResults   `json:"pulls"`
	Clones  []*cloneResults `json:"clones,omitempty"`
}

type pullResults struct {
	Image    *pullImage        `json:"image"`
	Subjects []*subjectResults `json:"subjects"`
	Absent   []string          `json:"absent,omitempty"`
}

type subjectResults struct {
	Name  string   `json:"name"`
	Floor bool     `json:"floor,omitempty"`
	Runs  []sample `json:"runs"`
}

// machine is what results depend on.
type machine struct {
	CPUs       int       `json:"cpus"`
	Kernel     string    `json:"kernel"`
	Unpigz     bool      `json:"unpigz"` // containerd and podman use it
	Date       time.Time `json:"date"`
	LoadBefore string    `json:"load_before"`
	LoadAfter  string    `json:"load_after"`
}

func thisMachine() machine {
	var u unix.Utsname
	_ = unix.Uname(&u)
	_, err := exec.LookPath("unpigz")
	return machine{
		CPUs: runtime.NumCPU(), Kernel: unix.ByteSliceToString(u.Release[:]), Unpigz: err == nil,
		Date: time.Now().UTC().Truncate(time.Second), LoadBefore: loadAverage(),
	}
}

func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(data))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// write writes the results as JSON.
func (r *imageResults) write(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// printHead prints, as Markdown like all that follows it, what the results depend
// on. Each table is printed when it is complete, so that an interrupt loses one.
func (r *imageResults) printHead(w io.Writer) {
	unpigz := "without unpigz"
	if r.Machine.Unpigz {
		unpigz = "with unpigz"
	}
	fmt.Fprintf(w, "Images on %d CPUs, Linux %s, %s; %s; %d runs, medians; load average %s\n",
		r.Machine.CPUs, r.Machine.Kernel, unpigz, r.Machine.Date.Format("2006-01-02 15:04 UTC"), r.Runs, r.Machine.LoadBefore)
}

// ours is the subject that the others are compared with.
const ours = "slipway image pull"

func (p pullResults) print(w io.Writer) {
	i := p.Image
	there := ""
	if i.Missing < i.Layers {
		there = fmt.Sprintf(", %d of them there", i.Layers-i.Missing)
	}
	fmt.Fprintf(w, "\n%s: %d layers%s; to pull %.1f MB, unpacked %.1f MB in %d entries\n\n", i.Label, i.Layers, there,
		float64(i.Compressed)/1e6, float64(i.Unpacked)/1e6, i.Entries)
	fmt.Fprintln(w, "| | median | min | max | ÷ floor in Go | ÷ floor by ISA-L | slipway ÷ this | until on disk |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|--:|--:|")
	for _, s := range p.Subjects {
		synced := ""
		if !s.Floor {
			synced = seconds(median(s.times(func(s sample) time.Duration { return s.Synced })))
		}
		all := s.times(elapsed)
		inGo, isal := ratio(s, p.subject(goFloor)), ratio(s, p.subject(isalFloor))
		fmt.Fprintln(w, "|", strings.Join([]string{
			s.Name, seconds(median(all)), seconds(all[0]), seconds(all[len(all)-1]),
			inGo, isal, ratio(p.subject(ours), s), synced,
		}, " | "), "|")
	}
	for _, why := range p.Absent {
		fmt.Fprintf(w, "\nNot measured: %s\n", why)
	}
	if s := p.subject(ours); s != nil {
		var peaks, before []int64
		for _, run := range s.Runs {
			peaks, before = append(peaks, run.Peak), append(before, run.Before)
		}
		slices.Sort(peaks)
		slices.Sort(before)
		fmt.Fprintf(w, "\nMemory of slipwayd (VmHWM): %s MB, at most %s MB, of which %s MB before the pull\n",
			megabytes(peaks[len(peaks)/2]), megabytes(peaks[len(peaks)-1]), megabytes(before[len(before)/2]))
	}
}

// printSummary prints README's table: all images side by side, medians, and Slipway's
// time over each.
func (r *imageResults) printSummary(w io.Writer) {
	if len(r.Pulls) == 0 {
		return
	}
	head, line := "\n| |", "|---|"
	for _, p := range r.Pulls {
		head += " " + p.Image.Label + " | slipway ÷ |"
		line += "--:|--:|"
	}
	fmt.Fprintf(w, "%s\n%s\n", head, line)
	for _, s := range r.Pulls[0].Subjects {
		row := "| " + s.Name + " |"
		for _, p := range r.Pulls {
			// Whoever is measured on one image is on all.
			s := p.subject(s.Name)
			row += " " + seconds(median(s.times(elapsed))) + " | " + ratio(p.subject(ours), s) + " |"
		}
		fmt.Fprintln(w, row)
	}
}

// subject is the subject of a name, if it was measured.
func (p pullResults) subject(name string) *subjectResults {
	i := slices.IndexFunc(p.Subjects, func(s *subjectResults) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return p.Subjects[i]
}

func elapsed(s sample) time.Duration { return s.Elapsed }

func (r *subjectResults) times(which func(sample) time.Duration) []time.Duration {
	var all []time.Duration
	for _, s := range r.Runs {
		all = append(all, which(s))
	}
	slices.Sort(all)
	return all
}

// ratio is that of two medians; nothing where one is missing.
func ratio(a, b *subjectResults) string {
	if a == nil || b == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", median(a.times(elapsed)).Seconds()/median(b.times(elapsed)).Seconds())
}

func printClones(w io.Writer, results []*cloneResults) {
	if len(results) == 0 {
		return
	}
	fmt.Fprintf(w, "\nclones with %d GiB for writing\n\n", cloneSize>>30)
	fmt.Fprintln(w, "| servers | median | min | max | disk per server |")
	fmt.Fprintln(w, "|--:|--:|--:|--:|--:|")
	for _, c := range results {
		slices.Sort(c.Times)
		slices.Sort(c.Disk)
		fmt.Fprintf(w, "| %d | %s | %s | %s | %.0f KiB |\n", c.Servers, milliseconds(median(c.Times)),
			milliseconds(c.Times[0]), milliseconds(c.Times[len(c.Times)-1]), float64(c.Disk[len(c.Disk)/2])/1024)
	}
}

func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.3f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

func megabytes(n int64) string { return fmt.Sprintf("%.0f", float64(n)/1e6) }
