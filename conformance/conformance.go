// Package conformance reads the golden transcripts in this folder and replays
// them against a server. A transcript is what both sides see; README.md says
// how to read one. The same files are replayed by the core, by the running
// server over real sockets, and by every client library.
package conformance

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"time"
)

//go:embed *.txt
var files embed.FS

// Start is the time at which every transcript begins.
var Start = time.Date(2025, 12, 2, 12, 30, 0, 0, time.UTC)

// Epoch is the event log's epoch in every transcript.
const Epoch = "test1"

// A Line is one line of a transcript.
type Line struct {
	Number int
	Text   string // the whole line
	Op     string // "set", "token", "open", "<", ">", "+", "@", "!", "!<"; "" for a comment
	Conn   int    // which connection, from 1
	Arg    string // what follows the operator
}

// A Transcript is one file.
type Transcript struct {
	Name  string
	Lines []Line
}

// All is every transcript of this folder, by name.
func All() ([]Transcript, error) {
	names, err := fs.Glob(files, "*.txt")
	if err != nil {
		return nil, err
	}
	var all []Transcript
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		t, err := Parse(strings.TrimSuffix(name, ".txt"), string(b))
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// Parse reads one transcript.
func Parse(name, text string) (Transcript, error) {
	t := Transcript{Name: name}
	for i, s := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		l, err := parseLine(s)
		if err != nil {
			return t, fmt.Errorf("%s.txt line %d: %w", name, i+1, err)
		}
		l.Number, l.Text = i+1, s
		t.Lines = append(t.Lines, l)
	}
	return t, nil
}

func parseLine(s string) (Line, error) {
	l := Line{Conn: 1}
	rest := s
	if s != "" && s[0] >= '1' && s[0] <= '9' {
		l.Conn, rest = int(s[0]-'0'), s[1:]
	}
	op, arg, _ := strings.Cut(rest, " ")
	switch op {
	case "set", "token", "open", "<", ">", "+", "@", "!", "!<":
		l.Op, l.Arg = op, arg
		return l, nil
	}
	if s == "" || strings.HasPrefix(s, "#") {
		return l, nil
	}
	return l, fmt.Errorf("%q begins with none of: # set token open < > + @ ! !<", s)
}

// A Server is what a transcript is replayed against. Each call returns when
// the server has done all it will do about it at this moment.
type Server interface {
	Set(key, value string) error         // before anything else
	Open(conn int) error                 // a new connection
	Send(conn int, message string) error // a text message from the client
	Leave(conn int, code int) error      // the client closes
	Publish(message string) error        // an object of POST /api/v1/publish
	Advance(d time.Duration) error       // time passes
	Token(claims string) (string, error) // a token with these claims
	Received(conn int) []string          // messages since the last call
	Closed(conn int) string              // "4408 AUTH_TIMEOUT", "" while open
}

// Replay runs the transcript and gives it back with what the server really
// said. It is the same text when the server conforms.
func (t Transcript) Replay(s Server) (got string, err error) {
	r := replay{s: s, tokens: map[string]string{}, open: map[int]bool{}, closed: map[int]bool{}}
	for _, l := range t.Lines {
		if err := r.line(l); err != nil {
			return "", fmt.Errorf("%s.txt line %d: %s: %w", t.Name, l.Number, l.Text, err)
		}
	}
	return r.out.String(), nil
}

type replay struct {
	s            Server
	tokens       map[string]string
	open, closed map[int]bool
	out          strings.Builder
}

// line carries out one line, and writes it with what the server answers.
// Expected lines are not copied: the server must say them again.
func (r *replay) line(l Line) error {
	if l.Op == ">" || l.Op == "!" {
		return nil
	}
	if l.Op == "<" && !r.open[l.Conn] {
		if err := r.connect(l.Conn); err != nil {
			return err
		}
	}
	r.out.WriteString(l.Text + "\n")
	if err := r.do(l); err != nil {
		return err
	}
	r.collect()
	return nil
}

func (r *replay) connect(conn int) error {
	r.open[conn] = true
	if err := r.s.Open(conn); err != nil {
		return err
	}
	r.s.Received(conn) // the first frame, which only connect.txt is about
	return nil
}

func (r *replay) do(l Line) error {
	switch l.Op {
	case "set":
		key, value, _ := strings.Cut(l.Arg, " ")
		return r.s.Set(key, value)
	case "token":
		name, claims, _ := strings.Cut(l.Arg, " ")
		token, err := r.s.Token(claims)
		r.tokens["$"+name] = token
		return err
	case "open":
		r.open[l.Conn] = true
		return r.s.Open(l.Conn)
	case "<":
		return r.s.Send(l.Conn, r.expand(l.Arg))
	case "!<":
		var code int
		if _, err := fmt.Sscan(l.Arg, &code); err != nil {
			return err
		}
		return r.s.Leave(l.Conn, code)
	case "+":
		return r.s.Publish(l.Arg)
	case "@":
		d, err := time.ParseDuration(l.Arg)
		if err != nil {
			return err
		}
		return r.s.Advance(d)
	}
	return nil
}

// expand replaces "$name" by the token of that name.
func (r *replay) expand(message string) string {
	for name, token := range r.tokens {
		message = strings.ReplaceAll(message, `"`+name+`"`, `"`+token+`"`)
	}
	return message
}

func (r *replay) collect() {
	for conn := 1; conn <= 9; conn++ {
		if !r.open[conn] || r.closed[conn] {
			continue
		}
		prefix := ""
		if conn > 1 {
			prefix = fmt.Sprint(conn)
		}
		for _, m := range r.s.Received(conn) {
			fmt.Fprintf(&r.out, "%s> %s\n", prefix, m)
		}
		if why := r.s.Closed(conn); why != "" {
			fmt.Fprintf(&r.out, "%s! %s\n", prefix, why)
			r.closed[conn] = true
		}
	}
}

// Same compares a transcript with what a server said, message by message as
// JSON, and describes the first difference.
func Same(want, got string) error {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := at(w, i), at(g, i)
		if !sameLine(a, b) {
			return fmt.Errorf("line %d:\n want %s\n  got %s", i+1, a, b)
		}
	}
	return nil
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(nothing)"
}

func sameLine(a, b string) bool {
	if a == b {
		return true
	}
	aHead, aJSON, _ := strings.Cut(a, " ")
	bHead, bJSON, _ := strings.Cut(b, " ")
	var x, y any
	return aHead == bHead && strings.HasSuffix(aHead, ">") &&
		decode(aJSON, &x) && decode(bJSON, &y) && reflect.DeepEqual(x, y)
}

func decode(s string, v *any) bool {
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	return d.Decode(v) == nil
}

// Text is the transcript as written.
func (t Transcript) Text() string {
	var b strings.Builder
	for _, l := range t.Lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}
