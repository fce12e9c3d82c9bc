// Package nova serves servers and what belongs to them as OpenStack's compute
// API does, version 2.1 with microversions.
//
// Each kind of resource has a file with its handlers and a method that returns its
// routes; [New] collects them. A route names the role that a caller needs and the
// policy that Nova would name in refusing him; a project never sees another's
// servers: they are answered with 404.
//
// Paths come without the prefix that the service may have: "/v2.1/servers", or
// "/v2.1/PROJECT/servers", which is the same.
//
// # Microversions
//
// Answers and accepted bodies follow the version that was negotiated. Every step
// from 2.1 to [MaxVersion] is decided; those that speak of what Slipway has not
// (cells, migration between hosts, volumes) change nothing here, as they change
// nothing in a Nova without these.
//
//	2.3   servers: reservation_id, launch_index, hostname, user_data and the like
//	      for admins; delete_on_termination of volumes
//	2.9   servers: locked
//	2.16  servers: host_status for admins
//	2.17  action trigger_crash_dump (not supported: 501)
//	2.19  servers: description
//	2.21  instance actions of deleted servers
//	2.26  tags, and lists filtered by them
//	2.37  servers: networks is required, and may be auto or none
//	2.47  servers: the flavor is embedded
//	2.51  instance actions: updated_at, events also for users
//	2.52  servers: tags at creation
//	2.54  rebuild: key_name
//	2.57  personality is gone; rebuild: user_data
//	2.58  instance actions: paging and changes-since
//	2.62  instance actions: hostId of events
//	2.63  trusted_image_certificates
//	2.66  changes-before
//	2.67  block devices: volume_type
//	2.71  servers: server_groups when one is shown
//	2.73  lock: reason; servers: locked_reason
//	2.74  servers: host and hypervisor_hostname at creation, for admins
//	2.75  servers: unknown filters are refused; update and rebuild answer in full
//	2.83  lists: filters for everybody
//	2.84  instance actions: details of events
//	2.90  servers: hostname
package nova
