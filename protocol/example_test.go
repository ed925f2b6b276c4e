package protocol_test

import (
	"fmt"

	"cryptointel/protocol"
)

// tickers is a Directory of one asset.
type tickers struct{}

func (tickers) Slug(asset string) (string, bool) {
	return "bitcoin", asset == "bitcoin" || asset == "BTC" || asset == "btc"
}

func ExampleParseCommand() {
	message := `{"type":"subscribe","id":2,"since":"k3f9-184401","channels":["price:bitcoin",{"channel":"signals:all","filter":{"min_confidence":0.9}}]}`
	cmd, err := protocol.ParseCommand([]byte(message))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, id %s, since %s\n", cmd.Type, cmd.ID, cmd.Since)
	for _, item := range cmd.Channels {
		fmt.Println(item.Channel, item.Filter != nil)
	}
	// Output:
	// subscribe, id 2, since k3f9-184401
	// price:bitcoin false
	// signals:all true
}

// An error has a code for programs and a message that says what to do.
func ExampleParseCommand_refused() {
	cmd, err := protocol.ParseCommand([]byte(`{"type":"subscribe","id":4}`))
	fmt.Printf("id %s: %v\n", cmd.ID, err)
	// Output:
	// id 4: INVALID_MESSAGE: 'channels' must name at least one channel
}

func ExampleParseChannel() {
	ch, _ := protocol.ParseChannel("price:BTC", tickers{})
	fmt.Println(ch.Name, ch.Canonical, ch.Kind == protocol.State)
	_, err := protocol.ParseChannel("price:doge", tickers{})
	fmt.Println(err)
	// Output:
	// price:BTC price:bitcoin true
	// INVALID_CHANNEL: 'price:doge': no asset 'doge'; GET /api/v1/assets lists them
}

func ExampleAppendDelivery() {
	price := &protocol.Publication{
		Channel: "price:bitcoin", Type: protocol.TypePrice,
		Offset: 1764678600123456, TS: 1764678600123,
		Data: []byte(`{"symbol":"BTC","asset":"bitcoin","price":43250.75}`),
	}
	frame := protocol.AppendDelivery(nil, protocol.Delivery{Channel: "price:BTC", Pub: price})
	fmt.Println(string(frame))
	// Output:
	// {"type":"price_update","channel":"price:BTC","offset":1764678600123456,"ts":1764678600123,"data":{"symbol":"BTC","asset":"bitcoin","price":43250.75}}
}
