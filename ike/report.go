package ike

import (
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Happening is what a Report tells. The set is closed.
type Happening interface{ happening() }

// Stage is a named step of setting up an IKE SA.
type Stage string

const (
	StageInit         Stage = "IKE_SA_INIT"
	StageIntermediate Stage = "IKE_INTERMEDIATE" // only with additional key exchanges
	StageAuth         Stage = "IKE_AUTH"
	StageChild        Stage = "child"
)

type (
	// StageDone tells that a stage ended well and how long it took.
	StageDone struct {
		SA         SAID
		Connection string
		Stage      Stage
		Took       time.Duration
	}
	// Established tells that both AUTH payloads were verified.
	Established struct{ Status Status }
	// PathChanged tells that ESP goes another way: one of the sides has moved, or the
	// mapping of a NAT has changed.
	PathChanged struct {
		SA           SAID
		Connection   string
		Before, Path Path
	}
	// Rekeyed tells that New has the place of Old, with its children; of Old nothing
	// more is told. The SAID is another, all else of the Status that a person sees is
	// as it was.
	Rekeyed struct {
		Old, New SAID
		Status   Status
	}
	// RekeyFailed tells that a child SA, or, where Name is empty, an IKE SA could not be
	// replaced. It stays, and while there is time it is tried again.
	RekeyFailed struct {
		SA         SAID
		Connection string
		Peer       pki.Identity
		Path       Path
		Name       string
		Err        *Error
	}
	// ChildUp tells that a child SA was installed: a new one, or one in place of
	// Replaces, whose ChildDown follows.
	ChildUp struct {
		Child    ChildInfo
		Replaces ChildID
	}
	// ChildDown tells that a child SA is gone. Replaced says that another one has its
	// place.
	ChildDown struct {
		Child      ChildID
		SA         SAID
		Connection string
		Name       string
		Reason     string
		Replaced   bool
	}
	// ChildFailed tells that a child could not be opened; the IKE SA stays.
	ChildFailed struct {
		SA         SAID
		Connection string
		Peer       pki.Identity
		Path       Path
		Name       string
		Err        *Error
	}
	// ChildStands answers an Acquire for which there is nothing to do: what it wants is there.
	ChildStands struct {
		SA         SAID
		Connection string
		Name       string
	}
	// Down tells that an IKE SA is gone, whatever its state was. Err is nil if it
	// was closed in order, by either side.
	// Replaced says that another SA of the connection has, or still has, its place and
	// children, or is on its way there: then another Down follows if that comes to nothing.
	Down struct {
		SA          SAID
		Connection  string
		Initiator   bool
		Established bool
		Replaced    bool
		Ticket      TicketID // that the peer has of us and that goes with the SA, zero for none
		Peer        pki.Identity
		Path        Path
		Reason      string
		Err         *Error
	}
	// PathMTU answers a ProbeMTU. Size is the largest outer packet that passed on Path, headers of IP
	// included, on the way to the peer; of the way back it says nothing. Without Passed it is the
	// Low of the question, as nothing above passed; or 0, as there is no way to know (on a
	// stream, and with a peer that cannot put fragments together). A cipher that works in
	// blocks cannot make every size; then Size is up to 15 octets less than what was asked for.
	PathMTU struct {
		SA         SAID
		Connection string
		Path       Path
		Size       int
		Passed     bool
	}
	// Alive answers a Check: the peer has the SA.
	Alive struct{ SA SAID }
	// Warned tells something that a person should know though it stops nothing.
	Warned struct {
		SA         SAID
		Connection string
		Path       Path
		Text       string
	}
	// Redirected tells that a gateway sends us to another (RFC 5685 §1), and which SA goes on
	// from here: the same one in IKE_SA_INIT, a new one later.
	Redirected struct {
		SA, New    SAID
		Connection string
		Path       Path // to the gateway that redirects
		To         string
	}
	// Refused tells that a message was dropped or an initiator turned away before
	// an SA came of it. It may come in floods: count it, log it sparingly.
	Refused struct {
		Path   Path
		Reason Drop
		Err    error
	}
)

func (StageDone) happening()   {}
func (Established) happening() {}
func (PathChanged) happening() {}
func (Rekeyed) happening()     {}
func (RekeyFailed) happening() {}
func (ChildUp) happening()     {}
func (ChildDown) happening()   {}
func (ChildFailed) happening() {}
func (ChildStands) happening() {}
func (Down) happening()        {}
func (PathMTU) happening()     {}
func (Alive) happening()       {}
func (Warned) happening()      {}
func (Redirected) happening()  {}
func (Refused) happening()     {}

// Status is an IKE SA as people see it.
type Status struct {
	SA            SAID
	Connection    string
	Initiator     bool   // we opened the connection; rekeying does not change that
	State         string // "connecting", "established", "deleting"
	SPIi, SPIr    message.SPI
	Line          message.SPI // SPIi of when it was established; rekeying does not change that
	Path          Path
	Local, Remote pki.Identity
	Suite         suite.Suite
	Lease         Lease
	Since         time.Time
	Stages        []StageDone
	Extensions    []string // what the peer supports, by notify name
	Conditions    []string // what is true now: "nat-here", "nat-there", "encap-forced"
	Children      []ChildInfo
	Incomplete    []string // configured children of which an SA is missing that was there

	Heard       time.Time     // when something authentic last came by IKE; ESP is the data plane's to tell
	Patience    time.Duration // how long nothing may be heard, by IKE or ESP, until the peer is given up; 0 is for ever
	Rekey, Ends time.Time     // when it is replaced, and when it ends if nobody did; zero is never
}
