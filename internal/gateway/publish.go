package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cryptointel/protocol"
)

// A receipt is what a publisher is told about one message that was taken.
type receipt struct {
	id     string // the signal's, or the channel when state
	offset int64
	state  bool // the id on the wire is channel-offset
}

// publish answers POST /api/v1/publish. This path is hot: a publisher may
// pipeline thousands a second (BenchmarkPublish).
func (g *Gateway) publish(w http.ResponseWriter, r *http.Request) {
	grant, refuse := g.publishGrant(r)
	if refuse != nil {
		// A publisher is not slowed, whoever else is at its address.
		g.limited(func(w http.ResponseWriter, _ *http.Request) { g.refuse(w, refuse) })(w, r)
		return
	}
	run := g.runs.Get().(*publishRun)
	defer func() { run.shrink(); g.runs.Put(run) }()
	if err := run.read(w, r); err != nil {
		g.refuse(w, err)
		return
	}
	if err := run.parse(); err != nil {
		g.refuse(w, err)
		return
	}
	if run.list {
		g.answerList(r.Context(), w, grant, run)
		return
	}
	got, err := g.publishOne(r.Context(), grant, &run.messages[0])
	if err != nil {
		g.refuse(w, err)
		return
	}
	run.out = appendReceipt(run.out[:0], got)
	g.answer(w, http.StatusOK, run.out)
}

// publishGrant is the grant of someone who may publish something, and a
// request that is worth reading.
func (g *Gateway) publishGrant(r *http.Request) (*protocol.Grant, *protocol.Error) {
	if !g.originAllowed(r) {
		return nil, foreignOrigin()
	}
	token, err := bearer(r.Header)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, &protocol.Error{Code: protocol.Unauthorized, Message: "send Authorization: Bearer with a token that has the claim pub"}
	}
	grant, err := g.verify(token)
	if err != nil {
		return nil, err
	}
	if len(grant.Publish) == 0 {
		return nil, &protocol.Error{Code: protocol.Forbidden, Message: "this token may not publish: it has no claim pub"}
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, invalid("send the body without Content-Encoding")
	}
	return grant, nil
}

// shrink keeps a rare large body from staying in the pool.
func (p *publishRun) shrink() {
	if cap(p.body) > 4*maxMessage {
		p.body, p.messages = nil, nil
	}
}

// read reads the body into the run's buffer.
func (p *publishRun) read(w http.ResponseWriter, r *http.Request) *protocol.Error {
	tooLarge := &protocol.Error{Code: protocol.MessageTooLarge, Message: "the body has more than 1 MiB"}
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close")
		return tooLarge
	}
	body, buf := http.MaxBytesReader(w, r.Body, maxBody), p.body[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)] // grows as append does
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		p.body = buf
		var over *http.MaxBytesError
		switch {
		case err == io.EOF:
			return nil
		case errors.As(err, &over):
			return tooLarge
		case err != nil:
			return invalid("the body did not arrive whole")
		}
	}
}

// answerList publishes the messages in order; each has its own result.
func (g *Gateway) answerList(ctx context.Context, w http.ResponseWriter, grant *protocol.Grant, run *publishRun) {
	now := g.now()
	out := append(run.out[:0], '[')
	for i := range run.messages {
		if i > 0 {
			out = append(out, ',')
		}
		got, err := g.publishOne(ctx, grant, &run.messages[i])
		if err != nil {
			g.counts.unpublished(err.Code)
			out = appendErrorBody(out, err, now)
			continue
		}
		out = appendReceipt(out, got)
	}
	run.out = append(out, ']')
	g.answer(w, http.StatusOK, run.out)
}

func appendReceipt(dst []byte, r receipt) []byte {
	if r.state { // the id is made of a channel's name and needs no escapes
		dst = append(append(dst, `{"id":"`...), r.id...)
		dst = append(strconv.AppendInt(append(dst, '-'), r.offset, 10), '"')
	} else {
		dst = protocol.AppendString(append(dst, `{"id":`...), r.id)
	}
	return append(strconv.AppendInt(append(dst, `,"offset":`...), r.offset, 10), '}')
}

// publishOne publishes one message, or says why not.
func (g *Gateway) publishOne(ctx context.Context, grant *protocol.Grant, m *message) (receipt, *protocol.Error) {
	kind, channel, err := m.envelope()
	if err != nil {
		return receipt{}, err
	}
	var got receipt
	switch {
	case strings.HasPrefix(channel, "test:"), kind == protocol.TypeMarket:
		got, err = g.publishState(ctx, grant, m, kind, channel)
	case kind == protocol.TypePrice:
		got, err = g.publishPrice(ctx, grant, m, channel)
	default:
		got, err = g.publishSignal(ctx, grant, m, channel)
	}
	if err == nil {
		g.counts.published(kind)
	}
	return got, err
}

// envelope checks what all messages have.
func (m *message) envelope() (kind, channel string, err *protocol.Error) {
	switch {
	case m.whole.Kind() != '{':
		return "", "", invalid("a message must be an object")
	case len(m.whole) > maxMessage:
		return "", "", &protocol.Error{Code: protocol.MessageTooLarge, Message: "the message has more than 64 KiB"}
	}
	switch string(m.kind) {
	case `"price_update"`:
		kind = protocol.TypePrice
	case `"signal_alert"`:
		kind = protocol.TypeSignal
	case `"market_data"`:
		kind = protocol.TypeMarket
	case "":
		return "", "", invalid("type is missing: use signal_alert, price_update or market_data")
	default:
		return "", "", &protocol.Error{Code: protocol.UnknownType, Message: "type must be signal_alert, price_update or market_data"}
	}
	if m.data.Kind() != '{' {
		return "", "", invalid("data must be an object")
	}
	if len(m.channel) > 0 {
		var ok bool
		if channel, ok = m.channel.Text(); !ok || channel == "" {
			return "", "", invalid("channel must be a string")
		}
	}
	return kind, channel, nil
}

// publishState sends data straight through to a market or test channel. The
// fields of market channels are those of many collectors and no closed list,
// so they pass as they are too.
func (g *Gateway) publishState(ctx context.Context, grant *protocol.Grant, m *message, kind, channel string) (receipt, *protocol.Error) {
	if channel == "" {
		return receipt{}, invalid("market_data needs a channel: market:summary, market:volume or market:sentiment")
	}
	if !grant.Publishes(channel) {
		return receipt{}, notCovered(channel)
	}
	if !protocol.PublishableChannel(channel) || g.parts.States == nil {
		return receipt{}, &protocol.Error{Code: protocol.InvalidChannel,
			Message: "publish to market:summary, market:volume, market:sentiment or test:{name}; test:state and test:log are the server's own"}
	}
	p := &protocol.Publication{Channel: channel, Type: kind, Data: m.data.Compact()}
	if kind == protocol.TypePrice {
		p.Price, _ = m.field(fieldPrice).Float()
	}
	offset, err := g.parts.States.Publish(ctx, p)
	if err != nil {
		return receipt{}, g.failed("publish", err)
	}
	return receipt{channel, offset, true}, nil
}

// publishPrice sends a price into the composite price of its asset.
func (g *Gateway) publishPrice(ctx context.Context, grant *protocol.Grant, m *message, channel string) (receipt, *protocol.Error) {
	slug, refuse := g.priceAsset(grant, m, channel)
	if refuse != nil {
		return receipt{}, refuse
	}
	at, _, refuse := g.timestamp(m.field(fieldTimestamp))
	if refuse != nil {
		return receipt{}, refuse
	}
	q := Quote{Issuer: grant.Subject, Asset: slug, At: at}
	var ok bool
	if q.Price, ok = m.field(fieldPrice).Float(); !ok || q.Price <= 0 {
		return receipt{}, invalid("data.price must be a positive number (USD)")
	}
	if v := m.field(fieldVolume); v != nil {
		if q.Volume24h, ok = v.Float(); !ok || q.Volume24h < 0 {
			return receipt{}, invalid("data.volume_24h must be a number of USD, not negative")
		}
	}
	offset, err := g.parts.Prices.Price(ctx, q)
	if err != nil {
		return receipt{}, g.failed("publish a price", err)
	}
	return receipt{"price:" + slug, offset, true}, nil
}

// priceAsset is the slug of the asset a price is about, from data.asset,
// data.symbol or the channel; those that are given must agree. Permission is
// checked before existence.
func (g *Gateway) priceAsset(grant *protocol.Grant, m *message, channel string) (string, *protocol.Error) {
	if g.parts.Prices == nil {
		return "", invalid("this server takes no prices")
	}
	inChannel, isPrice := strings.CutPrefix(channel, "price:")
	if channel != "" && !isPrice {
		return "", &protocol.Error{Code: protocol.InvalidChannel, Message: "price_update goes to its asset, or to test:{name}"}
	}
	var slug string
	for _, v := range []protocol.Value{m.field(fieldAsset), m.field(fieldSymbol), nil} {
		given, ok := inChannel, true
		if v != nil {
			given, ok = v.Text()
		}
		switch {
		case !ok:
			return "", invalid("data.asset and data.symbol must be strings")
		case given == "":
			continue
		}
		s, known := g.parts.Prices.Slug(given)
		switch {
		case !known && !grant.Publishes("price:"+given), known && !grant.Publishes("price:"+s):
			return "", notCovered("price:" + given)
		case !known:
			return "", unknownAsset(given)
		case slug != "" && s != slug:
			return "", invalid("asset, symbol and channel name different assets")
		}
		slug = s
	}
	if slug == "" {
		return "", invalid("data.asset (or symbol) is missing")
	}
	return slug, nil
}

// timestamp reads RFC 3339; absent means now.
func (g *Gateway) timestamp(v protocol.Value) (at protocol.Time, given bool, err *protocol.Error) {
	if v == nil {
		return g.now(), false, nil
	}
	text, ok := v.Text()
	t, bad := time.Parse(time.RFC3339Nano, text)
	if !ok || bad != nil || t.Year() < 1970 || t.Year() > 2200 {
		return 0, true, invalid("data.timestamp must be RFC 3339, such as 2025-12-02T12:30:00Z")
	}
	return protocol.Time(t.UnixNano()), true, nil
}

// failed turns an error of a part into one for the publisher. What is not
// meant for strangers goes to the log.
func (g *Gateway) failed(doing string, err error) *protocol.Error {
	var told *protocol.Error
	if errors.As(err, &told) {
		return told
	}
	g.parts.Log.Error("a request failed here", "doing", doing, "err", err)
	return internalError()
}

func notCovered(channel string) *protocol.Error {
	return &protocol.Error{Code: protocol.Forbidden,
		Message: "the token's pub does not cover '" + protocol.Clip(channel) + "'"}
}

func unknownAsset(name string) *protocol.Error {
	return &protocol.Error{Code: protocol.InvalidChannel,
		Message: "no asset '" + protocol.Clip(name) + "'; GET /api/v1/assets lists them"}
}
