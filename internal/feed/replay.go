package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// ReplayConfig sets a replay.
type ReplayConfig struct {
	// Files are the recordings, played together, each from its own beginning.
	// None by default.
	Files []string `help:"Recordings to replay: captures (.jsonl.gz), bars, trades and price files (.csv, .csv.gz)."`
	// Speed is how many times faster than recorded: 1 by default, 0 is as
	// fast as the sink takes it. Raise it to see a day in minutes.
	Speed float64 `help:"Times faster than recorded; 0 is as fast as possible." default:"1"`
	// Loop plays the files again and again; needs a Speed. Off by default.
	Loop bool `help:"Start over at the end."`
}

func (c ReplayConfig) validate() error {
	switch {
	case len(c.Files) == 0:
		return errors.New("replay: no Files")
	case c.Speed < 0 || math.IsNaN(c.Speed) || math.IsInf(c.Speed, 0):
		return fmt.Errorf("replay: Speed %v is not 0 or more", c.Speed)
	case c.Loop && c.Speed == 0:
		return errors.New("replay: Loop needs a Speed above 0")
	}
	return nil
}

// A Replay plays recordings through the adapters that live feeds use.
//
// The files run side by side: each one's first record is at the replay's
// beginning. All times are moved by one amount, so differences stay as
// recorded, whatever the speed: an hour of bars is an hour to 24 hour windows
// and to detectors. At speed 1 and below the beginning is now. Faster, the
// recording is history that catches up: it is placed so that its end falls on
// the moment at which the end is played, and no tick lies in the future. A
// Loop faster than 1 is the exception: passes are laid end to end and run
// ahead of the wall clock.
type Replay struct {
	cfg    ReplayConfig
	assets names
	out    sink
	clock  clock
	log    *slog.Logger

	newest  protocol.Time // of all ticks so far: the next pass begins after it
	reports []FileReport
}

// A FileReport is what a pass made of one file.
type FileReport struct {
	File     string
	Records  uint64
	BadLines uint64 // skipped
	Stats    Stats  // of the adapter
}

// NewReplay checks that every file can be opened and has an adapter. The
// error names the file and line.
func NewReplay(cfg ReplayConfig, assets names, out sink, c clock, log *slog.Logger) (*Replay, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := &Replay{cfg: cfg, assets: assets, out: out, clock: c, log: log}
	for _, path := range cfg.Files {
		rec, err := openRecording(path, assets, log)
		if err != nil {
			return nil, err
		}
		rec.close()
	}
	return r, nil
}

// Reports are of the last finished pass, in the order of Files. Not while Run
// runs.
func (r *Replay) Reports() []FileReport { return r.reports }

// Run plays the files. It returns nil at their end, or when ctx is done.
func (r *Replay) Run(ctx context.Context) error {
	for {
		err := r.pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || !r.cfg.Loop {
			return err
		}
	}
}

// A track is one file within a pass: its next record.
type track struct {
	rec   *recording
	start protocol.Time // recorded time of its first record
	at    protocol.Time // of the next one
	ticks []market.Tick
	ended bool
}

func (t *track) advance(ctx context.Context) error {
	at, ticks, err := t.rec.record(ctx, t.ticks[:0])
	if t.ended = errors.Is(err, io.EOF); t.ended {
		return nil
	}
	// A recorder's clock may be set back: the file's order is what counts.
	t.at, t.ticks = max(t.at, at), ticks
	return err
}

func (r *Replay) pass(ctx context.Context) error {
	length, err := r.length(ctx)
	if err != nil {
		return err
	}
	tracks, err := r.open(ctx, r.log)
	defer closeTracks(tracks)
	if err != nil {
		return err
	}
	begin := r.clock.Now()
	base := r.base(begin, length)
	for t := earliest(tracks); t != nil; t = earliest(tracks) {
		if err := r.play(ctx, t, begin, base); err != nil {
			return err
		}
	}
	r.report(tracks)
	return nil
}

// base is where the beginning of the recordings is put in time.
func (r *Replay) base(begin, length protocol.Time) protocol.Time {
	switch {
	case r.cfg.Loop:
		return max(begin, r.newest+protocol.Millisecond)
	case r.cfg.Speed == 0:
		return begin - length
	case r.cfg.Speed > 1:
		return begin - length + scale(length, r.cfg.Speed)
	}
	return begin
}

func scale(d protocol.Time, speed float64) protocol.Time {
	return protocol.Time(float64(d) / speed)
}

// play delivers a track's next record when it is due, and reads on.
func (r *Replay) play(ctx context.Context, t *track, begin, base protocol.Time) error {
	if r.cfg.Speed > 0 {
		if err := r.clock.Wait(ctx, begin+scale(t.at-t.start, r.cfg.Speed)); err != nil {
			return err
		}
	}
	for i := range t.ticks {
		k := &t.ticks[i]
		k.Time += base - t.start
		k.Received += base - t.start
		r.newest = max(r.newest, k.Time)
	}
	if len(t.ticks) > 0 {
		if err := r.out.Deliver(ctx, t.ticks); err != nil {
			return fmt.Errorf("replay: deliver: %w", err)
		}
	}
	return t.advance(ctx)
}

// length is how long the longest file is, 0 when nobody asks: finding out
// means reading them all once. A file that is cut off is found here, before
// anything is played.
func (r *Replay) length(ctx context.Context) (length protocol.Time, err error) {
	if r.cfg.Loop || r.cfg.Speed > 0 && r.cfg.Speed <= 1 {
		return 0, nil
	}
	tracks, err := r.open(ctx, slog.New(slog.DiscardHandler))
	defer closeTracks(tracks)
	for i := 0; err == nil && i < len(tracks); i++ {
		t := tracks[i]
		for err == nil && !t.ended {
			err = t.advance(ctx)
		}
		length = max(length, t.at-t.start)
	}
	return length, err
}

func (r *Replay) open(ctx context.Context, log *slog.Logger) (tracks []*track, err error) {
	for _, path := range r.cfg.Files {
		rec, err := openRecording(path, r.assets, log)
		if err != nil {
			return tracks, err
		}
		t := &track{rec: rec}
		tracks = append(tracks, t)
		if err := t.advance(ctx); err != nil {
			return tracks, err
		}
		t.start = t.at
	}
	return tracks, nil
}

func closeTracks(tracks []*track) {
	for _, t := range tracks {
		t.rec.close()
	}
}

// earliest is the track whose next record comes first, nil at the end of all.
func earliest(tracks []*track) *track {
	var first *track
	for _, t := range tracks {
		if !t.ended && (first == nil || t.at-t.start < first.at-first.start) {
			first = t
		}
	}
	return first
}

func (r *Replay) report(tracks []*track) {
	r.reports = r.reports[:0]
	for _, t := range tracks {
		s := t.rec.parse.stats()
		var ignored uint64
		for _, n := range s.Ignored {
			ignored += n
		}
		r.reports = append(r.reports, FileReport{t.rec.path, t.rec.good, t.rec.bad, s})
		r.log.Info("replayed", "file", t.rec.path, "frames", s.Frames, "ticks", s.Ticks, "ignored", ignored,
			"gaps", s.Gaps, "missing", s.Missing, "duplicates", s.Duplicates, "malformed", s.Malformed,
			"unknown_symbols", s.Unknown, "bad_lines", t.rec.bad)
	}
}
