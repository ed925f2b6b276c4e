package session

import (
	"strconv"
	"time"

	"cryptointel/protocol"
)

// appendHello appends the first frame of a connection.
func (s *step) appendHello(dst []byte) []byte {
	dst = append(dst, `{"type":"system_status","data":{"status":"connected","session_id":`...)
	dst = protocol.AppendString(dst, s.st.ID)
	dst = append(dst, `,"protocol":"`+protocol.Subprotocol+`","server_time":"`...)
	dst = protocol.AppendTime(dst, s.now)
	dst = appendMillis(append(dst, '"'), "heartbeat_ms", s.env.Heartbeat)
	dst = appendMillis(dst, "idle_timeout_ms", s.env.Limits.IdleTimeout)
	dst = appendMillis(dst, "auth_timeout_ms", s.env.Limits.AuthTimeout)
	dst = append(dst, `,"resume":{"epoch":`...)
	dst = protocol.AppendString(dst, s.env.Epoch)
	dst = appendInt(dst, "oldest", s.env.Oldest)
	dst = append(dst, `},"limits":{`...)
	return append(appendLimits(dst, s.env.Config), `}}}`...)
}

func appendLimits(dst []byte, cfg *Config) []byte {
	l := cfg.Limits
	dst = appendInt(dst, "message_bytes", int64(l.MessageBytes))
	dst = appendInt(dst, "channels", int64(l.Channels))
	dst = appendInt(dst, "filters", int64(l.Filters))
	dst = appendInt(dst, "messages_per_minute", int64(l.MessagesPerMinute))
	dst = appendInt(dst, "message_burst", int64(l.MessageBurst))
	for _, t := range cfg.Told {
		dst = appendInt(dst, t.Name, t.Value)
	}
	return dst
}

// appendInt appends a field; the comma is left out after an opening brace.
func appendInt(dst []byte, key string, n int64) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(append(append(dst, '"'), key...), '"', ':')
	return strconv.AppendInt(dst, n, 10)
}

func appendMillis(dst []byte, key string, d time.Duration) []byte {
	return appendInt(dst, key, d.Milliseconds())
}

// appendStatus appends the answer to a status command: what this connection
// may do, has used, and how far behind it is.
func (s *step) appendStatus(dst, id []byte) []byte {
	st, r := s.st, s.env.Host.Report()
	dst = append(dst, `{"type":"system_status"`...)
	if id != nil {
		dst = append(append(dst, `,"id":`...), id...)
	}
	dst = append(dst, `,"data":{"status":"ok","session_id":`...)
	dst = protocol.AppendString(dst, st.ID)
	if st.Grant != nil {
		dst = protocol.AppendString(append(dst, `,"user":`...), st.Grant.Subject)
		dst = appendInt(dst, "expires_at", st.Grant.Expires.Millis())
	}
	dst = append(dst, `,"server_time":"`...)
	dst = append(protocol.AppendTime(dst, s.now), `","limits":{`...)
	dst = append(appendLimits(dst, s.env.Config), `},"used":{`...)
	used, empty := st.Messages.Used(s.env.Limits.messages(), s.now)
	dst = appendInt(dst, "channels", int64(len(st.Subs)))
	dst = append(appendInt(dst, "messages", int64(used)), `},"resets":{`...)
	dst = append(appendInt(dst, "messages_ms", (empty-s.now).Millis()), '}')
	dst = appendInt(dst, "lag", r.Lag)
	dst = appendInt(dst, "conflated", r.Conflated)
	return append(appendInt(dst, "waiting_bytes", r.Held), `}}`...)
}

func appendDraining(dst []byte, after protocol.Time) []byte {
	dst = append(dst, `{"type":"system_status","data":{"status":"draining","reconnect":{`...)
	return append(appendInt(dst, "after_ms", after.Millis()), `}}}`...)
}

func appendExpiring(dst []byte, expires protocol.Time) []byte {
	dst = append(dst, `{"type":"system_status","data":{"status":"token_expiring"`...)
	return append(appendInt(dst, "expires_at", expires.Millis()), `}}`...)
}
