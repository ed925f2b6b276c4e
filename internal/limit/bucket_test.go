package limit

import (
	"testing"

	"cryptointel/protocol"
)

func TestBucketAllowsBurstThenRate(t *testing.T) {
	rate := Rate{PerMinute: 60, Burst: 5}
	var b Bucket
	now := protocol.Time(1e18)
	for i := range 5 {
		if _, ok := b.Take(rate, now); !ok {
			t.Fatalf("event %d of the burst refused", i+1)
		}
	}
	wait, ok := b.Take(rate, now)
	if ok || wait != protocol.Second {
		t.Fatalf("sixth event: got wait %v ok %v, want 1 s and a refusal", wait, ok)
	}
	if _, ok := b.Take(rate, now+wait-1); ok {
		t.Error("allowed before the wait was over")
	}
	if _, ok := b.Take(rate, now+wait); !ok {
		t.Error("refused after the wait")
	}
}

// Over any minute no more than the rate and one burst get through.
func TestBucketBoundsAnyMinute(t *testing.T) {
	rate := Rate{PerMinute: 100, Burst: 60}
	var b Bucket
	passed := 0
	for ms := range 60_000 {
		if _, ok := b.Take(rate, protocol.Time(ms)*protocol.Millisecond); ok {
			passed++
		}
	}
	if want := rate.PerMinute + rate.Burst; passed > want || passed < want-1 {
		t.Errorf("got %d events in a minute of trying each millisecond, want %d", passed, want)
	}
}

func TestBucketZeroRateIsNoLimit(t *testing.T) {
	var b Bucket
	for range 1000 {
		if _, ok := b.Take(Rate{}, 0); !ok {
			t.Fatal("refused without a limit")
		}
	}
}

func TestBucketReturn(t *testing.T) {
	rate := Rate{PerMinute: 10, Burst: 1}
	var b Bucket
	b.Take(rate, 0)
	b.Return(rate)
	if _, ok := b.Take(rate, 0); !ok {
		t.Error("refused after the event was returned")
	}
}

func TestBucketUsed(t *testing.T) {
	rate := Rate{PerMinute: 60, Burst: 10}
	var b Bucket
	for range 3 {
		b.Take(rate, 0)
	}
	used, empty := b.Used(rate, protocol.Second)
	if used != 2 || empty != 3*protocol.Second {
		t.Errorf("got %d used, empty at %v; want 2, 3 s", used, empty)
	}
}
