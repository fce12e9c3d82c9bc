# Slipway needs Debian and Go; everything else is installed by `make deps`.
# Whatever is made lies in bin/ and .cache/.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The prerequisites of boot, test and bench are steps: in order, one at a time.
.NOTPARALLEL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(CURDIR)/.cache
KERNEL_DEB := $(CACHE)/kernel/linux-image.deb
# Recursive: only the targets that need it ask. Kernels are kept for the whole machine.
KERNEL = $(shell etc/kernel/build --cached)
IMAGES := $(CACHE)/images
CLOUDINIT := $(CACHE)/cloud-init
CONTAINERD := $(CACHE)/containerd
export OPENSTACK_DIR ?= /var/lib/slipway-openstack
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STAMP := -X main.version=$(VERSION)
# isal: decompress with ISA-L where the library is there when slipwayd runs.
TAGS := isal
LINT := go tool -modfile=.tools/go.mod golangci-lint

PACKAGES := gcc libc6-dev pkg-config libisal-dev libvirt-dev libvirt-daemon-driver-qemu \
	qemu-system-x86 qemu-utils e2fsprogs erofs-utils kmod grub-common grub-pc-bin grub-efi-amd64-bin \
	passt mmdebstrap busybox-static jq tar xz-utils zstd attr libcap2-bin ca-certificates
KERNEL_PACKAGES := make binutils flex bison bc patch perl libelf-dev xz-utils zstd
# Clients that tests use, what tests run in guests, and what the real cloud-init runs on.
TEST_PACKAGES := python3-openstackclient nftables iptables iproute2 libvirt-daemon systemd \
	ovmf gdisk fdisk mtools dosfstools syslinux syslinux-common \
	python3-yaml python3-requests python3-jsonpatch python3-configobj python3-jinja2
# Clients whose own tests are run.
CLIENT_PACKAGES := python3-openstackclient tempest
DEV_PACKAGES := shellcheck nftables iproute2
# What images are pulled from, and by whom besides Slipway.
BENCH_PACKAGES := docker-registry skopeo umoci podman containerd isal guestfs-tools \
	autoconf automake libtool make uuid-dev

# What a test or a benchmark that boots guests is given. SLIPWAY_TEST_KERNEL is what
# the guests boot.
TEST_ENV = SLIPWAY_TEST_KERNEL=$(KERNEL) SLIPWAY_TEST_KERNEL_DEB=$(KERNEL_DEB) SLIPWAY_TEST_BIN=$(CURDIR)/bin \
	SLIPWAY_TEST_INIT=$(CURDIR)/bin/slipway-init SLIPWAY_TEST_IMAGES=$(IMAGES) \
	SLIPWAY_TEST_CLOUDINIT=$(CLOUDINIT)
# The tests that are run on Debian's kernel too.
STOCK_TESTS := ^Test(Boot|Root|Volumes|Exec|Stop|Signals|Copy|Stats|OutOfMemory|Freeze|ContainerMounts|LeastMemory|Probe|OutputByteForByte|GuestDies)$$
# The packages whose tests boot guests.
GUEST_PACKAGES = $(shell grep -rl --include='*_test.go' '^//go:build.*guest' cmd launcher rootfs guest cloudinit images 2>/dev/null | \
	xargs -r dirname | sort -u | sed 's,^,./,')

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: boot
boot: deps build some-kernel image ## Boot an image and show its output: make boot [IMAGE=REF] [BOOTFLAGS=...].
	@echo "boot: $(or $(IMAGE),hello)"
	@bin/slipway boot --rm --timeline --progress plain $(BOOTFLAGS) $(or $(IMAGE),oci:$(IMAGES)/hello)

.PHONY: deps
deps: ## Install the Debian packages that are missing.
	@etc/debian/install $(PACKAGES)
	@etc/debian/libvirt-user

.PHONY: deps-dev
deps-dev: ## Install what `make check` needs besides.
	@etc/debian/install $(PACKAGES) $(DEV_PACKAGES)
	@etc/debian/libvirt-user

.PHONY: deps-test
deps-test: ## Install what `make test` needs besides.
	@etc/debian/install $(PACKAGES) $(TEST_PACKAGES)
	@etc/debian/libvirt-user

.PHONY: deps-clients
deps-clients: ## Install what `make test-clients` needs besides.
	@etc/debian/install $(PACKAGES) $(CLIENT_PACKAGES)
	@etc/debian/libvirt-user

.PHONY: deps-bench
deps-bench: ## Install what `make bench` needs besides.
	@etc/debian/install $(PACKAGES) $(BENCH_PACKAGES)
	@etc/debian/libvirt-user

.PHONY: build
build: ## Build slipway, slipwayd and slipway-init into bin/.
	@echo "build: slipway, slipwayd and slipway-init $(VERSION) (the first time takes minutes)"
	@mkdir -p bin
	@go build -tags '$(TAGS)' -ldflags '$(STAMP)' -o bin/ ./cmd/slipway ./cmd/slipwayd
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w $(STAMP)' -o bin/ ./cmd/slipway-configure
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -E _rt0_slipway $(STAMP)' -o bin/ ./cmd/slipway-init

.PHONY: serve
serve: deps build some-kernel ## Serve OpenStack's APIs, until Ctrl-C: make serve [SERVEFLAGS='--listen :8774'].
	@exec bin/slipwayd $(SERVEFLAGS)

.PHONY: deps-kernel
deps-kernel:
	@etc/debian/install $(KERNEL_PACKAGES)

.PHONY: kernel
kernel: deps-kernel ## Build the minimal guest kernel, once per machine; it is kept in /var/cache/slipway.
	@kernel=$$(etc/kernel/build); echo "kernel: $$kernel"

# The minimal kernel where it was built, and Debian's, which is there sooner, else.
.PHONY: some-kernel
some-kernel:
	@if ! kernel=$$(etc/kernel/build --cached); then \
		echo "kernel: Debian's own; \`make kernel\` builds the minimal one, which boots much faster"; \
		$(MAKE) --no-print-directory kernel-stock; kernel=$(KERNEL_DEB); \
	fi; \
	imported=$$(bin/slipway kernel import "$$kernel"); echo "kernel: imported $$imported"

.PHONY: kernel-stock
kernel-stock: $(KERNEL_DEB) ## Download Debian's kernel package, for guests; it is not installed.
	@echo "kernel: $$(dpkg-deb -f $(KERNEL_DEB) Package Version | sed 's/^.*: //' | paste -sd ' ')"

$(KERNEL_DEB):
	@etc/debian/download-kernel $@

# The real cloud-init, unpacked: installed it would change how this machine boots.
.PHONY: cloud-init
cloud-init: $(CLOUDINIT)/usr/bin/cloud-init

$(CLOUDINIT)/usr/bin/cloud-init:
	@etc/debian/download-cloud-init $(CLOUDINIT)

.PHONY: image
image: $(IMAGES)/hello/index.json ## Make the image that `make boot` boots, from Debian packages.
	@echo "image: $(IMAGES)/hello, $$(du -sh $(IMAGES)/hello | cut -f1)"

.PHONY: test-image
test-image: $(IMAGES)/busybox/index.json

# The disk of a cloud image, with the real cloud-init.
.PHONY: cloud-image
cloud-image: $(IMAGES)/cloud.qcow2

$(IMAGES)/cloud.qcow2: etc/images/build etc/images/lib.sh etc/images/cloud.sh
	@etc/images/build $(IMAGES) cloud

.PHONY: system-image
system-image: $(IMAGES)/systemd/index.json

# A Debian with systemd and dockerd.
.PHONY: docker-image
docker-image: $(IMAGES)/docker/index.json

$(IMAGES)/%/index.json: etc/images/build etc/images/lib.sh etc/images/%.sh
	@etc/images/build $(IMAGES) $*

# The images that are pulled by the benchmark; the last one that bench.sh makes.
.PHONY: bench-images
bench-images: $(IMAGES)/large/index.json

$(IMAGES)/large/index.json: etc/images/build etc/images/lib.sh etc/images/bench.sh
	@etc/images/build $(IMAGES) bench

# containerd 2, which Debian 12 does not have; its EROFS wants a newer mkfs.erofs too.
.PHONY: containerd
containerd: $(CONTAINERD)/mkfs.erofs $(CONTAINERD)/containerd

$(CONTAINERD)/mkfs.erofs: etc/debian/build-erofs-utils
	@etc/debian/build-erofs-utils $(CONTAINERD)

$(CONTAINERD)/containerd: .tools/containerd.mod
	@echo "containerd: building (it takes minutes, once)"
	@mkdir -p $(CONTAINERD)
	@go build -modfile=.tools/containerd.mod -o $(CONTAINERD)/ github.com/containerd/containerd/v2/cmd/ctr github.com/containerd/containerd/v2/cmd/containerd

.PHONY: test
test: deps-test build kernel kernel-stock cloud-init image test-image system-image docker-image cloud-image ## Run every test, those that boot guests included.
	@echo "test: packages without guests"
	@$(TEST_ENV) go test -tags $(TAGS) $(TESTFLAGS) $$(go list ./... | grep -vxF "$$(go list -tags guest,$(TAGS) $(or $(GUEST_PACKAGES),./cmd/internal/archtest))")
	@echo "test: packages that boot guests, on Debian's kernel"
	@$(TEST_ENV) SLIPWAY_TEST_KERNEL=$(KERNEL_DEB) go test -tags guest,$(TAGS) -p 1 -count 1 -v -timeout 60m -run '$(STOCK_TESTS)' $(TESTFLAGS) ./cmd/slipway ./guest/vmtest
	@echo "test: packages that boot guests, on the minimal kernel"
	@$(TEST_ENV) go test -tags guest,$(TAGS) -p 1 -count 1 -v -timeout 60m $(TESTFLAGS) $(or $(GUEST_PACKAGES),./cmd/internal/archtest)
	@echo "test: against a real Keystone and Glance"
	@$(call OPENSTACK_TEST,core,^Test(Glance|Keystone))

.PHONY: test-clients
test-clients: deps-clients build kernel test-image ## Run OpenStack's clients against slipwayd, and write down what passes: make test-clients [CLIENTSFLAGS='-run openstack'].
	@$(TEST_ENV) go run -tags $(TAGS) ./cmd/internal/clients $(CLIENTSFLAGS)

.PHONY: check
check: deps-dev ## Format, vet, lint and run the tests without guests under the race detector.
	@echo "check: gofmt"; out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); [[ -z $$out ]] || { echo "not formatted:" $$out; exit 1; }
	@echo "check: shellcheck"; shellcheck $$(git ls-files -co --exclude-standard etc .ci | xargs grep -lE '^#!/bin/(ba)?sh|^# shellcheck shell')
	@echo "check: go.mod"; go mod verify; go mod tidy -diff
	@echo "check: go vet"; go vet -tags $(TAGS) ./... && go vet -tags guest,openstack,$(TAGS) ./...
	@echo "check: golangci-lint (building it takes a minute, once)"; $(LINT) run --build-tags guest,openstack,$(TAGS) ./...
	@echo "check: go test -race"; go test -race -tags $(TAGS) ./...

# What runs against a real OpenStack, which is up as long as the tests unless it was before.
OPENSTACK_TEST = $(TEST_ENV) SLIPWAY_TEST_OPENSTACK=$(OPENSTACK_DIR) etc/openstack/cloud with $(1) \
	go test -tags guest,openstack,$(TAGS) -count 1 -v -timeout 60m -run '$(2)' $(TESTFLAGS) ./cmd/slipway

.PHONY: test-openstack
test-openstack: deps-test build kernel test-image system-image ## Run the tests against a whole OpenStack, Nova included.
	@echo "test: against a real OpenStack"
	@$(call OPENSTACK_TEST,all,^Test(Glance|Keystone|Nova|Neutron))

.PHONY: openstack
openstack: ## Start a real OpenStack on this machine, to test against: make openstack [CLOUD=core] for Keystone and Glance alone.
	@etc/openstack/cloud up $(or $(CLOUD),all)

.PHONY: openstack-down
openstack-down: ## End what `make openstack` started.
	@etc/openstack/cloud down

.PHONY: bench
bench: deps-bench build kernel kernel-stock test-image bench-images containerd ## Measure boots and image pulls against their floors: make bench [BENCHFLAGS='-run images'].
	@$(TEST_ENV) SLIPWAY_TEST_CONTAINERD=$(CONTAINERD) SLIPWAY_TEST_OPENSTACK=$(OPENSTACK_DIR) go run -tags guest,$(TAGS) ./cmd/internal/bench $(BENCHFLAGS)

.PHONY: clean
clean: ## Remove what was built, downloaded and made here; not the machine's cache of kernels.
	rm -rf bin .cache
