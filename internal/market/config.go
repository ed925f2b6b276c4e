package market

import (
	"fmt"
	"time"
)

// Config sets the market.
type Config struct {
	// Assets adds coins to the built-in list: "slug:TICKER:Name", or the path
	// of a CSV file with these columns. None by default.
	Assets []string `help:"Further assets: slug:TICKER:Name, or a CSV file of slug,ticker,name."`
	// StaleAfter is how long an asset may go without a fresh price before it
	// is published again as stale. 60 s by default, 0 means never. Raise it
	// where only slow sources are followed.
	StaleAfter time.Duration `help:"Mark a price stale after this long without a fresh one; 0 is never." default:"60s"`
	// MaxSources bounds the sources kept for one asset; of more, the ones that
	// come first stay until they are stale. 32 by default, 0 means no bound.
	// Raise it when many issuers publish prices of one asset.
	MaxSources int `help:"Sources kept for one asset; 0 is no bound." default:"32"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{StaleAfter: 60 * time.Second, MaxSources: 32}
}

func (c Config) validate() error {
	if c.StaleAfter < 0 {
		return fmt.Errorf("market.stale_after is %v: it may not be negative", c.StaleAfter)
	}
	if c.MaxSources < 0 {
		return fmt.Errorf("market.max_sources is %d: it may not be negative", c.MaxSources)
	}
	return nil
}
