package protocol

import (
	"strconv"
	"strings"
)

// A Cursor is a position in the event log, "epoch-offset" on the wire.
type Cursor struct {
	Epoch  string
	Offset int64
}

// ParseCursor reads "epoch-offset". A ".state" part behind it, as long poll
// has, is ignored.
func ParseCursor(s string) (Cursor, bool) {
	epoch, rest, ok := strings.Cut(s, "-")
	if !ok || !validEpoch(epoch) {
		return Cursor{}, false
	}
	rest, _, _ = strings.Cut(rest, ".")
	n, err := strconv.ParseUint(rest, 10, 53)
	if err != nil {
		return Cursor{}, false
	}
	return Cursor{epoch, int64(n)}, true
}

func validEpoch(s string) bool {
	if len(s) < 4 || len(s) > 16 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func (c Cursor) String() string { return c.Epoch + "-" + strconv.FormatInt(c.Offset, 10) }
