package nova

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// diagnostics is what a running server's guest, and its hypervisor, count of it.
func (a *API) diagnostics(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	stats, err := a.cfg.Manager.Stats(r.Context(), srv.ID)
	var state *launcher.StateError
	if errors.As(err, &state) {
		state.ID, state.Action = srv.ID, "get_diagnostics"
	}
	if err != nil {
		return err
	}
	if openstack.MicroversionOf(r.Context()) < 48 {
		return openstack.WriteJSON(w, http.StatusOK, libvirtDiagnostics(&stats))
	}
	return openstack.WriteJSON(w, http.StatusOK, viewDiagnostics(&srv, &stats))
}

// libvirtDiagnostics has the names that Nova's libvirt driver gave before 2.48.
func libvirtDiagnostics(s *launcher.Stats) view {
	v := view{
		"memory": s.MemoryTotal >> 10, "memory-actual": s.MemoryTotal >> 10, "memory-available": s.MemoryTotal >> 10, "memory-unused": s.MemoryAvailable >> 10,
	}
	if s.CPUs == 1 { // else it is not known of which
		v["cpu0_time"] = s.CPU.Nanoseconds()
	}
	if h := s.Host; h != nil {
		v["memory-rss"], v["vda_read"], v["vda_write"] = h.Memory>>10, h.Read, h.Written
	}
	for _, l := range s.Links {
		v[l.Name+"_rx"], v[l.Name+"_rx_packets"] = l.RxBytes, l.RxPackets
		v[l.Name+"_tx"], v[l.Name+"_tx_packets"] = l.TxBytes, l.TxPackets
	}
	return v
}

// viewDiagnostics is the form since 2.48; null is what is not known.
func viewDiagnostics(srv *launcher.Server, s *launcher.Stats) view {
	cpus, nics, disks := []view{}, []view{}, []view{}
	for i := range s.CPUs {
		cpu := view{"id": i, "time": nil, "utilisation": nil}
		if s.CPUs == 1 {
			cpu["time"] = s.CPU.Nanoseconds()
		}
		cpus = append(cpus, cpu)
	}
	for _, l := range s.Links {
		nics = append(nics, view{
			"mac_address": nil, "rx_octets": l.RxBytes, "rx_packets": l.RxPackets, "tx_octets": l.TxBytes, "tx_packets": l.TxPackets,
			"rx_errors": nil, "rx_drop": nil, "rx_rate": nil, "tx_errors": nil, "tx_drop": nil, "tx_rate": nil,
		})
	}
	if h := s.Host; h != nil {
		disks = append(disks, view{
			"read_bytes": h.Read, "write_bytes": h.Written, "read_requests": nil, "write_requests": nil, "errors_count": nil,
		})
	}
	return view{
		"state": powerWord(srv.Power), "driver": "libvirt", "hypervisor": fmt.Sprint(srv.Accel), "hypervisor_os": "linux",
		"uptime": int64(s.At.Seconds()), "config_drive": srv.ConfigDrive,
		"num_cpus": len(cpus), "num_nics": len(nics), "num_disks": len(disks),
		"memory_details": view{"maximum": s.MemoryTotal >> 20, "used": (s.MemoryTotal - s.MemoryAvailable) >> 20},
		"cpu_details":    cpus, "nic_details": nics, "disk_details": disks,
	}
}

func powerWord(p launcher.PowerState) string {
	switch p {
	case launcher.PowerRunning:
		return "running"
	case launcher.PowerPaused:
		return "paused"
	case launcher.PowerShutdown:
		return "shutdown"
	case launcher.PowerCrashed:
		return "crashed"
	case launcher.PowerSuspended:
		return "suspended"
	default:
		return "pending"
	}
}
