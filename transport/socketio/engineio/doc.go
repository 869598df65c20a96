// Package engineio is a server of Engine.IO 4 on the gate: long polling, websockets
// and the upgrade from one to the other, with the answers of the reference server.
// What is said in messages is the layer above's business, which has a Handler for
// each session.
//
// A Session is the link of a fan-out session for both transports. What is written
// to it is WebSocket frames of the server that hold one packet each. A websocket
// gets them as they are; a poll gets the packets that are in them. So shared frames
// serve both, and an upgrade changes nothing above. Packets of Engine.IO's own,
// such as pings, never mix with them.
//
// A poll holds a goroutine of the HTTP server until there is something to say, at
// the latest the next ping. A websocket has none.
//
// Lock order: Session.calls, then what the layer above has, then Session.mu, then
// the server's and the connection's.
package engineio
