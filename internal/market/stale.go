package market

import "bytes"

// Before the last fields of a price's data, in the order of appendData.
var (
	staleField = []byte(`,"stale":true`)
	tail       = [][]byte{[]byte(`,"demo":true`), []byte(`,"timestamp":"`)}
)

// MarkStale returns the data of a price_update as it reads when the price is
// stale, and false when it says so already or was not made by a Market. It is
// for nodes that only hear prices: the node that makes them may be gone.
func MarkStale(data []byte) (marked []byte, ok bool) {
	if bytes.Contains(data, staleField) {
		return nil, false
	}
	for _, t := range tail {
		if at := bytes.LastIndex(data, t); at >= 0 {
			marked = append(make([]byte, 0, len(data)+len(staleField)), data[:at]...)
			return append(append(marked, staleField...), data[at:]...), true
		}
	}
	return nil, false
}
