// Package socketio serves the stream to Socket.IO clients: protocol revision 5 over
// Engine.IO 4, by polling and by WebSocket, so that the reference's clients connect
// as they are. PROTOCOL.md in this folder is the normative text of its events. What is
// sent is decided by transport/fanout: a connected socket is a session there, and
// shares channels and rows with all others.
package socketio
