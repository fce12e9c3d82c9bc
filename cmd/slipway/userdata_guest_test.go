//go:build guest

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func userData(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestUserData has each root mode's entrypoint find what user-data asked for.
func TestUserData(t *testing.T) {
	t.Parallel()
	s := newState(t)
	file := userData(t, `#cloud-config-archive
- type: text/cloud-config
  content: |
    write_files: [{path: /etc/greeting, content: hello, permissions: '0640', owner: 'ann:ann', defer: true}]
    users: [{name: ann, uid: 1234, ssh_authorized_keys: [key]}]
    mounts: [[tmpfs, /scratch, tmpfs, size=1M]]
    swap: {filename: /swapped, size: 1M}
    bootcmd: [echo boot >>/boots]
    runcmd: [[sh, -c, 'cat /etc/greeting /proc/self/mounts >/ran; echo to the console'], 'false']
    packages: [vim]
    fqdn: front.example.org
    manage_etc_hosts: true
- "#!/bin/sh\necho script >>/boots\n"
`)
	const swap = "1020 0\n"
	const name = "front\nfront\nfront.example.org\n"
	for _, mode := range []string{"virtiofs", "9p", "block"} {
		t.Run(mode, func(t *testing.T) {
			s := s.as(t)
			s.run("boot", "--name", mode, "--root", mode, "--user-data", file, busybox, "sh", "-c",
				`stat -c '%a %U' /etc/greeting; id -u ann; cat /home/ann/.ssh/authorized_keys /boots; grep -c ' /scratch tmpfs' /ran; tail -n +2 /proc/swaps | cut -f 2-4 | tr -s '\t' ' '; hostname; echo $HOSTNAME; hostname -f`).
				ok().says("640 ann\n1234\nkey\nboot\nscript\n1\n" + swap + name)
			// At the next boot only what belongs to each boot is done.
			s.run("server", "start", "-a", mode).ok().says("640 ann\n1234\nkey\nboot\nscript\nboot\n1\n" + swap + name)
			console := s.run("server", "logs", "--console", mode).ok().stdout
			if !strings.Contains(console, "to the console") {
				t.Errorf("the command's output is not on the console:\n%s", console)
			}
			told := s.run("server", "events", "--since", "1h", "--until", "0s", "--filter", "event=warning", "--filter", "server="+mode).ok().stdout
			for _, want := range []string{"packages: not honoured", "runcmd: command 2: exit status 1"} {
				if !strings.Contains(told, want) {
					t.Errorf("no event with %q:\n%s", want, told)
				}
			}
		})
	}
}

// TestUserDataPowerOff has user-data end a server whose entrypoint would go on.
func TestUserDataPowerOff(t *testing.T) {
	t.Parallel()
	s := newState(t)
	file := userData(t, "#cloud-config\nfinal_message: all is done\npower_state: {mode: poweroff, condition: test -e /etc/passwd}\n")
	s.run("boot", "--user-data", file, "--name", "short", busybox, "sh", "-c", "trap 'echo told; exit 3' TERM; echo up; while :; do sleep 1; done").
		exits(3).says("up\ntold\n")
	if console := s.run("server", "logs", "--console", "short").ok().stdout; !strings.Contains(console, "all is done") {
		t.Errorf("no final message:\n%s", console)
	}
}

// aliases are lists of YAML of which each is twice the one before.
func aliases(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	return b.String()
}

// TestUserDataHostile has nothing keep the entrypoint from starting.
func TestUserDataHostile(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for name, text := range map[string]string{
		"cycle":   "#cloud-config\na: &a [*a]\n",
		"include": "#include http://127.0.0.1/x\n",
		"bomb":    "#cloud-config\na0: &a0 [x, x]\n" + aliases(40),
		"noise":   "\x00\xff\x7fELF",
		"deep":    "#cloud-config\na: " + strings.Repeat("[", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			s := s.as(t)
			s.run("boot", "--name", name, "--user-data", userData(t, text), busybox, "echo", "runs").ok().says("runs\n")
			told := s.run("server", "events", "--since", "1h", "--until", "0s", "--filter", "event=warning", "--filter", "server="+name).ok().stdout
			if !strings.Contains(told, "user-data: ") {
				t.Errorf("no event: %s", told)
			}
		})
	}
	large := userData(t, fmt.Sprintf("#cloud-config\n# %s\n", strings.Repeat("x", 70000)))
	s.run("boot", "--user-data", large, busybox, "true").exits(125).complains("more than 49149 bytes")
}
