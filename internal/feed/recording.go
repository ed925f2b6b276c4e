package feed

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// A recording is one file being read, a record at a time.
type recording struct {
	path  string
	lines *bufio.Scanner
	close func() error
	parse parser
	log   *slog.Logger

	line    int
	pending []byte // a line that was read ahead, when the format was found out
	good    uint64 // records
	bad     uint64 // lines that were skipped
	lastBad error  // of the line before, nil when it was good
}

// A parser understands the lines of one format.
type parser interface {
	// parse appends the line's ticks with their recorded times. at is when it
	// was recorded; 0 for a line that is no record (a header, a sent frame).
	parse(line []byte, out []market.Tick) (at protocol.Time, ticks []market.Tick, err error)
	// stats are the counts of the codec behind it.
	stats() Stats
}

// maxLine bounds a line: a level2 snapshot of 5 MB, quoted, has 7.
const maxLine = 64 << 20

// loggedBad is how many bad lines of a file are logged one by one.
const loggedBad = 3

// openRecording opens a file and finds out its format from its first lines.
func openRecording(path string, assets names, log *slog.Logger) (*recording, error) {
	r := &recording{path: path, log: log}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	first, err := r.next()
	if err == nil {
		r.parse, err = r.format(first, assets)
	}
	if err != nil {
		r.close()
		return nil, r.fail(err)
	}
	return r, nil
}

func (r *recording) open() error {
	f, err := os.Open(r.path)
	if err != nil {
		return err
	}
	r.close = f.Close
	var in io.Reader = f
	if strings.HasSuffix(r.path, ".gz") {
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close()
			return fmt.Errorf("%s is not a gzip file: %w", r.path, err)
		}
		in = z
	}
	r.lines = bufio.NewScanner(in)
	r.lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	return nil
}

// format chooses the parser by the first line.
func (r *recording) format(first []byte, assets names) (parser, error) {
	name, _, _ := strings.Cut(filepath.Base(r.path), ".")
	switch string(first) {
	case "time_ms,open,high,low,close,volume":
		return newBars(name, assets)
	case "time_s,price,qty,side":
		return newTrades(name, assets)
	case "time_s,coin,price_usd":
		return newPrices(assets), nil
	}
	switch {
	case len(first) > 0 && first[0] == '[':
		r.pending = append([]byte(nil), first...)
		return newKrakenTrades(name, assets)
	case len(first) > 0 && first[0] == '{':
		return r.capture(first, assets)
	}
	return nil, fmt.Errorf("%.60q begins no recording this version knows", first)
}

// capture chooses the codec of a capture. The header names the exchange, the
// line of the connection which of its protocols.
func (r *recording) capture(header []byte, assets names) (parser, error) {
	c := &capture{assets: assets}
	kind, exchange, err := c.header(header)
	if err != nil {
		return nil, fmt.Errorf("the header line: %w", err)
	}
	if kind != "header" {
		return nil, fmt.Errorf("a capture begins with its header line, not with %.20q", kind)
	}
	c.exchange = exchange
	for r.pending == nil {
		line, err := r.next()
		if err != nil {
			return nil, err
		}
		kind, url, err := c.connection(line)
		if err != nil {
			return nil, err
		}
		if kind == "connect" || kind == "recv" {
			r.pending = append([]byte(nil), line...)
			if _, err := codecFor(exchange, url, assets); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// next reads a line without its end.
func (r *recording) next() ([]byte, error) {
	if line := r.pending; line != nil {
		r.pending = nil
		return line, nil
	}
	if r.lines.Scan() {
		r.line++
		return r.lines.Bytes(), nil
	}
	switch err := r.lines.Err(); {
	case err == nil && r.line == 0:
		return nil, errors.New("the file is empty")
	case err == nil:
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		r.line++
		return nil, errors.New("the file is cut off")
	default:
		r.line++
		return nil, err
	}
}

// fail says where something went wrong.
func (r *recording) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the file ends before its first record")
	}
	return fmt.Errorf("replay: %s line %d: %w", r.path, max(r.line, 1), err)
}

// record reads to the next record: when it was recorded, and its ticks, which
// may be none. A bad line is counted, logged and skipped; a bad last line
// means that the file is cut off. io.EOF ends the file.
func (r *recording) record(ctx context.Context, out []market.Tick) (protocol.Time, []market.Tick, error) {
	for ctx.Err() == nil {
		line, err := r.next()
		if errors.Is(err, io.EOF) {
			return 0, out, r.end()
		}
		if err != nil {
			return 0, out, r.fail(err)
		}
		at, ticks, err := r.parse.parse(line, out)
		if r.lastBad = err; err != nil {
			r.skip(err)
			continue
		}
		if at != 0 {
			r.good++
			return at, ticks, nil
		}
	}
	return 0, out, ctx.Err()
}

func (r *recording) skip(err error) {
	if r.bad++; r.bad <= loggedBad {
		r.log.Warn("replay: bad line skipped", "file", r.path, "line", r.line, "err", err)
	}
}

// end is how a file may end.
func (r *recording) end() error {
	switch {
	case r.lastBad != nil:
		return r.fail(fmt.Errorf("the file is cut off: %w", r.lastBad))
	case r.good == 0:
		return r.fail(errors.New("no record in the file"))
	}
	return io.EOF
}
