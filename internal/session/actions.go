package session

import "cryptointel/protocol"

// An ActionKind says what must be done.
type ActionKind uint8

// The kinds of actions.
const (
	Send        ActionKind = iota // write Message to the client
	Subscribe                     // join Spec's cohort; a log from From. Subs has it already
	Change                        // Subs[Sub] gets Spec in place of its old one; a log from From
	Unsubscribe                   // leave Spec's cohort, which was Subs[Sub] and is no longer there
	VerifyToken                   // verify Token, then tell Judged
	Close                         // close the connection with Code
)

// An Action is one thing the owner of the session must do. Actions are carried
// out in order.
type Action struct {
	Kind    ActionKind
	Message []byte // Send
	Sub     int    // Subscribe, Change, Unsubscribe: index in State.Subs
	Spec    *Spec  // Subscribe, Change
	From    int64  // Subscribe, Change: log position
	// Keep, with Change: a log subscription goes on from where it is, and From
	// says where that is.
	Keep bool

	Token, Instance string // VerifyToken
	Replace         bool   // VerifyToken

	Code protocol.Code // Close; Send: of the error that Message tells
}

// Actions collects what a step wants done. Reset it before each step.
type Actions struct{ List []Action }

// Reset forgets all actions and keeps the memory.
func (a *Actions) Reset() {
	clear(a.List)
	a.List = a.List[:0]
}

func (a *Actions) send(message []byte) {
	a.List = append(a.List, Action{Kind: Send, Message: message})
}
