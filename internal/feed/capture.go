package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// replays lists, for errors, what can be replayed.
const replays = "this version replays captures of COINBASE (Advanced Trade), KRAKEN (v2), BINANCE (spot), OKX, BYBIT and BITSTAMP, bars, trades and multi-coin prices"

// codecFor returns the codec for a capture of exchange over url.
func codecFor(exchange, url string, assets resolver) (Codec, error) {
	switch {
	case exchange == "COINBASE" && strings.Contains(url, "//ws-feed"):
		return nil, fmt.Errorf("no adapter for Coinbase Exchange (%s); %s", url, replays)
	case exchange == "COINBASE":
		return NewCoinbase(assets), nil
	case exchange == "KRAKEN" && strings.HasSuffix(url, "/v2"):
		return NewKraken(assets), nil
	case exchange == "KRAKEN":
		return nil, fmt.Errorf("no adapter for KRAKEN v1 (%s); %s", url, replays)
	case exchange == "BINANCE" && (strings.Contains(url, "//fstream") || strings.Contains(url, "//dstream")):
		return nil, fmt.Errorf("no adapter for Binance futures (%s); %s", url, replays)
	case exchange == "BINANCE":
		return NewBinance(assets), nil
	case exchange == "OKX":
		return NewOKX(assets), nil
	case exchange == "BYBIT" && bybitDerivatives(url):
		return newBybitDerivatives(assets), nil
	case exchange == "BYBIT":
		return NewBybit(assets), nil
	case exchange == "BITSTAMP":
		return NewBitstamp(assets), nil
	}
	return nil, fmt.Errorf("no adapter for %s; %s", exchange, replays)
}

// bybitDerivatives reports whether a URL leads to other markets than spot. A
// capture often holds such a connection beside the spot one.
func bybitDerivatives(url string) bool {
	for _, kind := range []string{"/linear", "/inverse", "/option", "/spread", "/rfq"} {
		if strings.HasSuffix(url, kind) {
			return true
		}
	}
	return false
}

// A capture is raw frames of connections, each in an envelope with its
// connection and the time it was received, one JSON object a line. Every
// connection has its own codec, as sequence numbers and kinds of market are
// the connection's.
type capture struct {
	json     reader
	exchange string
	assets   resolver
	codecs   map[string]Codec // by connection
}

// maxConns bounds the connections of a file: their names come from outside.
const maxConns = 1000

func (c *capture) stats() Stats {
	var sum Stats
	for _, codec := range c.codecs {
		sum.add(codec.Stats())
	}
	return sum
}

// codec is that of the line's connection. A connect line begins the
// connection anew; a capture cut from a longer one lacks it.
func (c *capture) codec(v *fastjson.Value) (Codec, error) {
	conn := text(v, "conn")
	if codec, ok := c.codecs[string(conn)]; ok {
		return codec, nil
	}
	if len(c.codecs) >= maxConns {
		return nil, fmt.Errorf("connection %.40q is one too many: a capture holds at most %d", conn, maxConns)
	}
	codec, err := codecFor(c.exchange, string(text(v, "url")), c.assets)
	if err != nil {
		return nil, err
	}
	if c.codecs == nil {
		c.codecs = make(map[string]Codec)
	}
	c.codecs[string(conn)] = codec
	return codec, nil
}

// header reads the first line.
func (c *capture) header(line []byte) (kind, exchange string, err error) {
	v, err := c.json.parse(line)
	if err != nil {
		return "", "", err
	}
	return string(text(v, "t")), string(text(v, "exchange")), nil
}

// connection reads what a line says about the connection.
func (c *capture) connection(line []byte) (kind, url string, err error) {
	defer c.json.done(line)
	v, err := c.json.parse(line)
	if err != nil {
		return "", "", err
	}
	return string(text(v, "t")), string(text(v, "url")), nil
}

func (c *capture) parse(line []byte, out []market.Tick) (protocol.Time, []market.Tick, error) {
	defer c.json.done(line)
	v, err := c.json.parse(line)
	if err != nil {
		return 0, out, err
	}
	switch kind := text(v, "t"); string(kind) {
	case "connect":
		codec, err := c.codec(v)
		if err != nil {
			return 0, out, err
		}
		codec.Reset()
		return 0, out, nil
	case "header", "http", "send":
		return 0, out, nil
	case "recv":
		return c.frame(v, out)
	default:
		return 0, out, fmt.Errorf("unknown line type %.20q", kind)
	}
}

func (c *capture) frame(v *fastjson.Value, out []market.Tick) (protocol.Time, []market.Tick, error) {
	at, err := recordedTime(v)
	if err != nil {
		return 0, out, err
	}
	frame := text(v, "data")
	if frame == nil {
		return 0, out, errors.New("no data in the line")
	}
	codec, err := c.codec(v)
	if err != nil {
		return 0, out, err
	}
	out, err = codec.Decode(frame, at, out)
	return at, out, err
}

// recordedTime is ts, seconds as a string or a number with the recorder's
// digits.
func recordedTime(v *fastjson.Value) (protocol.Time, error) {
	ts := v.Get("ts")
	if ts == nil {
		return 0, errors.New("no ts in the line")
	}
	if b := text(v, "ts"); b != nil {
		return parseSeconds(string(b))
	}
	return parseSeconds(ts.String())
}

// parseSeconds reads decimal seconds since 1970 with all their digits: as a
// float64 they would lose the last of the microseconds.
func parseSeconds(s string) (protocol.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > 9 {
		fraction = fraction[:9]
	}
	fraction += "000000000"[len(fraction):]
	sec, err := strconv.ParseUint(whole, 10, 33)
	if err != nil {
		return 0, fmt.Errorf("time %.40q is not decimal seconds", s)
	}
	ns, err := strconv.ParseUint(fraction, 10, 32)
	if err != nil || sec == 0 {
		return 0, fmt.Errorf("time %.40q is not decimal seconds", s)
	}
	return protocol.Time(sec)*protocol.Second + protocol.Time(ns), nil
}
