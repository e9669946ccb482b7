package ike

import (
	"encoding/binary"
	"fmt"

	"martlet/ike/message"
)

// winStatus is what a Windows error number in MS_STATUS means.
type winStatus struct{ name, why, hint string }

// winStatusOf knows the numbers that Windows clients send or show.
func winStatusOf(code uint32) winStatus {
	switch code {
	case 13801:
		return winStatus{
			"ERROR_IPSEC_IKE_AUTH_FAIL", "it does not accept how we proved who we are",
			"import our CA into Trusted Root of the Local Computer, and have the name that the user typed in the certificate (subjectAltName), with the usage serverAuth",
		}
	case 13806:
		return winStatus{
			"ERROR_IPSEC_IKE_NO_CERT", "it finds no certificate of its own that will do",
			"import its certificate with the private key into Local Computer, Personal",
		}
	case 13816:
		return winStatus{
			"ERROR_IPSEC_IKE_ERROR", "Windows says so when it is asked for a key exchange that it was not configured for",
			"set rekey = \"0s\" for its child: Windows replaces its children itself",
		}
	case 13863:
		return winStatus{
			"ERROR_IPSEC_IKE_INVALID_SITUATION", "a Windows client behind a NAT lets no gateway replace its children",
			"set rekey = \"0s\" for its child: Windows replaces its children itself",
		}
	case 13868:
		return winStatus{"ERROR_IPSEC_IKE_POLICY_MATCH", "its algorithms are others than ours", windowsFix}
	case 13885:
		return winStatus{"SA_DELETE", "we have deleted the SA", "see why in our log"}
	}
	return winStatus{"an error that we do not know", "it answered with this error", fmt.Sprintf("on Windows, certutil -error %d tells what it means", code)}
}

// explainWindows puts what MS_STATUS says into an error: a number of Windows in four octets.
func (err *Error) explainWindows(n *message.Notify) *Error {
	if n.Notify != message.MSStatus || len(n.Data) != 4 {
		return err
	}
	code := binary.BigEndian.Uint32(n.Data)
	s := winStatusOf(code)
	err.Why = fmt.Sprintf("Windows says %d, %s: %s", code, s.name, s.why)
	err.Hint = s.hint
	return err
}

// warnWindows tells what a Windows client says of us on its own.
func (s *ikeSA) warnWindows(n *message.Notify) {
	err := (&Error{}).explainWindows(n)
	if err.Why != "" {
		s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Text: err.Why + "; " + err.Hint})
	}
}
