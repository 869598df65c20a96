// Package admin lists the routes of the operator's listener: metrics, profiles,
// backups, integrity, health, readiness, version, stream connections and what the
// start found in the store. It must be bound to loopback or a private network:
// profiles reveal the process, and nothing here asks for a key.
package admin
