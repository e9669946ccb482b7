package aaa

import (
	"context"
	"errors"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"

	"martlet/crypto/suite"
)

// RecordKind is an Acct-Status-Type (RFC 2866 §5.1).
type RecordKind uint32

// The kinds of records.
const (
	RecordStart   RecordKind = 1
	RecordStop    RecordKind = 2
	RecordInterim RecordKind = 3
	RecordOn      RecordKind = 7 // the gateway has started: it has no sessions
	RecordOff     RecordKind = 8 // the gateway ends
)

// Cause is an Acct-Terminate-Cause (RFC 2866 §5.10).
type Cause uint32

// The causes that we tell.
const (
	CauseUserRequest    Cause = 1
	CauseLostCarrier    Cause = 2 // the peer does not answer any more
	CauseSessionTimeout Cause = 5
	CauseAdminReset     Cause = 6 // by command, or by Disconnect-Request
	CauseNASReboot      Cause = 11
	CauseNASError       Cause = 9
)

// Usage is what a session has carried: In came from the peer, Out went to it.
type Usage struct {
	InPackets, InOctets, OutPackets, OutOctets uint64
}

// Add returns the sum of both.
func (u Usage) Add(v Usage) Usage {
	return Usage{
		InPackets: u.InPackets + v.InPackets, InOctets: u.InOctets + v.InOctets,
		OutPackets: u.OutPackets + v.OutPackets, OutOctets: u.OutOctets + v.OutOctets,
	}
}

// Record is an accounting record.
type Record struct {
	Kind      RecordKind
	At        time.Time
	Caller    Caller
	User      string
	Class     [][]byte // of the Access-Accept
	Addresses []netip.Addr
	Time      time.Duration // since the session began
	Usage     Usage
	Cause     Cause // of RecordStop
}

// accounting delivers records in the background. The records of a session go to one worker,
// one after the other, so that they arrive in order.
type accounting struct {
	radius  *RADIUS
	seed    maphash.Seed
	queues  [4]chan Record
	queued  sync.WaitGroup // records that are not delivered or given up
	mu      sync.Mutex
	ended   bool
	lost    uint64
	hurried context.Context // ends when nobody waits for records any more
	hurry   context.CancelFunc
}

const (
	// queuedRecords for each worker; updates are left out from the half of it on.
	queuedRecords = 1024
	// recordLifetime is how long a record is tried.
	recordLifetime = 10 * time.Minute
	// The pauses between tries of a record that no server took.
	firstPause, longestPause = time.Second, time.Minute
)

func (a *accounting) start(r *RADIUS) {
	a.radius, a.seed = r, maphash.MakeSeed()
	a.hurried, a.hurry = context.WithCancel(r.ctx)
	for i := range a.queues {
		a.queues[i] = make(chan Record, queuedRecords)
		r.tasks.Go(func() { a.work(a.queues[i]) })
	}
}

// Account queues a record. It never waits: where the queue is full, as after minutes of a
// silent server, the record is lost and the log says so.
func (r *RADIUS) Account(rec Record) { r.account.put(rec) }

func (a *accounting) put(rec Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	queue := a.queues[maphash.String(a.seed, rec.Caller.Session)%uint64(len(a.queues))]
	if rec.Kind == RecordInterim && len(queue) >= queuedRecords/2 {
		return // the next one says more
	}
	a.queued.Add(1)
	select {
	case queue <- rec:
	default:
		a.queued.Done()
		if a.lost++; a.lost&(a.lost-1) == 0 { // 1, 2, 4, 8 …
			a.radius.log.Error("accounting records are lost: no server takes them, and the queue is full", zap.Uint64("lost", a.lost))
		}
	}
}

// drain waits for what is queued; no more is taken.
func (a *accounting) drain(ctx context.Context) {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	done := make(chan struct{})
	a.radius.tasks.Go(func() {
		a.queued.Wait()
		close(done)
	})
	select {
	case <-done:
	case <-ctx.Done():
		a.radius.log.Error("accounting records are lost: no server takes them, and the program ends")
	}
	a.hurry()
	for _, q := range a.queues {
		close(q)
	}
}

func (a *accounting) work(queue chan Record) {
	for rec := range queue {
		if err := a.deliver(rec); err != nil && a.hurried.Err() == nil {
			a.radius.log.Error("an accounting record is lost", zap.String("session", rec.Caller.Session),
				zap.String("user", rec.User), zap.Error(err))
		}
		a.queued.Done()
	}
}

// deliver tries until a server has taken a record, or nobody wants it any more.
func (a *accounting) deliver(rec Record) error {
	pause := firstPause
	for {
		_, err := a.radius.exchange(a.hurried, nil, func(s *server) *link { return s.acct }, func(secret suite.Secret) *radius.Packet {
			return a.request(rec, secret)
		})
		if err == nil || a.hurried.Err() != nil || time.Since(rec.At) > recordLifetime || rec.Kind == RecordInterim {
			return err
		}
		if silent := (*SilentError)(nil); !errors.As(err, &silent) && !errors.Is(err, errBusy) {
			return err // it cannot be sent at all
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-a.hurried.Done():
			timer.Stop()
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

// request makes an Accounting-Request (RFC 2866 §4.1).
func (a *accounting) request(rec Record, secret suite.Secret) *radius.Packet {
	p := newPacket(radius.CodeAccountingRequest, secret)
	addNumber(p, rfc2866.AcctStatusType_Type, uint32(rec.Kind))
	rec.Caller.describe(p, a.radius.config.NASIdentifier)
	addNumber(p, rfc2869.EventTimestamp_Type, uint32(rec.At.Unix()))
	addNumber(p, rfc2866.AcctDelayTime_Type, uint32(time.Since(rec.At)/time.Second))
	if rec.Kind == RecordOn || rec.Kind == RecordOff {
		return p
	}
	addText(p, rfc2865.UserName_Type, rec.User)
	addNumber(p, rfc2866.AcctAuthentic_Type, uint32(rfc2866.AcctAuthentic_Value_RADIUS))
	for _, addr := range rec.Addresses {
		if addr.Is4() {
			p.Add(rfc2865.FramedIPAddress_Type, addr.AsSlice())
		} else {
			p.Add(rfc6911.FramedIPv6Address_Type, addr.AsSlice())
		}
	}
	for _, class := range rec.Class {
		p.Add(rfc2865.Class_Type, class)
	}
	if rec.Kind == RecordStart {
		return p
	}
	addNumber(p, rfc2866.AcctSessionTime_Type, uint32(rec.Time/time.Second))
	for _, count := range []struct {
		low, high radius.Type
		n         uint64
	}{
		{rfc2866.AcctInputOctets_Type, rfc2869.AcctInputGigawords_Type, rec.Usage.InOctets},
		{rfc2866.AcctOutputOctets_Type, rfc2869.AcctOutputGigawords_Type, rec.Usage.OutOctets},
		{rfc2866.AcctInputPackets_Type, 0, rec.Usage.InPackets},
		{rfc2866.AcctOutputPackets_Type, 0, rec.Usage.OutPackets},
	} {
		addNumber(p, count.low, uint32(count.n))
		if count.high != 0 && count.n>>32 > 0 {
			addNumber(p, count.high, uint32(count.n>>32))
		}
	}
	if rec.Kind == RecordStop {
		addNumber(p, rfc2866.AcctTerminateCause_Type, uint32(rec.Cause))
	}
	return p
}
