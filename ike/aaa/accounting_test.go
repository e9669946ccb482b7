package aaa

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"
)

func record(kind RecordKind) Record {
	return Record{
		Kind: kind, At: time.Now(), User: "alice", Class: [][]byte{[]byte("admins")},
		Caller:    Caller{Session: "s1", Connection: "clients", Peer: netip.MustParseAddr("2001:db8::7"), Local: netip.MustParseAddr("2001:db8::1")},
		Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00::7")},
		Time:      90 * time.Second,
		Usage:     Usage{InPackets: 3, InOctets: 5<<32 | 7, OutPackets: 4, OutOctets: 9},
		Cause:     CauseLostCarrier,
	}
}

// accountable answers every record after some that are lost.
func accountable(t testing.TB, lost int) *fake {
	return &fake{t: t, answer: func(n int, b []byte) [][]byte {
		if n < lost {
			return nil
		}
		p := answerTo(t, b, radius.CodeAccountingResponse)
		p.Del(rfc2869.MessageAuthenticator_Type) // RFC 2866 knows none
		return [][]byte{sealed(t, p)}
	}}
}

func TestAccounting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := accountable(t, 0)
		r := client(t, f)
		for _, kind := range []RecordKind{RecordOn, RecordStart, RecordInterim, RecordStop} {
			r.Account(record(kind))
		}
		r.Close(t.Context())
		seen := f.seen()
		if len(seen) != 4 {
			t.Fatalf("%d records arrived", len(seen))
		}
		for i, kind := range []RecordKind{RecordOn, RecordStart, RecordInterim, RecordStop} {
			p := request(t, seen[i])
			if n, _ := number(p, rfc2866.AcctStatusType_Type); n != uint32(kind) {
				t.Fatalf("record %d has status %d, want %d", i, n, kind)
			}
			for typ, want := range map[radius.Type]string{
				rfc2866.AcctSessionID_Type: "s1", rfc2865.NASIdentifier_Type: "gateway.test", rfc2865.CallingStationID_Type: "2001:db8::7",
			} {
				if got := string(p.Get(typ)); got != want {
					t.Errorf("record %d: attribute %d is %q", i, typ, got)
				}
			}
			if kind == RecordOn {
				continue
			}
			for typ, want := range map[radius.Type]string{
				rfc2865.UserName_Type: "alice", rfc2865.Class_Type: "admins", rfc2865.FramedIPAddress_Type: "\x0a\x09\x00\x07",
				rfc6911.FramedIPv6Address_Type: string(netip.MustParseAddr("fd00::7").AsSlice()),
			} {
				if got := string(p.Get(typ)); got != want {
					t.Errorf("record %d: attribute %d is %q", i, typ, got)
				}
			}
			for typ, want := range map[radius.Type]uint32{
				rfc2866.AcctInputOctets_Type: 7, rfc2869.AcctInputGigawords_Type: 5, rfc2866.AcctOutputOctets_Type: 9,
				rfc2866.AcctInputPackets_Type: 3, rfc2866.AcctOutputPackets_Type: 4, rfc2866.AcctSessionTime_Type: 90,
			} {
				n, ok := number(p, typ)
				if ok == (kind == RecordStart) || ok && n != want {
					t.Errorf("record %d: attribute %d is %d, %v", i, typ, n, ok)
				}
			}
			if n, ok := number(p, rfc2866.AcctTerminateCause_Type); ok != (kind == RecordStop) || ok && n != uint32(CauseLostCarrier) {
				t.Errorf("record %d: cause %d, %v", i, n, ok)
			}
		}
	})
}

// TestAccountingIsTriedAgain: a record outlives a server that is silent for minutes, and says
// then how old it is.
func TestAccountingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lost = 10
		f := accountable(t, lost)
		r := client(t, f)
		r.Account(record(RecordStop))
		r.Close(t.Context())
		seen := f.seen()
		if len(seen) != lost+1 {
			t.Fatalf("%d transmissions", len(seen))
		}
		if n, _ := number(request(t, seen[lost]), rfc2866.AcctDelayTime_Type); n < 20 || n > 60 {
			t.Errorf("Acct-Delay-Time is %d", n)
		}
	})
}

// TestAccountingNeverBlocks: with a server that takes nothing, queueing returns at once, and
// so does the end of the program.
func TestAccountingNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := accountable(t, 1<<30)
		r := client(t, f)
		began := time.Now()
		for range 5 * queuedRecords {
			r.Account(record(RecordStart))
			r.Account(record(RecordInterim))
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("queueing took %v", took)
		}
		if r.account.lost == 0 {
			t.Error("the queue has no bound")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r.Close(ctx)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("closing took %v", took)
		}
		r.Account(record(RecordStop)) // after the end: no panic
	})
}

// TestAccountingIsApart: a server that takes no records is still asked for logins first.
func TestAccountingIsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &fake{t: t, answer: func(_ int, b []byte) [][]byte {
			if radius.Code(b[0]) != radius.CodeAccessRequest {
				return nil
			}
			return [][]byte{sealed(t, accept(t, b))}
		}}
		second := accountable(t, 0)
		r := client(t, first, second)
		r.Account(record(RecordStart))
		time.Sleep(20 * time.Second)
		if n := len(second.seen()); n != 1 {
			t.Fatalf("the second server has %d records", n)
		}
		before := len(first.seen())
		if _, err := conversation(r).Send(t.Context(), identityPacket("alice")); err != nil || len(first.seen()) != before+1 {
			t.Errorf("the first server was not asked: %v", err)
		}
		r.Close(t.Context())
	})
}
