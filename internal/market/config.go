package market

import (
	"fmt"
	"math"
	"time"
)

// Config sets the market.
type Config struct {
	// Assets adds coins to the built-in list: "slug:TICKER:Name", or the path
	// of a CSV file with these columns. None by default.
	Assets []string `help:"Further assets: slug:TICKER:Name, or a CSV file of slug,ticker,name."`
	// StaleAfter is how long an asset may go without a fresh price before it
	// is published again as stale, and how long a source's price counts in
	// the asset's. 60 s by default, 0 means that nothing turns stale (a source
	// still counts for a minute only). Raise it where only slow sources are
	// followed.
	StaleAfter time.Duration `help:"Mark a price stale after this long without a fresh one; 0 is never." default:"60s"`
	// MaxSources bounds the sources kept for one asset; of more, the ones that
	// come first stay until they are stale. 32 by default, 0 means no bound.
	// Raise it when many issuers publish prices of one asset.
	MaxSources int `help:"Sources kept for one asset; 0 is no bound." default:"32"`
	// Outlier is by how many percent of the other sources' price one may be
	// off before it is quarantined. 5 by default, 0 means that none ever is.
	// Raise it where thin markets are followed, whose prices differ.
	Outlier float64 `help:"Quarantine a source that is more than this many percent off the others; 0 is never." default:"5"`
	// ConfirmEvery is how often a price that has not changed is published
	// again. 1 s by default, 0 publishes every tick. Raise it to send less.
	ConfirmEvery time.Duration `help:"Publish an unchanged price at most this often; 0 is with every tick." default:"1s"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{StaleAfter: 60 * time.Second, MaxSources: 32, Outlier: 5, ConfirmEvery: time.Second}
}

// Validate names the setting that is wrong.
func (c Config) Validate() error {
	if c.StaleAfter < 0 {
		return fmt.Errorf("market.stale_after is %v: use a positive time such as 60s, or 0 for never", c.StaleAfter)
	}
	if c.MaxSources < 0 {
		return fmt.Errorf("market.max_sources is %d: use a positive number, or 0 for no bound", c.MaxSources)
	}
	if !(c.Outlier >= 0) || math.IsInf(c.Outlier, 0) {
		return fmt.Errorf("market.outlier is %v: use a percentage such as 5, or 0 for never", c.Outlier)
	}
	if c.ConfirmEvery < 0 {
		return fmt.Errorf("market.confirm_every is %v: use a positive time such as 1s, or 0 for every tick", c.ConfirmEvery)
	}
	return nil
}

// HistoryConfig sets how long bars are kept.
type HistoryConfig struct {
	// Keep1m is how long bars of a minute are kept: 7 days by default, 0 is
	// for ever. A bar takes about 80 bytes of the file, so a week of minutes
	// 0.8 MB an asset: most of it. Shorten it on a small disk.
	Keep1m time.Duration `name:"keep_1m" help:"How long one-minute bars are kept; 0 is for ever." default:"168h"`
	// Keep5m is the same for bars of five minutes: 30 days by default. Keep
	// two days at least where past bars are to be filled in from exchanges.
	Keep5m time.Duration `name:"keep_5m" help:"How long five-minute bars are kept; 0 is for ever." default:"720h"`
	// Keep1h is the same for bars of an hour: two years by default, 0.6 MB a
	// year and asset.
	Keep1h time.Duration `name:"keep_1h" help:"How long one-hour bars are kept; 0 is for ever." default:"17520h"`
	// Keep1d is the same for bars of a day: 0, for ever, by default.
	Keep1d time.Duration `name:"keep_1d" help:"How long one-day bars are kept; 0 is for ever." default:"0s"`
	// FlushEvery is how often bars are written: 1 minute by default. What was
	// not written is lost in a crash. Shorten it to lose less, at a disk
	// write each time.
	FlushEvery time.Duration `name:"flush_every" help:"How often bars are written to disk; a crash loses what was not." default:"1m"`
}

// DefaultHistoryConfig returns the defaults.
func DefaultHistoryConfig() HistoryConfig {
	const day = 24 * time.Hour
	return HistoryConfig{Keep1m: 7 * day, Keep5m: 30 * day, Keep1h: 730 * day, FlushEvery: time.Minute}
}

// Validate names the setting that is wrong.
func (c HistoryConfig) Validate() error {
	for i, keep := range c.keep() {
		if keep < 0 {
			return fmt.Errorf("history.keep_%s is %v: use a positive time such as 720h, or 0 for ever", spans[i].name, keep)
		}
		if keep > 0 && keep < 2*spans[i].length() {
			return fmt.Errorf("history.keep_%s is %v: use at least two bars, %v, or 0 for ever", spans[i].name, keep, 2*spans[i].length())
		}
	}
	if c.FlushEvery <= 0 {
		return fmt.Errorf("history.flush_every is %v: use a positive time such as 1m", c.FlushEvery)
	}
	return nil
}

func (c HistoryConfig) keep() [4]time.Duration {
	return [4]time.Duration{c.Keep1m, c.Keep5m, c.Keep1h, c.Keep1d}
}
