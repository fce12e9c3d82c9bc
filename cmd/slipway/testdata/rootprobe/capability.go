package main

import "syscall"

// capability is the attribute that gives CAP_NET_BIND_SERVICE, permitted and
// effective (struct vfs_cap_data, version 2).
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// credential is an ordinary user's.
var credential = syscall.Credential{Uid: 70000, Gid: 70000}
