package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"

	"cryptointel/internal/limit"
	"cryptointel/protocol"
)

const second = protocol.Second

var home = netip.MustParseAddr("192.0.2.7")

// claimed is everything Claim answers but the owner.
type claimed struct {
	Twins    []ConnID
	Displace Displacement
	Code     protocol.Code
}

func claim(r *Registry, req ClaimRequest, now protocol.Time) (uint64, claimed) {
	owner, twins, displace, err := r.Claim(req, now)
	got := claimed{Twins: twins, Displace: displace}
	if err != nil {
		got.Code = err.Code
	}
	return owner, got
}

func TestClaimTwins(t *testing.T) {
	type step struct {
		req  ClaimRequest
		want claimed
	}
	phone := func(conn ConnID) ClaimRequest { return ClaimRequest{User: "ann", Instance: "phone", Conn: conn} }
	forced := phone(9)
	forced.Replace = true
	tests := []struct {
		name   string
		limits Limits
		steps  []step
	}{
		{"the first has no twin", Limits{}, []step{{phone(1), claimed{}}}},
		{"the second asks the first", Limits{}, []step{
			{phone(1), claimed{}},
			{phone(2), claimed{Twins: []ConnID{1}, Displace: IfSilent}},
		}},
		{"replace forces all, newest first", Limits{}, []step{
			{phone(1), claimed{}},
			{phone(2), claimed{Twins: []ConnID{1}, Displace: IfSilent}},
			{forced, claimed{Twins: []ConnID{2, 1}, Displace: Force}},
		}},
		{"another instance is no twin", Limits{}, []step{
			{phone(1), claimed{}},
			{ClaimRequest{User: "ann", Instance: "tablet", Conn: 2}, claimed{}},
		}},
		{"another user is no twin", Limits{}, []step{
			{phone(1), claimed{}},
			{ClaimRequest{User: "bob", Instance: "phone", Conn: 2}, claimed{}},
		}},
		{"without an instance each counts", Limits{ConnectionsPerUser: 2}, []step{
			{ClaimRequest{User: "ann", Conn: 1}, claimed{}},
			{ClaimRequest{User: "ann", Conn: 2}, claimed{}},
			{ClaimRequest{User: "ann", Conn: 3}, claimed{Code: protocol.ConnectionFull}},
		}},
		{"at the limit a twin is forced and needs no slot", Limits{ConnectionsPerUser: 1}, []step{
			{phone(1), claimed{}},
			{phone(2), claimed{Twins: []ConnID{1}, Displace: Force}},
		}},
		{"a full node has room for a twin's successor", Limits{MaxConnections: 1}, []step{
			{phone(1), claimed{}},
			{phone(2), claimed{Twins: []ConnID{1}, Displace: IfSilent}},
			{ClaimRequest{User: "bob"}, claimed{Code: protocol.ConnectionFull}},
		}},
		{"too often, twin or not", Limits{ConnectsPerMinutePerUser: 1}, []step{
			{phone(1), claimed{}},
			{phone(2), claimed{Code: protocol.RateLimited}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRegistry(tt.limits)
			for i, s := range tt.steps {
				if _, got := claim(r, s.req, second); !reflect.DeepEqual(got, s.want) {
					t.Errorf("step %d: got %+v, want %+v", i, got, s.want)
				}
			}
		})
	}
}

func TestClaimOnTheSameConnection(t *testing.T) {
	limits := Limits{ConnectsPerMinutePerUser: 2, ConnectionsPerUser: 2, ConnectsPerMinutePerIP: 1}
	r := NewRegistry(limits)
	owner, err := r.AdmitIP(home, second)
	if err != nil {
		t.Fatal(err)
	}
	req := ClaimRequest{User: "ann", Instance: "phone", Conn: 1, Owner: owner}
	for range 5 { // the first login and refreshes
		again, got := claim(r, req, second)
		if again != owner || !reflect.DeepEqual(got, claimed{}) {
			t.Fatalf("got owner %d, %+v, want %d and nothing", again, got, owner)
		}
		req.Instance = "" // a refresh need not say it again
	}
	if _, err := r.AdmitIP(home, second); err != nil {
		t.Errorf("the address was not given back what the login cost: %v", err)
	}
	// It still is the phone, and takes one of two slots.
	if _, got := claim(r, ClaimRequest{User: "ann", Instance: "phone", Conn: 2}, second); !reflect.DeepEqual(got, claimed{Twins: []ConnID{1}, Displace: IfSilent}) {
		t.Errorf("got %+v", got)
	}
	// As another user it leaves ann's slots.
	req.User, req.Instance = "bob", "phone"
	if again, got := claim(r, req, second); again != owner || !reflect.DeepEqual(got, claimed{}) {
		t.Errorf("as another user: got %d, %+v", again, got)
	}
	if _, got := claim(r, ClaimRequest{User: "ann", Instance: "phone", Conn: 3}, 40*second); !reflect.DeepEqual(got, claimed{Twins: []ConnID{2}, Displace: IfSilent}) {
		t.Errorf("after it left: got %+v", got)
	}
}

// A verdict and the end of a connection may cross.
func TestClaimAfterRelease(t *testing.T) {
	r := NewRegistry(Limits{})
	owner, _ := r.AdmitIP(home, second)
	r.Release(owner)
	if got, _ := claim(r, ClaimRequest{User: "ann", Owner: owner}, second); got != 0 || r.Open() != 0 {
		t.Errorf("a released connection claimed %d, %d open", got, r.Open())
	}
	other, _ := r.AdmitIP(home, second) // uses the slot again
	r.Release(owner)
	if r.Open() != 1 {
		t.Error("an old owner released a new share")
	}
	r.Release(other)
	r.Release(other)
	if r.Open() != 0 || len(r.parties) != 0 {
		t.Errorf("%d open, %d parties, want none", r.Open(), len(r.parties))
	}
}

func TestAdmitIP(t *testing.T) {
	limits := Limits{ConnectsPerMinutePerIP: 2, ConnectionsPerIP: 3}
	tests := []struct {
		name string
		from []string
		at   []protocol.Time // seconds
		want []protocol.Code
	}{
		{"a burst", []string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}, []protocol.Time{0, 0, 0}, []protocol.Code{"", "", protocol.RateLimited}},
		{"it comes back", []string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}, []protocol.Time{0, 0, 31}, []protocol.Code{"", "", ""}},
		{"after long silence", []string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}, []protocol.Time{0, 0, 500}, []protocol.Code{"", "", ""}},
		{"open ones add up", []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"}, []protocol.Time{0, 0, 60, 120}, []protocol.Code{"", "", "", protocol.ConnectionFull}},
		{"others are others", []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"}, []protocol.Time{0, 0, 0}, []protocol.Code{"", "", ""}},
		{"a /64 is one", []string{"2001:db8::1", "2001:db8::2:3:4:5", "2001:db8::ffff"}, []protocol.Time{0, 0, 0}, []protocol.Code{"", "", protocol.RateLimited}},
		{"the next /64 is another", []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"}, []protocol.Time{0, 0, 0}, []protocol.Code{"", "", ""}},
		{"IPv4 in IPv6 is the IPv4", []string{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"}, []protocol.Time{0, 0, 0}, []protocol.Code{"", "", protocol.RateLimited}},
		{"IPv4 in IPv6 is no /64", []string{"::ffff:192.0.2.1", "::ffff:192.0.2.2", "::ffff:192.0.2.3"}, []protocol.Time{0, 0, 0}, []protocol.Code{"", "", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRegistry(limits)
			for i, from := range tt.from {
				owner, err := r.AdmitIP(netip.MustParseAddr(from), 1000*second+tt.at[i]*second)
				var got protocol.Code
				if err != nil {
					got = err.Code
				}
				if got != tt.want[i] || (owner == 0) != (err != nil) {
					t.Errorf("%d from %s: got owner %d, %q, want %q", i, from, owner, got, tt.want[i])
				}
			}
		})
	}
}

// TestRegistryAgainstModel does random things to a registry and to a plain
// model of its rules and compares every answer.
func TestRegistryAgainstModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		limits := Limits{ConnectionsPerIP: 3, ConnectionsPerUser: rng.IntN(4), MaxConnections: rng.IntN(2) * 12}
		r, m := NewRegistry(limits), &model{limits: limits}
		var owners []uint64
		for i := range 2000 {
			owners = step(t, fmt.Sprintf("seed %d step %d", seed, i), rng, r, m, owners)
			if t.Failed() {
				return
			}
		}
		for _, o := range owners {
			r.Release(o)
		}
		if r.Open() != 0 || len(r.parties) != 0 {
			t.Fatalf("seed %d: all released, but %d shares and %d parties are left", seed, r.Open(), len(r.parties))
		}
	}
}

// step does one random thing and returns the owners there were so far.
func step(t *testing.T, at string, rng *rand.Rand, r *Registry, m *model, owners []uint64) []uint64 {
	t.Helper()
	some := func() uint64 {
		if len(owners) == 0 {
			return 0
		}
		return owners[rng.IntN(len(owners))]
	}
	switch rng.IntN(4) {
	case 0:
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(4))})
		owner, err := r.AdmitIP(addr, second)
		if want := m.admit(addr.String(), owner); (err == nil) != want {
			t.Errorf("%s: admit %s: got %v, want ok %v", at, addr, err, want)
		}
		return append(owners, owner)
	case 1, 2:
		req := ClaimRequest{User: "u" + strconv.Itoa(rng.IntN(3)), Conn: ConnID(rng.Uint64()), Replace: rng.IntN(4) == 0}
		if rng.IntN(3) > 0 {
			req.Instance = "i" + strconv.Itoa(rng.IntN(3))
		}
		if rng.IntN(2) > 0 {
			req.Owner = some()
		}
		owner, got := claim(r, req, second)
		if want := m.claim(req, owner); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: claim %+v: got %+v, want %+v", at, req, got, want)
		}
		return append(owners, owner)
	default:
		o := some()
		r.Release(o)
		m.release(o)
	}
	if r.Open() != len(m.open) {
		t.Errorf("%s: got %d open, want %d", at, r.Open(), len(m.open))
	}
	return owners
}

// A model has the registry's rules in their slowest form. open is in the order
// in which instances were claimed.
type model struct {
	limits Limits
	open   []modelConn
}

type modelConn struct {
	owner    uint64
	party    string
	instance string
	conn     ConnID
}

func (m *model) count(party string) (n int) {
	for _, c := range m.open {
		if c.party == party {
			n++
		}
	}
	return n
}

func (m *model) full() bool {
	return m.limits.MaxConnections > 0 && len(m.open) >= m.limits.MaxConnections
}

func (m *model) admit(addr string, owner uint64) bool {
	if m.full() || m.count("ip:"+addr) >= m.limits.ConnectionsPerIP {
		return false
	}
	m.open = append(m.open, modelConn{owner: owner, party: "ip:" + addr})
	return true
}

func (m *model) release(owner uint64) {
	m.open = slices.DeleteFunc(m.open, func(c modelConn) bool { return owner != 0 && c.owner == owner })
}

func (m *model) claim(req ClaimRequest, owner uint64) (got claimed) {
	party := "user:" + req.User
	at := -1
	for i, c := range m.open {
		if req.Owner != 0 && c.owner == req.Owner {
			at = i
		} else if req.Instance != "" && c.party == party && c.instance == req.Instance {
			got.Twins = append([]ConnID{c.conn}, got.Twins...)
		}
	}
	if req.Owner != 0 && at < 0 {
		return claimed{}
	}
	same := at >= 0 && m.open[at].party == party
	if same && (req.Instance == "" || req.Instance == m.open[at].instance && !req.Replace) {
		m.open[at].conn = req.Conn
		return claimed{}
	}
	crowded := !same && m.limits.ConnectionsPerUser > 0 && m.count(party) >= m.limits.ConnectionsPerUser
	if len(got.Twins) == 0 && (crowded || at < 0 && m.full()) {
		return claimed{Code: protocol.ConnectionFull}
	}
	switch {
	case len(got.Twins) == 0:
	case req.Replace || crowded:
		got.Displace = Force
	default:
		got.Displace = IfSilent
	}
	m.release(req.Owner)
	m.open = append(m.open, modelConn{owner, party, req.Instance, req.Conn})
	return got
}

func TestRegistryFromManyGoroutines(t *testing.T) {
	r := NewRegistry(DefaultConfig().Limits)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				now := protocol.Time(j) * second
				owner, _ := r.AdmitIP(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)}), now)
				claimedOwner, _, _, _ := r.Claim(ClaimRequest{User: strconv.Itoa(j), Instance: "x", Owner: owner}, now)
				r.Release(claimedOwner)
			}
		})
	}
	wg.Wait()
	if r.Open() != 0 {
		t.Errorf("%d open", r.Open())
	}
}

func TestRateTableForgets(t *testing.T) {
	r := NewRegistry(DefaultConfig().Limits)
	visit := func(addr netip.Addr, now protocol.Time) {
		owner, _ := r.AdmitIP(addr, now)
		if n := r.rates.bucket(r.names.address(addr)); n != (limit.Bucket{}) {
			t.Errorf("%v is counted twice while it is connected", addr)
		}
		r.Release(owner)
	}
	for i := range 1000 {
		visit(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), second)
	}
	if n := len(r.rates.young); n != 1000 {
		t.Errorf("%d buckets are remembered of 1000 addresses that have gone", n)
	}
	visit(home, 70*second)
	visit(home, 131*second)
	if n := len(r.rates.young) + len(r.rates.old); n != 1 {
		t.Errorf("%d buckets are remembered, want the last visitor's", n)
	}
}

// The parties' map gives its room back.
func TestRegistryShrinks(t *testing.T) {
	r := NewRegistry(Limits{})
	var owners []uint64
	for i := range 5000 {
		owner, _, _, _ := r.Claim(ClaimRequest{User: strconv.Itoa(i)}, second)
		owners = append(owners, owner)
	}
	for _, o := range owners[10:] {
		r.Release(o)
	}
	if r.largest > 1024 || len(r.parties) != 10 {
		t.Errorf("largest %d, parties %d", r.largest, len(r.parties))
	}
	owner, _, _, err := r.Claim(ClaimRequest{User: "3", Owner: owners[3]}, second)
	if err != nil || owner != owners[3] {
		t.Errorf("after shrinking: got %d, %v", owner, err)
	}
}
