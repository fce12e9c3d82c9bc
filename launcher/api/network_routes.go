package api

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/rootfs"
)

func (n *network) routes() []networkRoute {
	const reader, member = openstack.Reader, openstack.Member
	const one = "/servers/{server}"
	socket := func(summary string, request any) operation {
		return operation{summary: summary, socket: true, request: request}
	}
	return slices.Concat([]networkRoute{
		{"GET", "", "", false, n.describe, operation{summary: "The version of the API", answer: Version{}}},
		{"GET", openAPIPath, "", false, serveOpenAPI, operation{summary: "This description", answer: object{}}},
		{"GET", "/events", reader, false, n.events, operation{
			summary: "What happens to servers, as it happens", media: ndjson, answer: events.Event{},
			query: []parameter{sinceQuery, untilQuery, allProjectsQuery,
				{"filter", "JSON: lists servers, actions and images, of each of which one must match", "string", false}},
		}},
		{"POST", "/servers", member, false, n.createServer, operation{
			summary: "Boot a server of an image, and answer at once", body: CreateBody{}, answer: launcher.Server{}, code: http.StatusAccepted,
		}},
		{"GET", "/servers", reader, false, n.list, operation{summary: "The servers of the project", answer: []launcher.Server{}, query: []parameter{allProjectsQuery}}},
		{"GET", one, reader, false, n.show, operation{summary: "A server, with its exit status and the timeline of its boot", answer: launcher.Server{}}},
		{"PATCH", one, member, true, n.setServer, operation{summary: "Change a server", body: SetBody{}, answer: launcher.Server{}}},
		{"POST", one + "/image", member, false, n.createServerImage, operation{
			summary: "Make an image of a server, and answer when it is ready", body: ImageBody{}, answer: launcher.Image{}, code: http.StatusCreated,
		}},
		{"DELETE", one, member, true, n.deleteServer, operation{summary: "Delete a server, and wait until it is gone"}},
		{"GET", one + "/watch", reader, false, n.watch, operation{summary: "A server at each change, until it is deleted", media: ndjson, answer: launcher.Server{}}},
		{"GET", one + "/wait", reader, false, n.wait, operation{
			summary: "A server once it has a status and nothing is being done to it; 408 when the time is up", answer: launcher.Server{},
			query: []parameter{{"status", "a status to wait for: SHUTOFF, ERROR and DELETED where none is named", "string", true},
				{"timeout", "the longest wait in seconds", "number", false}},
		}},
		{"GET", one + "/stats", reader, false, n.serverStats, operation{summary: "What a running server uses", answer: launcher.Stats{}}},
		{"GET", one + "/top", reader, false, n.serverTop, operation{summary: "The processes of a running server", answer: []agent.ProcessInfo{}}},
		{"GET", one + "/output", member, false, n.serverOutput, operation{
			summary: "What the entrypoint wrote: frames of a stream's number (1 standard output, 2 standard error, 0 an error that ends them), three zero bytes, the data's length (uint32, big-endian), its time (int64, nanoseconds since 1970) and the data",
			media:   FramesType,
			query: []parameter{{"stream", "stdout or stderr; both where it is absent", "string", false},
				{"run", "a number, from which start of the server on, or latest", "string", false}, sinceQuery, untilQuery,
				{"tail", "only that many lines of the past", "integer", false},
				{"follow", "go on as more comes", "boolean", false}, {"hold", "the entrypoint waits where the reader is slow", "boolean", false}},
		}},
		{"GET", one + "/console", member, false, n.serverConsole, operation{
			summary: "The end of the console's log; on a websocket, as it goes on", media: text, socket: true,
		}},
		{"GET", one + "/file", member, false, n.statFile, operation{
			summary: "A file of a running server", answer: agent.FileInfo{}, query: []parameter{{"path", "an absolute path", "string", false}},
		}},
		{"GET", one + "/exec", member, true, n.execServer, socket("Run a command beside the entrypoint", agent.ExecRequest{})},
		{"GET", one + "/attach", member, true, n.attachServer, socket("Reach the entrypoint's input", agent.AttachRequest{})},
		{"GET", one + "/copy-from", member, false, n.copyFromServer, socket("Copy files out, as a tar stream on standard output", CopyBody{})},
		{"GET", one + "/copy-to", member, true, n.copyToServer, socket("Copy files in, as a tar stream on standard input", CopyBody{})},
		{"POST", one + "/start", member, true, n.startServer, operation{summary: "Begin to boot a server that has stopped"}},
		{"POST", one + "/stop", member, true, n.stopServer, operation{summary: "Stop a server, and wait for its end", body: StopBody{}}},
		{"POST", one + "/reboot", member, true, n.rebootServer, operation{summary: "Stop a server and begin to boot it again, or start it", body: RebootBody{}}},
		{"POST", one + "/pause", member, true, n.pauseServer, operation{summary: "Hold a server's processors"}},
		{"POST", one + "/unpause", member, true, n.unpauseServer, operation{summary: "Let a paused server go on"}},
		{"POST", one + "/signal", member, true, n.signalServer, operation{summary: "Signal the entrypoint", body: SignalBody{}}},
		{"POST", one + "/freeze", member, true, n.freezeServer, operation{summary: "Stop the processes, what they wrote being on the disk"}},
		{"POST", one + "/thaw", member, true, n.thawServer, operation{summary: "Let the processes of a frozen server run on"}},
	}, n.imageRoutes(), n.hostRoutes())
}

func (n *network) imageRoutes() []networkRoute {
	const reader, member, admin = openstack.Reader, openstack.Member, openstack.Admin
	image := parameter{"ref", "the image's ID, name or reference", "string", false}
	return []networkRoute{
		{"GET", "/images", reader, false, n.listImages, operation{summary: "The images that are here", answer: []launcher.Image{}}},
		{"GET", "/image", reader, false, n.showImage, operation{summary: "An image that is here", answer: launcher.Image{}, query: []parameter{image}}},
		{"GET", "/image/file", reader, false, n.saveImage, operation{
			summary: "An image as one file, which docker load and readers of OCI layouts take", media: tarType,
			query: []parameter{image, {"name", "what it is called in the file", "string", false}},
		}},
		{"DELETE", "/image", member, false, n.deleteImage, operation{
			summary: "Delete an image of the project's", query: []parameter{image, {"force", "also one that servers were made from; administrators only", "boolean", false}},
		}},
		{"POST", "/images/pull", member, false, n.pullImage, operation{summary: "Make an image of a registry ready", media: ndjson, body: PullBody{}, answer: PullEvent{}}},
		{"POST", "/images/load", admin, false, n.loadImage, operation{
			summary: "Make the image in an archive ready, which is the body", media: ndjson, upload: tarType, answer: PullEvent{},
			query: []parameter{{"ref", "docker-archive:- or oci-archive:-, and perhaps a tag", "string", false}},
		}},
		{"POST", "/images/push", member, false, n.pushImage, operation{summary: "Store an image elsewhere", media: ndjson, body: PushBody{}, answer: PushEvent{}}},
		{"POST", "/images/prune", admin, false, n.pruneImages, operation{summary: "Remove what no image and no server uses", body: PruneBody{}, answer: launcher.Pruned{}}},
		{"POST", "/images/verify", admin, false, n.verifyImage, operation{summary: "Read an image again and compare its digests", query: []parameter{image}}},
		{"POST", "/disks", member, false, n.exportDisk, operation{summary: "A part of a disk that boots elsewhere, made of an image or of a server", media: octets, body: DiskBody{}}},
	}
}

// hostRoutes are about the service's host.
func (n *network) hostRoutes() []networkRoute {
	const reader, member, admin = openstack.Reader, openstack.Member, openstack.Admin
	return []networkRoute{
		{"GET", "/kernels", reader, false, n.listKernels, operation{summary: "The guest kernels", answer: []Kernel{}}},
		{"POST", "/kernels/import", admin, false, n.importKernel, operation{
			summary: "Import a kernel, which is the body: a Debian package, a bzImage or a vmlinux", upload: octets, answer: Kernel{}, code: http.StatusCreated,
			query: []parameter{{"name", "of the file", "string", false}},
		}},
		{"POST", "/kernels/default", admin, false, n.setDefaultKernel, operation{summary: "Choose the kernel of servers that name none", body: DefaultBody{}, answer: Kernel{}}},
		{"GET", "/root-modes", reader, false, n.listRootModes, operation{summary: "The ways in which a root reaches its guest", answer: []rootfs.Mode{}}},
		{"GET", "/networks", reader, false, n.listNetworks, operation{summary: "The networks of the project, and shared ones", answer: []Network{}}},
		{"POST", "/networks", member, false, n.createNetwork, operation{summary: "Create a network with subnets", body: NetworkBody{}, answer: Network{}, code: http.StatusCreated}},
		{"GET", "/networks/{network}", reader, false, n.showNetwork, operation{summary: "A network", answer: Network{}}},
		{"DELETE", "/networks/{network}", member, false, n.deleteNetwork, operation{summary: "Delete a network that no server is on"}},
		{"POST", "/servers/{server}/publish", admin, true, n.publishServer, operation{summary: "Publish ports of a server on the service's host, or do so no more", body: PublishBody{}, answer: launcher.Server{}}},
	}
}
