// Package rbac is the engine of Azure role-based access control: who may do what where.
//
// An assignment gives a principal a role at a scope, and holds for all scopes below. Check is a pure function of a
// State and a Query; it does no I/O and reads no clock, and its Decision says by which assignment, or why none did.
package rbac
