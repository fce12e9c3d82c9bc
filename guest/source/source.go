// Package source tells a guest that no engine has started who it is. It looks for a
// disk with a seed (OpenStack's config drive, or NoCloud's), gets addresses by DHCP
// where nothing else gives them, and asks OpenStack's metadata service where there
// is no such disk. What it learns becomes the seed's files and the process's network.
package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/seed"
	"github.com/slipway-vm/slipway/guest/share"
)

// Complete adds to the seed in dir, and to the process that it starts, what this
// guest's cloud says. What fails is reported and does without.
func Complete(ctx context.Context, dir string, report func(string)) error {
	told, err := fromDrive()
	if err != nil {
		report(fmt.Sprintf("seed disk: %v", err))
	}
	var network *cloudinit.NetworkConfig
	if told != nil {
		network = told.Network
	}
	interfaces, names, err := setUp(ctx, network)
	if err != nil {
		report(fmt.Sprintf("network: %v", err))
	}
	defer interfaces.tearDown()
	if err := interfaces.writeLeases(dir); err != nil {
		return err
	}
	if told == nil && len(interfaces) > 0 && onOpenStack() {
		if told, err = fromService(ctx, ServiceURL); err != nil {
			report(fmt.Sprintf("metadata service: %v", err))
		}
	}
	if told != nil {
		if err := merge(dir, told); err != nil {
			return err
		}
	}
	return setProcess(filepath.Join(dir, path.Base(share.SpecFile)), interfaces, names, onOpenStack())
}

// merge writes the seed; the disk's own user-data stays where the cloud has none.
func merge(dir string, told *cloudinit.Seed) error {
	if len(told.UserData) == 0 {
		own, err := os.ReadFile(filepath.Join(dir, cloudinit.UserDataFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		told.UserData = own
	}
	out := *told
	out.Network = nil // done
	return seed.Write(dir, &out)
}

// linger is how long Nova has to show a console whose guest has nothing more to do.
const linger = 30 * time.Second

// setProcess gives the process the network.
func setProcess(name string, interfaces links, names resolver, nova bool) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	spec, err := share.ParseSpec(data)
	if err != nil {
		return err
	}
	for _, l := range interfaces {
		spec.Interfaces = append(spec.Interfaces, l.Interface)
	}
	if len(spec.Nameservers) == 0 {
		spec.Nameservers = names.servers
	}
	if len(spec.Search) == 0 {
		spec.Search = names.search
	}
	if nova {
		spec.Linger = linger
	}
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}

// ServiceURL is where a cloud's metadata service is.
const ServiceURL = "http://169.254.169.254"

// onOpenStack says whether the machine says that it is OpenStack's, by which
// cloud-init tells it too.
func onOpenStack() bool {
	for _, file := range []string{"product_name", "chassis_asset_tag", "sys_vendor"} {
		data, _ := os.ReadFile(filepath.Join("/sys/class/dmi/id", file))
		if strings.Contains(string(data), "OpenStack") {
			return true
		}
	}
	return false
}

// The metadata service's patience: clouds start it later than their servers.
const (
	serviceTries = 5
	serviceWait  = 2 * time.Second
	serviceMost  = 1 << 20
)

// fromService asks for what a config drive holds.
func fromService(ctx context.Context, url string) (*cloudinit.Seed, error) {
	drive, err := os.MkdirTemp("", "metadata-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(drive)
	latest := filepath.Join(drive, "openstack/latest")
	if err := os.MkdirAll(latest, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{"meta_data.json", "user_data", "vendor_data.json"} {
		data, err := get(ctx, url+"/openstack/latest/"+name)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(latest, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return cloudinit.ParseConfigDrive(os.DirFS(drive))
}

// get returns nil for what is not there.
func get(ctx context.Context, url string) (data []byte, err error) {
	client := http.Client{Timeout: 5 * time.Second}
	for try := 0; try < serviceTries; try++ {
		if try > 0 {
			time.Sleep(serviceWait)
		}
		var req *http.Request
		if req, err = http.NewRequestWithContext(ctx, http.MethodGet, url, nil); err != nil {
			return nil, err
		}
		var resp *http.Response
		if resp, err = client.Do(req); err != nil {
			continue
		}
		data, err = io.ReadAll(io.LimitReader(resp.Body, serviceMost))
		_ = resp.Body.Close()
		switch {
		case err != nil:
		case resp.StatusCode == http.StatusOK:
			return data, nil
		case resp.StatusCode == http.StatusNotFound:
			return nil, nil
		default:
			err = fmt.Errorf("%s: %s", url, resp.Status)
		}
	}
	return nil, err
}
