package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"martlet"
)

// pair makes a pair of pseudo-terminals: what a person has, and what a program has.
func pair(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { person.Close() })
	number, err := unix.IoctlGetUint32(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// showsTyping tells whether a terminal shows what is typed.
func showsTyping(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// quick types an answer as soon as it reads a question.
type quick struct {
	t       *testing.T
	person  *os.File
	answers map[string]string // by how a question begins; "" is none
	said    strings.Builder
	asked   func(question string)
	showed  map[string]bool // what is typed, at each question
}

func (q *quick) Write(b []byte) (int, error) {
	word, _, _ := strings.Cut(string(b), " ")
	if answer, ok := q.answers[word]; ok {
		q.showed[word] = showsTyping(q.t, q.person)
		if answer != "" {
			if _, err := q.person.WriteString(answer); err != nil {
				q.t.Error(err)
			}
		}
		if q.asked != nil {
			q.asked(word)
		}
	}
	return q.said.Write(b)
}

// TestPromptHidesTheQuick: what is typed at once after the question is not shown, and afterwards the
// terminal is as it was.
func TestPromptHidesTheQuick(t *testing.T) {
	person, program := pair(t)
	for _, c := range []struct{ known, user, said string }{
		{"", "carol", "User name for home at gw.example.org: Password of carol for home: \n"},
		{"dave", "dave", "Password of dave for home: \n"},
	} {
		q := &quick{t: t, person: person, answers: map[string]string{"User": "carol\n", "Password": "se cret\n"}, showed: map[string]bool{}}
		user, password, err := terminalPrompt(program, q)(t.Context(), martlet.Login{Connection: "home", Gateway: "gw.example.org", User: c.known})
		if err != nil || user != c.user || string(password) != "se cret" || q.said.String() != c.said {
			t.Errorf("%q %q %v, said %q", user, password, err, q.said.String())
		}
		if q.showed["Password"] || c.known == "" && !q.showed["User"] {
			t.Errorf("what is typed is shown at %v", q.showed)
		}
		if !showsTyping(t, person) {
			t.Error("the terminal shows no more what is typed")
		}
	}
}

// TestPromptCalledOff: the terminal is as it was, the error says why, and the next question gets the
// line that is typed for it.
func TestPromptCalledOff(t *testing.T) {
	person, program := pair(t)
	why := errors.New("the gateway has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	q := &quick{t: t, person: person, answers: map[string]string{"Password": ""}, showed: map[string]bool{}, asked: func(string) { cancel(why) }}
	prompt := terminalPrompt(program, q)
	dave := martlet.Login{Connection: "home", User: "dave"}
	if _, _, err := prompt(ctx, dave); !errors.Is(err, why) || err.Error() != why.Error() {
		t.Errorf("called off: %v", err)
	}
	if !showsTyping(t, person) {
		t.Error("the terminal shows no more what is typed")
	}
	q.answers["Password"], q.asked = "secret\n", nil
	if user, password, err := prompt(t.Context(), dave); err != nil || user != "dave" || string(password) != "secret" {
		t.Errorf("%q %q %v", user, password, err)
	}
	q.answers["Password"] = "\x04" // the end of a file
	if _, _, err := prompt(t.Context(), dave); !errors.Is(err, errNothingTyped) {
		t.Errorf("of nothing: %v", err)
	}
	if !showsTyping(t, person) {
		t.Error("the terminal shows no more what is typed")
	}
}
