package cloudinit

import (
	"reflect"
	"testing"
)

// combined is user-data of each form, to which a script is added.
func combined(t *testing.T) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"nothing": nil,
		"config":  []byte("#cloud-config\nhostname: web\nruncmd: [ls]\n"),
		"script":  []byte("#!/bin/sh\necho \x00\xff\n"),
		"MIME":    []byte(mimeMessage),
		"gzip":    zip(t, "#cloud-config\nhostname: web\n"),
		"both":    zip(t, mimeMessage),
		"archive": []byte("#cloud-config-archive\n- |\n  #!/bin/sh\n  a\n- {content: 'hostname: b'}\n"),
	}
}

// TestWithScript has a script change nothing of what user-data says.
func TestWithScript(t *testing.T) {
	for name, user := range combined(t) {
		t.Run(name, func(t *testing.T) {
			data, err := WithScript(user, TypeScriptPerBoot, Script{Name: "extra", Body: []byte("#!/bin/sh\ntrue\n")})
			if err != nil {
				t.Fatal(err)
			}
			want, got := ParseUserData(user, nil), ParseUserData(data, nil)
			if !reflect.DeepEqual(got.Config, want.Config) || len(got.Scripts) != len(want.Scripts) || len(got.Warnings) != len(want.Warnings) {
				t.Errorf("%+v\nwant %+v", got, want)
			}
			for i := range want.Scripts {
				if string(got.Scripts[i].Body) != string(want.Scripts[i].Body) {
					t.Errorf("script %q, want %q", got.Scripts[i].Body, want.Scripts[i].Body)
				}
			}
			if n := len(want.Boothooks); len(got.Boothooks) != n+1 || string(got.Boothooks[n].Body) != "#!/bin/sh\ntrue\n" {
				t.Errorf("boothooks %+v", got.Boothooks)
			}
		})
	}
}
