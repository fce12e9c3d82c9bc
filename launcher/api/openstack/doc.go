// Package openstack holds what OpenStack's HTTP APIs have in common, for the
// packages that speak one of them each: who is calling ([Caller]), how a failure
// is worded ([Fault], rendered by the [Dialect] of a service), request bodies,
// microversions, pages of lists, request ids and the check of tokens.
//
// A handler is a [Func] that returns an error. A [Mux] routes to them, and turns
// the error into the service's own kind of answer; what is not a Fault or of one of
// the launcher's kinds is answered with a fixed message, its detail only logged.
package openstack
