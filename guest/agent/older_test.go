package agent

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// older answers as an agent of version 1 did: recorded replies, by call.
var older = map[string][]struct {
	t       messageType
	payload string
}{
	methodHello: {{msgReply, `{"version":1,"kernel":"6.1.0-25-amd64","hostname":"web","instanceID":"0b7e3f0c","bootID":"5c0d","timeline":[{"step":"init","at":612345678}]}`}},
	methodExec: {
		{msgData, "\x01\x00\x00\x00\x00\x00\x00\x00\x00out\n"},
		{msgData, "\x02\x00\x00\x00\x00\x00\x00\x00\x00err\n"},
		{msgReply, `{"code":3}`},
	},
	methodEvents: {
		{msgEvent, `{"seq":0,"type":"started","at":1712345678,"pid":7,"timeline":[{"step":"init","at":612345678}]}`},
		{msgEvent, `{"seq":1,"type":"exited","at":2712345678,"exit":{"code":137,"signal":9,"oomKilled":true}}`},
		{msgReply, `{}`},
	},
	methodStats:   {{msgReply, `{"at":5000000000,"cpu":100000000,"cpuUser":60000000,"cpuSystem":40000000,"cpus":1,"memory":1048576,"memoryCache":4096,"memoryTotal":536870912,"memoryAvailable":268435456,"oomKills":0,"processes":2,"diskTotal":1073741824,"diskFree":1073741824}`}},
	methodTop:     {{msgEvent, `{"pid":1,"parent":0,"uid":0,"state":"S","cpu":10000000,"start":1700000000,"memory":4096,"command":"sh"}`}, {msgReply, `{}`}},
	methodCopyOut: {{msgData, "\x01\x00\x00\x00\x00\x00\x00\x00\x00tar"}, {msgReply, `{}`}},
	methodStop:    {{msgError, `{"kind":"not-running","message":"the entrypoint does not run"}`}},
}

func olderGuest(t *testing.T) *Client {
	t.Helper()
	c, err := newClient(testContext(t), hostileGuest(t, func(s *session) {
		answerStreams(s, func(method string, stream io.Writer) {
			replies, ok := older[method]
			if !ok {
				writeMessage(stream, msgError, []byte(`{"kind":"unsupported","message":"not supported by this guest's agent: call \"`+method+`\""}`))
			}
			for _, r := range replies {
				writeMessage(stream, r.t, []byte(r.payload))
			}
		})
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A newer host gets on with an older guest, and says what that one cannot do.
func TestOlderGuest(t *testing.T) {
	c, ctx := olderGuest(t), testContext(t)
	if h := c.Hello(); h.Version != 1 || h.Hostname != "web" || len(h.Timeline) != 1 {
		t.Errorf("hello %+v", h)
	}
	var out, errs bytes.Buffer
	exit, err := c.Exec(ctx, ExecRequest{Args: []string{"x"}}, ExecIO{Stdout: &out, Stderr: &errs, Detach: make(chan struct{})})
	if err != nil || exit.Code != 3 || out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("exec: %+v, %v, %q, %q", exit, err, &out, &errs)
	}
	if exit, err := c.Wait(ctx); err != nil || exit != (Exit{Code: 137, Signal: 9, OOMKilled: true}) {
		t.Errorf("wait: %+v, %v", exit, err)
	}
	if s, err := c.Stats(ctx); err != nil || s.Memory != 1<<20 || s.CPU.Milliseconds() != 100 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	if list, err := c.Top(ctx); err != nil || len(list) != 1 || list[0].Command != "sh" {
		t.Errorf("top: %+v, %v", list, err)
	}
	out.Reset()
	if err := c.CopyFrom(ctx, "/x", false, &out); err != nil || out.String() != "tar" {
		t.Errorf("copy: %q, %v", &out, err)
	}
	if _, err := c.Stop(ctx, 0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stop: %v", err)
	}
	for what, err := range map[string]error{
		"detach":     second(c.Exec(ctx, ExecRequest{Args: []string{"x"}, Detach: true}, ExecIO{})),
		"privileged": second(c.Exec(ctx, ExecRequest{Args: []string{"x"}, Privileged: true}, ExecIO{})),
		"follow":     c.CopyFrom(ctx, "/x", true, &out),
		"a call":     c.Freeze(ctx),
	} {
		if !errors.Is(err, ErrOlder) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second(_ Exit, err error) error { return err }
