package gateway

import "strings"

// A deflate is what was agreed about permessage-deflate (RFC 7692): always
// without context takeover, since a shared frame is compressed once for all
// and a context for each connection would cost more than it saves.
type deflate struct {
	accepted bool
	// window says that the client named the server's window, which it takes
	// only when the answer names it too (section 7.1.2.1).
	window bool
}

func (d deflate) answer() string {
	const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	if d.window {
		return agreed + "; server_max_window_bits=15"
	}
	return agreed
}

// pickDeflate takes the first offer of permessage-deflate that can be kept,
// over all lines of Sec-WebSocket-Extensions; other extensions are declined. A
// header that breaks the grammar of RFC 6455, section 9.1, is not ok: it fails
// the handshake.
func pickDeflate(lines []string) (picked deflate, ok bool) {
	for _, line := range lines {
		for s := (&scanner{line}); ; {
			offer, more, ok := s.offer()
			if !ok {
				return deflate{}, false
			}
			if !picked.accepted && strings.EqualFold(offer.name, "permessage-deflate") {
				picked = offer.deflate()
			}
			if !more {
				break
			}
		}
	}
	return picked, true
}

// An offer is one extension as a client offers it.
type offer struct {
	name   string // empty for an empty element
	params []param
}

type param struct {
	name, value string
	valued      bool
}

// deflate is the answer to an offer of permessage-deflate. Section 7 wants an
// offer declined that has a parameter twice, one that is unknown, or one with
// a value that it cannot have.
func (o offer) deflate() deflate {
	d := deflate{accepted: true}
	seen := make(map[string]bool, len(o.params))
	for _, p := range o.params {
		name := strings.ToLower(p.name)
		if seen[name] {
			return deflate{}
		}
		seen[name] = true
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			d.accepted = !p.valued
		case "server_max_window_bits":
			// A smaller window would need frames of its own.
			d.window, d.accepted = true, p.value == "15"
		case "client_max_window_bits":
			// Whatever window the client has, inflating takes the largest.
			d.accepted = !p.valued || windowBits(p.value)
		default:
			d.accepted = false
		}
		if !d.accepted {
			return deflate{}
		}
	}
	return d
}

// windowBits reports whether s is 8 to 15, without leading zeros.
func windowBits(s string) bool {
	return s == "8" || s == "9" || len(s) == 2 && s[0] == '1' && '0' <= s[1] && s[1] <= '5'
}

// A scanner reads the elements of an extension list off its front.
type scanner struct{ rest string }

// offer reads one element and the comma behind it; more says that there was
// one. Empty elements are allowed, as in every list of RFC 9110.
func (s *scanner) offer() (o offer, more, ok bool) {
	if o.name, ok = s.token(); !ok {
		more, ok = s.next()
		return offer{}, more, ok
	}
	for s.take(';') {
		p, ok := s.param()
		if !ok {
			return offer{}, false, false
		}
		o.params = append(o.params, p)
	}
	more, ok = s.next()
	return o, more, ok
}

// next takes the comma before the next element, or finds the end.
func (s *scanner) next() (more, ok bool) {
	if s.take(',') {
		return true, true
	}
	return false, s.rest == ""
}

// param reads one parameter behind its semicolon.
func (s *scanner) param() (p param, ok bool) {
	if p.name, ok = s.token(); !ok || !s.take('=') {
		return p, ok
	}
	p.valued = true
	if strings.HasPrefix(s.rest, `"`) {
		p.value, ok = s.quoted()
	} else {
		p.value, ok = s.token()
	}
	return p, ok
}

// token reads one token, and the white space around it.
func (s *scanner) token() (string, bool) {
	s.rest = strings.TrimLeft(s.rest, " \t")
	n := 0
	for n < len(s.rest) && isToken(s.rest[n:n+1]) {
		n++
	}
	found := s.rest[:n]
	s.rest = strings.TrimLeft(s.rest[n:], " \t")
	return found, found != ""
}

// quoted reads a quoted string. What it says must be a token as well.
func (s *scanner) quoted() (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = strings.TrimLeft(s.rest[i+1:], " \t")
			return b.String(), isToken(b.String())
		case '\\':
			if i++; i == len(s.rest) {
				return "", false
			}
			fallthrough
		default:
			b.WriteByte(s.rest[i])
		}
	}
	return "", false
}

func (s *scanner) take(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = strings.TrimLeft(s.rest[1:], " \t")
	return true
}
