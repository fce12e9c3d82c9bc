// Package identity says who may use Slipway: Keystone's users, groups, projects,
// domains, roles and application credentials, and the tokens that stand for them.
// It knows nothing of HTTP or of SQL.
//
// A [Directory] holds all records in memory and writes each change through to a
// [Store] before it is seen. A domain is a project of its own kind, as in Keystone.
// What a token allows is not in the token: the sealed text names user and scope, and
// every use looks up what these may do now. A token of a disabled user, or for a
// project where the user has lost the last role, is therefore worth nothing at once;
// and what was disabled or got a new password stays shut to the tokens of before.
package identity
