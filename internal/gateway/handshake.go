package gateway

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strings"

	"cryptointel/protocol"
)

// A handshake is a WebSocket request that may be upgraded.
type handshake struct {
	key      string
	protocol string // to echo, empty for none
	unknown  bool   // only subprotocols that are not spoken here were offered
	deflate  deflate
}

// A badHandshake says why a request cannot be upgraded.
type badHandshake struct {
	status int
	why    string
}

// upgradeAsked reports whether the request asks for WebSocket at all.
func upgradeAsked(h http.Header) bool {
	return hasToken(h["Connection"], "upgrade") && hasToken(h["Upgrade"], "websocket")
}

// readHandshake checks a request by RFC 6455 section 4.2.1.
func readHandshake(r *http.Request) (handshake, *badHandshake) {
	key, ok := single(r.Header["Sec-Websocket-Key"])
	version, _ := single(r.Header["Sec-Websocket-Version"])
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return handshake{}, &badHandshake{http.StatusHTTPVersionNotSupported, "WebSocket needs HTTP/1.1"}
	case version != "13":
		return handshake{}, &badHandshake{http.StatusUpgradeRequired, "Sec-WebSocket-Version must be 13"}
	case !ok || !validKey(key):
		return handshake{}, &badHandshake{http.StatusBadRequest, "Sec-WebSocket-Key must be 16 bytes in base64, once"}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		// Its body would be read as frames.
		return handshake{}, &badHandshake{http.StatusBadRequest, "a WebSocket request has no body"}
	}
	echo, unknown, ok := pickProtocol(r.Header["Sec-Websocket-Protocol"])
	if !ok {
		return handshake{}, &badHandshake{http.StatusBadRequest, "Sec-WebSocket-Protocol must be a list of names"}
	}
	squeeze, ok := pickDeflate(r.Header["Sec-Websocket-Extensions"])
	if !ok {
		return handshake{}, &badHandshake{http.StatusBadRequest, "Sec-WebSocket-Extensions must be a list of extensions, such as permessage-deflate; client_max_window_bits"}
	}
	return handshake{key, echo, unknown, squeeze}, nil
}

func single(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

func validKey(key string) bool {
	var raw [18]byte // what 24 characters can decode to at most
	if len(key) != 24 {
		return false
	}
	n, err := base64.StdEncoding.Strict().Decode(raw[:], []byte(key))
	return err == nil && n == 16
}

// pickProtocol chooses what to echo. Browsers fail a connection that echoes
// nothing of what they offered, so an unknown protocol is echoed too and the
// error follows as a message they can read.
func pickProtocol(lines []string) (echo string, unknown, ok bool) {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.TrimSpace(item)
			switch {
			case item == "":
				continue
			case !isToken(item):
				return "", false, false
			case item == protocol.Subprotocol:
				return item, false, true
			case echo == "":
				echo = item
			}
		}
	}
	return echo, echo != "", true
}

// hasToken reports whether a comma list, over all lines of a header, has the
// token in any case.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s is a token of RFC 9110.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// appendSwitching appends the 101 answer.
func appendSwitching(dst []byte, h handshake) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	sum := sha1.Sum([]byte(h.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	dst = base64.StdEncoding.AppendEncode(dst, sum[:])
	if h.protocol != "" {
		dst = append(append(dst, "\r\nSec-WebSocket-Protocol: "...), h.protocol...)
	}
	if h.deflate.accepted {
		dst = append(append(dst, "\r\nSec-WebSocket-Extensions: "...), h.deflate.answer()...)
	}
	return append(dst, "\r\n\r\n"...)
}
