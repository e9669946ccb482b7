package eap

import (
	"crypto/subtle"
	"io"

	"martlet/crypto/suite"
)

// ntHashLen is the length of an NT hash (RFC 2759 §8.3).
const ntHashLen = 16

// usable tells whether there is anything with which to log in. An empty password lets
// nobody in.
func (a *Account) usable() bool {
	return a != nil && (len(a.Password) > 0 || len(a.NTHash) == ntHashLen)
}

// hash is the NT hash of the account, and a random one where there is no account, so that
// the work is the same.
func (a *Account) hash(rand io.Reader) (hash []byte, known bool, err *Error) {
	switch {
	case !a.usable():
		hash = make([]byte, ntHashLen)
		err = random(rand, hash)
		return hash, false, err
	case len(a.Password) > 0:
		return ntHash(a.Password), true, nil
	}
	return a.NTHash, true, nil
}

// secret is the password in the clear, and a random one where there is none.
func (a *Account) secret(rand io.Reader) (password suite.Secret, known bool, err *Error) {
	if a.usable() && len(a.Password) > 0 {
		return a.Password, true, nil
	}
	password = make([]byte, 16)
	err = random(rand, password)
	return password, false, err
}

// check compares a password that came in the clear, by way of the hash, so that an account
// that has only that one will do, and so that lengths cannot be told.
func (a *Account) check(rand io.Reader, password suite.Secret) (bool, *Error) {
	hash, known, err := a.hash(rand)
	if err != nil {
		return false, err
	}
	same := subtle.ConstantTimeCompare(ntHash(password), hash) == 1
	// Two passwords that are not UTF-8 can have one hash.
	if a.usable() && len(a.Password) > 0 {
		same = same && subtle.ConstantTimeCompare(password, a.Password) == 1
	}
	return same && known, nil
}

// refusal is what a server tells its own log; the peer gets the same in every case.
func (a *Account) refusal(user string) *Error {
	e := &Error{Code: CodePassword, What: "the password of user \"" + printable(user) + "\" is wrong"}
	switch {
	case a == nil:
		e.What = "there is no user \"" + printable(user) + "\""
		e.Why, e.Hint = "no account has this name", "add one, or have the user spell the name as the account does; capitals count"
	case !a.usable():
		e.What = "user \"" + printable(user) + "\" has no password"
		e.Hint = "set one for the account"
	}
	return e
}
