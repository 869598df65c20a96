package socketio

import (
	"encoding/json"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/socketio/engineio"
	"github.com/velocimeter/velocimeter/transport/socketio/packet"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// event is one event of a client.
type event struct {
	name string
	args []json.RawMessage
	ack  bool // the client waits for an acknowledgement
	id   uint64
}

// reply is what comes of an event: its acknowledgement, or an error_event where
// none is wanted and something is wrong.
type reply struct {
	event   *event
	done    string // subscribed or unsubscribed
	whole   bool
	asked   []market.ID // of a subscribe: what is told of a list is about these
	ids     []market.ID
	strange []market.ID // ids of no token, or of none that was subscribed to
	unknown []string    // likewise, JSON of names
	told    *wire.Subscription
	refused *fanout.Outcome // what stopped it
	loud    bool            // it is told by an error_event too
}

// append appends the frame that an outcome is answered with; it has the form that
// fanout.Session.Call asks for.
func (a *reply) append(dst []byte, o *fanout.Outcome) []byte {
	a.learn(o)
	switch {
	case a.event.ack:
		if a.loud {
			dst = appendError(dst, a.refused.Err, a.refused.RetryMS, a.event.name)
		}
		return appendPacket(dst, packet.AppendAck(nil, packet.Main, a.event.id, a.text()))
	case a.refused != nil:
		return appendError(dst, a.refused.Err, a.refused.RetryMS, a.event.name)
	case a.done == "subscribed" && len(a.strange)+len(a.unknown) > 0:
		list := string(a.appendUnknown(nil))
		return appendError(dst, fault(wire.UnknownToken, "no such tokens: "+list[:min(len(list), 400)]), 0, a.event.name)
	}
	return dst
}

// learn takes from an outcome what is to be told.
func (a *reply) learn(o *fanout.Outcome) {
	if o.Err != nil {
		kept := *o
		a.refused = &kept
		if o.Err.Code == wire.UnknownToken {
			a.strange = a.asked
		}
		return
	}
	if o.Subscription.Sub == 0 || a.done != "subscribed" {
		return
	}
	told := o.Subscription
	a.told = &told
	for _, id := range a.asked {
		if contains(o.Taken, id) {
			a.ids = append(a.ids, id)
		} else {
			a.strange = append(a.strange, id)
		}
	}
}

// text returns the argument of the acknowledgement.
func (a *reply) text() []byte {
	if a.refused != nil {
		dst := appendFault([]byte(`{"ok":false,`), a.refused.Err, a.refused.RetryMS)
		return append(a.appendUnknown(append(dst, `,"unknown":`...)), '}')
	}
	dst := append(append([]byte(`{"ok":true,"`), a.done...), `":`...)
	if a.whole {
		dst = append(dst, `["*"]`...)
	} else {
		dst = append(appendIDs(append(dst, '['), a.ids), ']')
	}
	dst = a.appendUnknown(append(dst, `,"unknown":`...))
	if a.told != nil {
		dst = wire.AppendEffective(append(dst, ','), a.told)
	}
	return append(dst, '}')
}

// appendUnknown appends the list of what was named and is not there.
func (a *reply) appendUnknown(dst []byte) []byte {
	dst = appendIDs(append(dst, '['), a.strange)
	for i, name := range a.unknown {
		if i > 0 || len(a.strange) > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, name...)
	}
	return append(dst, ']')
}

func appendIDs(dst []byte, ids []market.ID) []byte {
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(id), 10)
	}
	return dst
}

func appendFault(dst []byte, err *wire.RequestError, retryMS int64) []byte {
	dst = packet.AppendString(append(dst, `"code":`...), string(err.Code))
	dst = packet.AppendString(append(dst, `,"message":`...), err.Text)
	return strconv.AppendInt(append(dst, `,"retry_ms":`...), retryMS, 10)
}

// appendError appends an error_event about an event of the client; "" for none.
func appendError(dst []byte, err *wire.RequestError, retryMS int64, name string) []byte {
	text := appendFault([]byte{'{'}, err, retryMS)
	if name != "" {
		const most = 64
		text = packet.AppendString(append(text, `,"event":`...), name[:min(len(name), most)])
	}
	return appendPacket(dst, packet.AppendEvent(nil, packet.Main, "error_event", 0, append(text, '}')))
}

// appendPacket frames the text of one Socket.IO packet.
func appendPacket(dst, text []byte) []byte {
	return append(engineio.AppendHead(dst, len(text)), text...)
}
