package configure

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
)

func TestGreet(t *testing.T) {
	i := newImage(t, map[string]string{"/etc/ssh/ssh_host_ed25519_key.pub": "host key"})
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(r.Method, r.URL, r.PostForm); got != "POST/i-1?x=1 map[fqdn:[web] hostname:[web] instance_id:[i-1] pub_key_ed25519:[host key]]" {
			t.Errorf("posted %s", got)
		}
	}))
	defer server.Close()
	c := &cloudinit.Config{
		PhoneHome:    &cloudinit.PhoneHome{URL: server.URL + "/$INSTANCE_ID?x=1", Post: []string{"all"}, Tries: 3},
		FinalMessage: "up $UPTIME from $datasource",
	}
	for range 2 { // the second time it does not phone
		message, mode := i.Greet(t.Context(), c, "web", 1500*time.Millisecond)
		if mode != "" || message != "up 1.50 from DataSourceNoCloud" {
			t.Errorf("message %q, mode %q", message, mode)
		}
	}
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
	i.reported()
}

func TestPowerState(t *testing.T) {
	run := cloudinit.Command{Args: []string{"test", "x"}}
	for name, tt := range map[string]struct {
		state *cloudinit.PowerState
		mode  string
	}{
		"none":       {},
		"always":     {&cloudinit.PowerState{Mode: "poweroff", Always: true}, "poweroff"},
		"condition":  {&cloudinit.PowerState{Mode: "halt", Condition: run}, "halt"},
		"not so":     {&cloudinit.PowerState{Mode: "halt", Condition: cloudinit.Command{Args: []string{"fail"}}}, ""},
		"for reboot": {&cloudinit.PowerState{Mode: "reboot", Always: true}, "reboot"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newImage(t, nil)
			if _, mode := i.Greet(t.Context(), &cloudinit.Config{PowerState: tt.state}, "web", 0); mode != tt.mode {
				t.Errorf("mode %q", mode)
			}
			if _, mode := i.Greet(t.Context(), &cloudinit.Config{PowerState: tt.state}, "web", 0); mode != "" {
				t.Errorf("%s again at the next boot", mode)
			}
		})
	}
}
