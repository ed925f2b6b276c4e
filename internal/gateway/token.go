package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"cryptointel/protocol"
)

// maxTicketBody bounds what may come with a request for a ticket. Nothing of
// it is looked at.
const maxTicketBody = 4 << 10

// doorGrant is what a token or ticket given with the upgrade allows; nil
// without one, or with one that refuse tells about. A token in the header goes
// before what is in the URL. RATE_LIMITED means that nothing was looked at,
// and no ticket spent.
func (g *Gateway) doorGrant(r *http.Request) (grant *protocol.Grant, refuse *protocol.Error) {
	token, err := bearer(r.Header)
	if err != nil {
		return nil, err
	}
	if token != "" {
		return g.staked(r, func() (*protocol.Grant, *protocol.Error) { return g.verify(token) })
	}
	token, ticket, err := urlSecrets(r.URL)
	switch {
	case err != nil:
		return nil, err
	case ticket != "":
		return g.staked(r, func() (*protocol.Grant, *protocol.Error) { return g.redeem(ticket) })
	case token == "":
		return nil, nil
	case !g.set.Load().cfg.TokenInURL:
		return nil, &protocol.Error{Code: protocol.InvalidToken,
			Message: "tokens in the URL are not accepted: send an auth message, Authorization: Bearer, or ?ticket= from POST /api/v1/tickets"}
	}
	return g.staked(r, func() (*protocol.Grant, *protocol.Error) { return g.verify(token) })
}

// urlSecrets are the token and the ticket in the query. The query is only
// parsed when there may be one.
func urlSecrets(u *url.URL) (token, ticket string, refuse *protocol.Error) {
	if !strings.Contains(u.RawQuery, "t") && !strings.Contains(u.RawQuery, "%") {
		return "", "", nil
	}
	query := u.Query()
	tokens, tickets := query["token"], query["ticket"]
	switch {
	case len(tokens)+len(tickets) > 1:
		return "", "", &protocol.Error{Code: protocol.InvalidToken, Message: "the URL has more than one token or ticket"}
	case len(tickets) == 1 && tickets[0] == "":
		return "", "", &protocol.Error{Code: protocol.InvalidToken, Message: "the ticket in the URL is empty"}
	case len(tickets) == 1:
		return "", tickets[0], nil
	case len(tokens) == 1 && tokens[0] == "":
		return "", "", &protocol.Error{Code: protocol.InvalidToken, Message: "the token in the URL is empty"}
	case len(tokens) == 1:
		return tokens[0], "", nil
	}
	return "", "", nil
}

// redeem asks for the grant of a ticket, which is spent by it. Nothing of the
// ticket gets into the error or a log.
func (g *Gateway) redeem(ticket string) (*protocol.Grant, *protocol.Error) {
	if g.parts.Tickets == nil {
		return nil, &protocol.Error{Code: protocol.InvalidToken,
			Message: "this server gives no tickets: send an auth message, or Authorization: Bearer"}
	}
	grant, err := g.parts.Tickets.Redeem(ticket, g.parts.Now())
	g.counts.ticketUsed(err == nil)
	if err != nil {
		return nil, refusal(err, "the ticket is not accepted: get another from POST /api/v1/tickets")
	}
	return grant, nil
}

// ticket answers POST /api/v1/tickets: the grant of the token in the header, as
// a ticket for one connection.
func (g *Gateway) ticket(w http.ResponseWriter, r *http.Request) {
	if g.parts.Tickets == nil {
		g.notServed(w)
		return
	}
	grant, refuse := g.ticketGrant(r)
	if refuse != nil {
		g.refuse(w, refuse)
		return
	}
	ticket, expires, err := g.parts.Tickets.Issue(grant, g.parts.Now())
	if err != nil {
		g.refuse(w, g.failed("issue a ticket", err))
		return
	}
	g.counts.ticketIssued()
	body := protocol.AppendString([]byte(`{"ticket":`), ticket)
	body = strconv.AppendInt(append(body, `,"expires_at":`...), int64(expires/protocol.Millisecond), 10)
	g.answer(w, http.StatusOK, append(body, '}'))
}

// ticketGrant is the grant of someone who asks for a ticket. Only a token buys
// one: tickets that buy tickets would never expire.
func (g *Gateway) ticketGrant(r *http.Request) (*protocol.Grant, *protocol.Error) {
	if !g.originAllowed(r) {
		return nil, foreignOrigin()
	}
	token, err := bearer(r.Header)
	switch {
	case err != nil:
		return nil, err
	case token == "":
		return nil, &protocol.Error{Code: protocol.Unauthorized, Message: "send Authorization: Bearer with the token that the ticket shall stand for"}
	case r.ContentLength > maxTicketBody:
		return nil, &protocol.Error{Code: protocol.MessageTooLarge, Message: "a request for a ticket needs no body"}
	}
	return g.verify(token)
}

// bearer is the token of an Authorization header, empty without one. Other
// schemes are a proxy's business.
func bearer(h http.Header) (string, *protocol.Error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", &protocol.Error{Code: protocol.InvalidToken, Message: "more than one Authorization header"}
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "bearer") {
		return "", nil
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", &protocol.Error{Code: protocol.InvalidToken, Message: "the Authorization header has no token"}
	}
	return token, nil
}

// verify asks for the grant of a token. Nothing of the token gets into the
// error or a log.
func (g *Gateway) verify(token string) (*protocol.Grant, *protocol.Error) {
	grant, err := g.parts.Tokens.Verify(token, g.parts.Now())
	if err != nil {
		return nil, refusal(err, "the token is not accepted")
	}
	return grant, nil
}

// refusal is an error of a part as the client is told it: what is not meant
// for strangers is replaced.
func refusal(err error, otherwise string) *protocol.Error {
	var refused *protocol.Error
	if errors.As(err, &refused) {
		return refused
	}
	return &protocol.Error{Code: protocol.InvalidToken, Message: otherwise}
}
