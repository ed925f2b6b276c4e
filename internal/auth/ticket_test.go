package auth

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cryptointel/protocol"
)

// newTickets has the secret of these tests.
func newTickets(tb testing.TB, change func(*Config)) *Tickets {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.Secret = testSecret
	if change != nil {
		change(&cfg)
	}
	tickets, err := NewTickets(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return tickets
}

// fullGrant has every field set.
func fullGrant() *protocol.Grant {
	return &protocol.Grant{
		Subject: "u1", ID: "t1",
		Expires: protocol.Time(now.Add(time.Hour).UnixNano()) + 1, Issued: protocol.Time(now.Add(-time.Minute).UnixNano()) + 1,
		Channels: []string{"price:*", "signals:all", "*"}, Publish: []string{"*"}, Admin: "write",
		Filter: &protocol.Filter{
			Type: []string{"a", "b"}, Entity: []string{"bitcoin"}, Source: []string{`Coin"Desk<&>`, "ü"},
			Severity: []string{"high"}, MinConfidence: 0.1,
		},
	}
}

func issue(tb testing.TB, tickets *Tickets, g *protocol.Grant) string {
	tb.Helper()
	ticket, _, err := tickets.Issue(g, now)
	if err != nil {
		tb.Fatal(err)
	}
	return ticket
}

// redeem compares the code of what redeeming comes to; "" is for accepted.
func redeem(tb testing.TB, tickets *Tickets, ticket string, at time.Time, want protocol.Code) *protocol.Error {
	tb.Helper()
	g, err := tickets.Redeem(ticket, at)
	if (g == nil) == (err == nil) {
		tb.Fatalf("got grant %v and error %v", g, err)
	}
	var got protocol.Code
	refused := (*protocol.Error)(nil)
	if errors.As(err, &refused) {
		got = refused.Code
	}
	if got != want {
		tb.Errorf("got %q (%v); want %q", got, err, want)
	}
	return refused
}

// TestTicket: the whole grant passes, but for what must not be in a URL.
func TestTicket(t *testing.T) {
	tickets, given := newTickets(t, nil), fullGrant()
	v := reflect.ValueOf(*given)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not set here: decide whether it may pass through a ticket", v.Type().Field(i).Name)
		}
	}
	ticket, expires, err := tickets.Issue(given, now)
	if err != nil {
		t.Fatal(err)
	}
	if want := protocol.Time(now.Add(30 * time.Second).UnixNano()); expires != want {
		t.Errorf("expires %d; want %d", expires, want)
	}
	if len(ticket) > maxTicket || strings.Trim(ticket, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Errorf("%q does not go into a URL as it is", ticket)
	}
	if !reflect.DeepEqual(given, fullGrant()) {
		t.Errorf("the grant was changed: %+v", given)
	}
	got, err := tickets.Redeem(ticket, now)
	want := fullGrant()
	want.Publish, want.Admin = nil, ""
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	refused := redeem(t, tickets, ticket, now, protocol.InvalidToken)
	if refused != nil && !strings.Contains(refused.Message, "used already") {
		t.Errorf("used twice: %v", refused)
	}
	if again := issue(t, tickets, given); again == ticket {
		t.Error("two tickets are the same")
	}
}

func TestTicketTimes(t *testing.T) {
	hour := fullGrant()
	soon := fullGrant()
	soon.Expires = protocol.Time(now.Add(-20 * time.Second).UnixNano()) // within the leeway
	tests := []struct {
		name  string
		grant *protocol.Grant
		after time.Duration
		want  protocol.Code
	}{
		{"at once", hour, 0, ""},
		{"last moment", hour, 30*time.Second - 1, ""},
		{"over", hour, 30 * time.Second, protocol.ExpiredToken},
		{"a day later", hour, 24 * time.Hour, protocol.ExpiredToken},
		{"another node's clock is behind", hour, -30 * time.Second, ""},
		{"and further than allowed", hour, -30*time.Second - 1, protocol.InvalidToken},
		{"grant, last moment", soon, 10*time.Second - 1, ""},
		{"grant over", soon, 10 * time.Second, protocol.ExpiredToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tickets := newTickets(t, nil)
			redeem(t, tickets, issue(t, tickets, tt.grant), now.Add(tt.after), tt.want)
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	large, over := fullGrant(), fullGrant()
	large.Channels = repeat(strings.Repeat("a", 128), 9)
	over.Expires = protocol.Time(now.Add(-30 * time.Second).UnixNano())
	tests := []struct {
		name  string
		grant *protocol.Grant
		code  protocol.Code
		says  string
	}{
		{"nil", nil, protocol.InvalidToken, "needs a token"},
		{"anonymous", &protocol.Grant{Channels: []string{"price:*"}}, protocol.InvalidToken, "needs a token"},
		{"too large", large, protocol.InvalidToken, "auth message"},
		{"expired", over, protocol.ExpiredToken, "expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ticket, _, err := newTickets(t, nil).Issue(tt.grant, now)
			refused := (*protocol.Error)(nil)
			if ticket != "" || !errors.As(err, &refused) || refused.Code != tt.code || !strings.Contains(refused.Message, tt.says) {
				t.Errorf("got %q, %v; want %s saying %q", ticket, err, tt.code, tt.says)
			}
		})
	}
}

// TestTicketForgery: no other string than the one that was issued is a ticket.
func TestTicketForgery(t *testing.T) {
	tickets := newTickets(t, nil)
	ticket := issue(t, tickets, fullGrant())
	for i := range len(ticket) {
		next := "A"
		if ticket[i] == 'A' {
			next = "B"
		}
		for _, m := range []string{
			ticket[:i] + next + ticket[i+1:], ticket[:i] + ticket[i+1:], ticket[:i],
			ticket[:i] + "\n" + ticket[i:], ticket[:i] + "=" + ticket[i:],
		} {
			redeem(t, tickets, m, now, protocol.InvalidToken)
		}
	}
	for name, m := range map[string]string{
		"empty": "", "tail": ticket + "A", "padding": ticket + "=", "huge": strings.Repeat("A", 1<<20),
		"zeros": strings.Repeat("A", 400), "a token": signed(t, "HS256", nil),
	} {
		t.Run(name, func(t *testing.T) { redeem(t, tickets, m, now, protocol.InvalidToken) })
	}
	check(t, newVerifier(t, nil), ticket, protocol.InvalidToken) // nor is it a token
	redeem(t, tickets, ticket, now, "")                          // none of that used it up
}

func TestTicketKeys(t *testing.T) {
	node := newTickets(t, nil)
	redeem(t, newTickets(t, nil), issue(t, node, fullGrant()), now, "") // another node with the same secret
	none := func(c *Config) { c.Secret = "" }
	others := map[string]*Tickets{
		"another secret":   newTickets(t, func(c *Config) { c.Secret = "x" + testSecret }),
		"another audience": newTickets(t, func(c *Config) { c.Audience = "elsewhere" }),
		"no secret":        newTickets(t, none),
	}
	for name, other := range others {
		redeem(t, other, issue(t, node, fullGrant()), now, protocol.InvalidToken)
		if refused := redeem(t, node, issue(t, other, fullGrant()), now, protocol.InvalidToken); refused == nil {
			t.Errorf("%s: taken", name)
		}
	}
	random := newTickets(t, none)
	redeem(t, random, issue(t, random, fullGrant()), now, "")
	redeem(t, newTickets(t, none), issue(t, random, fullGrant()), now, protocol.InvalidToken)
	cfg := DefaultConfig()
	cfg.Secret = "short"
	if _, err := NewTickets(cfg); err == nil {
		t.Error("a weak secret is taken")
	}
}

// TestTicketClockGoesBack: what was forgotten because it had expired is not
// good again.
func TestTicketClockGoesBack(t *testing.T) {
	tickets := newTickets(t, nil)
	used, fresh := issue(t, tickets, fullGrant()), issue(t, tickets, fullGrant())
	redeem(t, tickets, used, now, "")
	later, _, err := tickets.Issue(fullGrant(), now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	redeem(t, tickets, later, now.Add(time.Minute), "") // forgets used
	if n := len(tickets.spent.ids); n != 1 {
		t.Errorf("%d ids are remembered; want 1", n)
	}
	redeem(t, tickets, used, now, protocol.ExpiredToken)
	redeem(t, tickets, fresh, now, protocol.ExpiredToken) // as old as what was forgotten
	after, _, err := tickets.Issue(fullGrant(), now.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	redeem(t, tickets, after, now.Add(time.Second), "")
}

// TestTicketMemory: the ids are bounded, and the bound never lets a ticket be
// used twice.
func TestTicketMemory(t *testing.T) {
	tickets := newTickets(t, nil)
	tickets.spent = newSpent(100)
	var used []string
	for range 100 {
		ticket := issue(t, tickets, fullGrant())
		redeem(t, tickets, ticket, now, "")
		used = append(used, ticket)
	}
	next := issue(t, tickets, fullGrant())
	if refused := redeem(t, tickets, next, now, protocol.ConnectionFull); refused != nil && refused.RetryAfter == 0 {
		t.Error("does not say when to try again")
	}
	for _, ticket := range used {
		redeem(t, tickets, ticket, now, protocol.InvalidToken)
	}
	at := now.Add(30*time.Second - 1)
	redeem(t, tickets, next, at, protocol.ConnectionFull)
	next, _, err := tickets.Issue(fullGrant(), at)
	if err != nil {
		t.Fatal(err)
	}
	redeem(t, tickets, next, at.Add(1), "") // by now the first hundred have expired
	if n := len(tickets.spent.ids) + len(tickets.spent.queue); n != 2 {
		t.Errorf("%d ids and places are remembered; want 1 each", n)
	}
}

func TestTicketOnceConcurrently(t *testing.T) {
	tickets := newTickets(t, nil)
	ticket := issue(t, tickets, fullGrant())
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := tickets.Redeem(ticket, now); err == nil {
				accepted.Add(1)
			}
			if _, _, err := tickets.Issue(fullGrant(), now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := accepted.Load(); n != 1 {
		t.Errorf("accepted %d times", n)
	}
}

// TestTicketErrorsShowNothing: neither what was sent nor the secret.
func TestTicketErrorsShowNothing(t *testing.T) {
	tickets := newTickets(t, nil)
	ticket := issue(t, tickets, fullGrant())
	redeem(t, tickets, ticket, now, "")
	for _, sent := range []string{"marker", strings.Repeat("marker", 1000), ticket, ticket[:len(ticket)-8] + "marker00"} {
		_, err := tickets.Redeem(sent, now)
		if err == nil || strings.Contains(err.Error(), "marker") || strings.Contains(err.Error(), ticket[:20]) || strings.Contains(err.Error(), testSecret) {
			t.Errorf("got %v", err)
		}
	}
}

// FuzzRedeem: whatever is sent, a grant comes only for a ticket of ours, and
// once.
func FuzzRedeem(f *testing.F) {
	tickets := newTickets(f, nil)
	// Of a fixed id, so that every process that fuzzes has the same.
	ours := tickets.seal(ticketID{1}, protocol.Time(now.UnixNano())+ticketLife, []byte(`{"Subject":"u1","Expires":9000000000000000000}`))
	var used atomic.Bool
	f.Add(ours)
	f.Add(ours[:len(ours)-1])
	f.Add(ours + "\n")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, ticketHead+32)))
	f.Fuzz(func(t *testing.T, ticket string) {
		g, err := tickets.Redeem(ticket, now)
		if (g == nil) == (err == nil) {
			t.Fatalf("got grant %v and error %v", g, err)
		}
		if g != nil && (ticket != ours || used.Swap(true)) {
			t.Fatalf("%q was granted %+v", ticket, g)
		}
		if refused := (*protocol.Error)(nil); err != nil && !errors.As(err, &refused) {
			t.Fatalf("error %v is not a protocol.Error", err)
		}
	})
}

// FuzzTicketRoundTrip: what any token's claims grant comes out of a ticket as
// it went in, or the ticket is refused at once.
func FuzzTicketRoundTrip(f *testing.F) {
	f.Add(`{"sub":"u1","exp":1764682200,"ch":["price:*"],"flt":{"source":["\u00fc<>&\u2028"],"min_confidence":0.30000000000000004}}`)
	f.Add(`{"sub":"u1","exp":1e300,"iat":2.5,"adm":"write","pub":["*"],"ch":[],"flt":{},"jti":"x"}`)
	f.Add(`{"sub":"~","exp":1764682200,"flt":{"source":["\ud800","a\u0000"]}}`)
	tickets := newTickets(f, nil)
	f.Fuzz(func(t *testing.T, payload string) {
		c, err := parseClaims([]byte(payload))
		if err != nil {
			return
		}
		ticket, _, err := tickets.Issue(&c.grant, now)
		if err != nil {
			if refused := (*protocol.Error)(nil); !errors.As(err, &refused) {
				t.Fatalf("error %v is not a protocol.Error", err)
			}
			return
		}
		at := now.Add(30*time.Second - 1)
		if c.grant.Expires+tickets.leeway <= protocol.Time(at.UnixNano()) {
			return
		}
		want := c.grant
		want.Publish, want.Admin = nil, ""
		if got, err := tickets.Redeem(ticket, at); err != nil || !reflect.DeepEqual(got, &want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

func BenchmarkTicket(b *testing.B) {
	tickets, g, at := newTickets(b, nil), fullGrant(), now
	g.Expires = protocol.Time(endOfTime) * protocol.Second
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(time.Millisecond) // a thousand a second
		ticket, _, err := tickets.Issue(g, at)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tickets.Redeem(ticket, at); err != nil {
			b.Fatal(err)
		}
	}
}
