package protocol

import "testing"

func TestAppendAck(t *testing.T) {
	id := []byte(`"a-1"`)
	state := func(name string) Position { return Position{Channel: name} }
	// log is a new subscription of a log channel at the head.
	log := func(name string) Position { return Position{Channel: name, Log: true, From: 466, Head: 466} }
	resumed := func(name string, from int64, reason string) Position {
		return Position{Channel: name, Log: true, From: from, Head: 466, Resumed: true, Reason: reason}
	}
	changed := func(name string, from, prev int64) Position {
		return Position{Channel: name, Log: true, From: from, Head: 466, Changed: true, Prev: prev}
	}
	refusal := Refusal{"price:\"x\"", &Error{Code: InvalidChannel, Message: "'price:\"x\"': no"}}
	full := Refusal{"signals:all", &Error{Code: ConnectionFull, Message: "later", RetryAfter: Second}}
	const subscribed = `{"type":"ack","for":"subscribe"`
	const atHead = subscribed + `,"epoch":"k3f9","from":466,"head":466`
	for _, c := range []struct {
		name string
		ack  Ack
		want string
	}{
		{"auth", Ack{ID: []byte("1"), For: CmdAuth, User: "u\"1", Expires: 1764682200 * Second},
			`{"type":"ack","id":1,"for":"auth","user":"u\"1","expires_at":1764682200000}`},
		{"auth without id", Ack{For: CmdAuth, User: "u1", Expires: 1764682200*Second + 999999},
			`{"type":"ack","for":"auth","user":"u1","expires_at":1764682200000}`},
		{"unsubscribe", Ack{ID: id, For: CmdUnsubscribe, Channels: []Position{state("price:btc"), state("signals:all")}},
			`{"type":"ack","id":"a-1","for":"unsubscribe","channels":["price:btc","signals:all"]}`},
		{"state channels only", Ack{ID: id, For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{state("price:BTC"), state("market:volume")}},
			`{"type":"ack","id":"a-1","for":"subscribe","channels":["price:BTC","market:volume"]}`},
		{"a new log channel", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{log("signals:all")}},
			atHead + `,"channels":["signals:all"]}`},
		{"state and log channels in the order asked", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{state("price:btc"), log("signals:all"), state("price:eth")}},
			atHead + `,"channels":["price:btc","signals:all","price:eth"]}`},
		{"log channels that agree", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{log("signals:all"), log("test:log")}},
			atHead + `,"channels":["signals:all","test:log"]}`},
		{"resumed", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{resumed("signals:all", 401, ""), resumed("test:log", 401, "")}},
			subscribed + `,"epoch":"k3f9","from":401,"head":466,"recovered":true,"channels":["signals:all","test:log"]}`},
		{"not recovered", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{resumed("signals:all", 466, ReasonEpochChanged)}},
			atHead + `,"recovered":false,"reason":"epoch_changed","channels":["signals:all"]}`},
		{"changed in place", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{changed("signals:all", 460, 390)}},
			subscribed + `,"epoch":"k3f9","from":460,"head":466,"prev":390,"channels":["signals:all"]}`},
		{"one of two not recovered", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{resumed("signals:all", 401, ""), resumed("signals:high", 466, ReasonTooOld)}},
			subscribed + `,"epoch":"k3f9","from":401,"head":466,"recovered":true,"channels":["signals:all","signals:high"],"at":{"signals:high":{"from":466,"recovered":false,"reason":"too_old"}}}`},
		{"each of its own kind", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{
			log("signals:all"), resumed("signals:high", 401, ""), log("test:log"), changed("signals:type:a", 460, 390), state("price:btc")}},
			atHead + `,"channels":["signals:all","signals:high","test:log","signals:type:a","price:btc"],` +
				`"at":{"signals:high":{"from":401,"recovered":true},"signals:type:a":{"from":460,"prev":390}}}`},
		{"changes that differ in prev", Ack{For: CmdSubscribe, Epoch: "k3f9", Channels: []Position{changed("signals:all", 460, 390), changed("signals:high", 460, 0)}},
			subscribed + `,"epoch":"k3f9","from":460,"head":466,"prev":390,"channels":["signals:all","signals:high"],"at":{"signals:high":{"from":460,"prev":0}}}`},
		{"some refused", Ack{ID: id, For: CmdSubscribe, Channels: []Position{state("price:btc")}, Errors: []Refusal{refusal, full}},
			`{"type":"ack","id":"a-1","for":"subscribe","channels":["price:btc"],"errors":[` +
				`{"channel":"price:\"x\"","code":"INVALID_CHANNEL","message":"'price:\"x\"': no","retryable":false},` +
				`{"channel":"signals:all","code":"CONNECTION_FULL","message":"later","retryable":true}]}`},
		{"all refused", Ack{For: CmdSubscribe, Epoch: "k3f9", Errors: []Refusal{refusal}},
			subscribed + `,"channels":[],"errors":[{"channel":"price:\"x\"","code":"INVALID_CHANNEL","message":"'price:\"x\"': no","retryable":false}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := AppendAck([]byte("x"), &c.ack)
			if string(got) != "x"+c.want {
				t.Errorf("\n got %s\nwant x%s", got, c.want)
			}
			fields(t, got[1:])
		})
	}
}
