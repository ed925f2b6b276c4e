package hub

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cryptointel/conformance"
	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

var update = flag.Bool("update", false, "rewrite the transcripts from what the core says")

func TestTranscripts(t *testing.T) {
	all, err := conformance.All()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d transcripts: %v", len(all), err)
	}
	for _, tr := range all {
		t.Run(tr.Name, func(t *testing.T) {
			got, err := tr.Replay(newCore())
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				path := filepath.Join("..", "..", "conformance", tr.Name+".txt")
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err := conformance.Same(tr.Text(), got); err != nil {
				t.Errorf("%s.txt %v", tr.Name, err)
			}
		})
	}
}

// core is a shard with everything around it faked: the sockets, the clock,
// the verifying of tokens and the registry of instances.
type core struct {
	cfg     Config
	ses     session.Config
	shard   *Shard
	now     protocol.Time
	refs    map[int]Ref
	peers   map[Slot]*peer
	tokens  map[string]*protocol.Grant
	twins   map[string][]Ref // by user and instance
	offsets map[string]int64
	head    int64
	full    map[Slot]bool // sockets that take nothing
}

// peer is the far end of a connection.
type peer struct {
	in       []byte
	messages []string
	closed   string
	gone     bool
}

func newCore() *core {
	c := &core{
		cfg: DefaultConfig(), ses: session.DefaultConfig(),
		now:  protocol.Time(conformance.Start.UnixNano()),
		refs: map[int]Ref{}, peers: map[Slot]*peer{}, tokens: map[string]*protocol.Grant{},
		twins: map[string][]Ref{}, offsets: map[string]int64{}, full: map[Slot]bool{},
	}
	c.cfg.Session, c.cfg.Directory, c.cfg.Epoch = &c.ses, threeAssets{}, conformance.Epoch
	return c
}

type threeAssets struct{}

func (threeAssets) Slug(name string) (string, bool) {
	slug, ok := map[string]string{
		"bitcoin": "bitcoin", "BTC": "bitcoin", "btc": "bitcoin",
		"ethereum": "ethereum", "ETH": "ethereum", "eth": "ethereum",
		"solana": "solana", "SOL": "solana", "sol": "solana",
	}[name]
	return slug, ok
}

func (c *core) Set(key, value string) error {
	n, _ := strconv.Atoi(value)
	d, _ := time.ParseDuration(value)
	l := &c.ses.Limits
	switch key {
	case "anonymous":
		c.ses.Anonymous = strings.Split(value, ",")
	case "log_entries":
		c.cfg.LogEntries = n
	case "limits.channels":
		l.Channels = n
	case "limits.messages_per_minute":
		l.MessagesPerMinute = n
	case "limits.message_burst":
		l.MessageBurst = n
	case "limits.message_bytes":
		l.MessageBytes = n
	case "limits.idle_timeout":
		l.IdleTimeout = d
	case "limits.auth_timeout":
		l.AuthTimeout = d
	default:
		return fmt.Errorf("no setting %q", key)
	}
	return nil
}

func (c *core) started() *Shard {
	if c.shard == nil {
		c.shard = New(c.cfg, c.now)
	}
	return c.shard
}

func (c *core) Open(conn int) error {
	c.refs[conn] = c.started().Open(Hello{Session: fmt.Sprint("s", conn)}, c.now)
	c.peers[c.refs[conn].Slot] = &peer{}
	c.settle()
	return nil
}

func (c *core) Send(conn int, message string) error {
	b := frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, []byte(message))
	c.shard.Receive(c.refs[conn].Slot, b, c.now)
	c.settle()
	return nil
}

func (c *core) Leave(conn, code int) error {
	payload := []byte{byte(code >> 8), byte(code)}
	b := frame.AppendMasked(nil, frame.Close, true, [4]byte{1, 2, 3, 4}, payload)
	c.shard.Receive(c.refs[conn].Slot, b, c.now)
	c.settle()
	return nil
}

func (c *core) Publish(message string) error {
	var m struct {
		Type, Channel string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		return err
	}
	p := &protocol.Publication{Channel: m.Channel, Type: m.Type, TS: c.now.Millis(), Data: m.Data}
	if m.Type == protocol.TypeSignal {
		s, err := protocol.ParseSignal(m.Data)
		if err != nil {
			return err
		}
		s.High = s.Confidence >= 0.8
		c.head++
		p.Signal, p.Offset = s, c.head
		if p.Channel == "" {
			p.Channel = protocol.LogChannel
		}
	} else {
		var price struct{ Price float64 }
		if err := json.Unmarshal(m.Data, &price); err != nil {
			return err
		}
		p.Price = price.Price
		p.Offset = max(c.now.Micros(), c.offsets[m.Channel]+1)
		c.offsets[m.Channel] = p.Offset
	}
	c.started().Publish(p, c.now)
	c.settle()
	return nil
}

func (c *core) Advance(d time.Duration) error {
	for end := c.now + protocol.Time(d); c.now < end; {
		next := c.started().Tick(c.now)
		c.settle()
		c.now = min(max(next, c.now+1), end)
	}
	c.shard.Tick(c.now)
	c.settle()
	return nil
}

func (c *core) Token(claims string) (string, error) {
	var m struct {
		Sub string
		Ch  []string
		Flt json.RawMessage
		TTL string
	}
	if err := json.Unmarshal([]byte(claims), &m); err != nil {
		return "", err
	}
	ttl, err := time.ParseDuration(m.TTL)
	if err != nil {
		return "", err
	}
	g := &protocol.Grant{Subject: m.Sub, Channels: m.Ch, Expires: c.now + protocol.Time(ttl)}
	if m.Flt != nil {
		f, err := protocol.ParseFilter(m.Flt)
		if err != nil {
			return "", err
		}
		g.Filter = f
	}
	token := fmt.Sprint("token", len(c.tokens)+1)
	c.tokens[token] = g
	return token, nil
}

func (c *core) Received(conn int) []string {
	p := c.peers[c.refs[conn].Slot]
	got := p.messages
	p.messages = nil
	return got
}

func (c *core) Closed(conn int) string {
	if p := c.peers[c.refs[conn].Slot]; p != nil {
		return p.closed
	}
	return ""
}

// settle moves bytes and answers requests until nothing more happens.
func (c *core) settle() {
	for {
		slot, b, ok := c.shard.Next(64 << 10)
		if ok {
			if c.full[slot] {
				c.shard.Wrote(slot, 0, true, c.now)
				continue
			}
			c.peers[slot].read(b)
			c.shard.Wrote(slot, len(b), false, c.now)
			continue
		}
		requests := c.shard.Requests()
		if len(requests) == 0 {
			return
		}
		for _, r := range append([]Request(nil), requests...) {
			c.answer(r)
		}
	}
}

func (c *core) answer(r Request) {
	switch r.Kind {
	case Finished:
		c.peers[r.Ref.Slot].gone = true
		c.shard.Gone(r.Ref.Slot, c.now)
	case Verify:
		g := c.tokens[r.Token]
		switch {
		case g == nil:
			c.shard.Verdict(r.Ref, Verdict{Err: &protocol.Error{Code: protocol.InvalidToken, Message: "the token is not a JWT: three parts joined by dots are expected"}}, c.now)
			return
		case c.now >= g.Expires:
			c.shard.Verdict(r.Ref, Verdict{Err: &protocol.Error{Code: protocol.ExpiredToken, Message: "the token has expired"}}, c.now)
			return
		}
		if r.Instance != "" {
			key := g.Subject + " " + r.Instance
			for _, twin := range c.twins[key] {
				if twin != r.Ref {
					c.shard.Displace(twin, Displace{Force: r.Replace}, c.now)
				}
			}
			c.twins[key] = append(c.twins[key], r.Ref)
		}
		c.shard.Verdict(r.Ref, Verdict{Grant: g}, c.now)
	}
}

// read takes bytes as a client would.
func (p *peer) read(b []byte) {
	p.in = append(p.in, b...)
	for len(p.in) >= 2 {
		n, h := int(p.in[1]), 2
		switch n {
		case 126:
			n, h = int(p.in[2])<<8|int(p.in[3]), 4
		case 127:
			n, h = 0, 10
			for _, x := range p.in[2:10] {
				n = n<<8 | int(x)
			}
		}
		if len(p.in) < h+n {
			return
		}
		payload := p.in[h : h+n]
		switch frame.Opcode(p.in[0] & 15) {
		case frame.Text:
			p.messages = append(p.messages, string(payload))
		case frame.Close:
			p.closed = closeText(payload)
		}
		p.in = append([]byte(nil), p.in[h+n:]...)
	}
}

func closeText(payload []byte) string {
	code, reason, err := frame.ParseClose(payload)
	var fail *frame.Error
	if errors.As(err, &fail) {
		return "bad close frame: " + fail.Reason
	}
	return strings.TrimSpace(fmt.Sprint(code, " ", reason))
}
