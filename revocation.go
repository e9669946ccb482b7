package martlet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike"
)

const (
	// vouchTimeout is how long a peer waits for what is fetched about it; its
	// IKE_AUTH is repeated meanwhile, and a half-open SA lives longer.
	vouchTimeout = 10 * time.Second
	// lookAgain is how often the local lists are looked at for changes.
	lookAgain = 10 * time.Second
)

// revocation answers whether certificates are revoked, and gets what we staple to our own
// (RFC 4806 §3). It is asked about chains that were verified only.
type revocation struct {
	fetch *fetcher
	local localCRLs
	roots []*x509.Certificate // all that are trusted by any connection
}

func newRevocation(c *config.Config, f *fetcher, log *zap.Logger) *revocation {
	f.allow(c.Node.RevocationHosts)
	r := &revocation{fetch: f, local: localCRLs{log: log, from: c.Files()}}
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		for _, peer := range []*config.Auth{&c.Connections[name].Peer, &c.Connections[name].Peer2} {
			r.roots = append(r.roots, peer.Verifier.Roots...)
			for _, path := range peer.CRL {
				if !slices.ContainsFunc(r.local.files, func(l *localCRL) bool { return l.path == path }) {
					r.local.files = append(r.local.files, &localCRL{path: path})
				}
			}
		}
	}
	return r
}

// outsideDialer dials as the host does, past the tunnel where there is one: what is asked here is
// what decides whether it may stand, or can.
func (n *Node) outsideDialer() func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{Resolver: n.outside}
	if n.Host {
		d.Control = n.control
	}
	return d.DialContext
}

// judge judges a chain. Its certificates are asked about at the same time.
func (r *revocation) judge(ctx context.Context, q ike.Vouch) ike.Vouched {
	ctx, cancel := context.WithTimeout(ctx, vouchTimeout)
	defer cancel()
	links := pki.Links(q.Chain)
	errs := make([]error, len(links))
	var wait sync.WaitGroup
	for i, link := range links {
		wait.Go(func() { errs[i] = q.Policy.Judge(link, r.status(ctx, link, q.Stapled)) })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return ike.Vouched{Err: err}
		}
	}
	return ike.Vouched{}
}

// status asks in turn the lists at hand, what the peer sent along, and the places
// that the certificate names, until one knows.
func (r *revocation) status(ctx context.Context, l pki.Link, stapled [][]byte) pki.Status {
	now := time.Now()
	local := r.local.status(l, now)
	if local.State == pki.StateRevoked {
		return local
	}
	for _, der := range stapled {
		if s := l.CheckOCSP(der, now); s.State != pki.StateUnknown {
			return s
		}
	}
	if local.State == pki.StateGood {
		return local
	}
	best := local
	for _, source := range l.Sources() {
		s := r.from(ctx, l, source)
		if s.State != pki.StateUnknown {
			return s
		}
		best = s
	}
	return best
}

// from asks one place.
func (r *revocation) from(ctx context.Context, l pki.Link, source pki.Source) pki.Status {
	if source.OCSP {
		_, s := r.ocsp(ctx, l, source)
		return s
	}
	got := r.fetch.get(ctx, fetchKey{source: source}, nil)
	if got.err != nil {
		return pki.Status{Why: got.err.Error()}
	}
	return got.crl.Status(l, time.Now())
}

// ocsp asks a responder.
func (r *revocation) ocsp(ctx context.Context, l pki.Link, source pki.Source) ([]byte, pki.Status) {
	request, err := l.OCSPRequest()
	if err != nil {
		return nil, pki.Status{Why: err.Error()}
	}
	hash := sha256.Sum256(append(slices.Clone(l.Cert.Raw), l.Issuer.RawSubjectPublicKeyInfo...))
	key := fetchKey{source, string(hash[:])}
	got := r.fetch.get(ctx, key, request)
	if got.err != nil {
		return nil, pki.Status{Why: got.err.Error()}
	}
	s := l.CheckOCSP(got.ocsp, time.Now())
	r.fetch.settle(key, got, s.Until)
	return got.ocsp, s
}

// staple gets an OCSP response about our own certificate, if its responder is reachable and
// calls it good.
func (r *revocation) staple(ctx context.Context, c *pki.Credential) []byte {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	issuers := slices.Concat(c.Chain, r.roots)
	if c.Root != nil {
		issuers = append(issuers, c.Root)
	}
	i := slices.IndexFunc(issuers, func(ca *x509.Certificate) bool { return c.Cert.CheckSignatureFrom(ca) == nil })
	if i < 0 {
		return nil
	}
	link := pki.Link{Cert: c.Cert, Issuer: issuers[i]}
	for _, source := range link.Sources() {
		if !source.OCSP {
			continue
		}
		if der, s := r.ocsp(ctx, link, source); s.State == pki.StateGood {
			return der
		}
	}
	return nil
}

// localCRLs are the lists in configured files and folders.
type localCRLs struct {
	log  *zap.Logger
	from config.Files

	mu     sync.Mutex
	looked time.Time
	files  []*localCRL
}

type localCRL struct {
	path  string
	stamp string // tells when something changed
	crls  []*pki.CRL
}

// status is the worst that any list says.
func (l *localCRLs) status(link pki.Link, now time.Time) pki.Status {
	var worst pki.Status
	for _, crl := range l.lists(now) {
		s := crl.Status(link, now)
		if s.State > worst.State || worst.Why == "" && s.State == worst.State {
			worst = s
		}
	}
	return worst
}

// lists reads what changed. Files that cannot be read any more leave what was read before.
func (l *localCRLs) lists(now time.Time) []*pki.CRL {
	l.mu.Lock()
	defer l.mu.Unlock()
	look := l.looked.IsZero() || now.Sub(l.looked) >= lookAgain
	var all []*pki.CRL
	for _, f := range l.files {
		if look {
			changed, err := f.refresh(l.from)
			if err != nil {
				l.log.Warn("revocation lists cannot be read; those read before are kept", zap.String("path", f.path), zap.Error(err))
			}
			for _, crl := range f.crls {
				if why := crl.Unusable(); why != "" && changed {
					l.log.Warn("a revocation list is of no use", zap.String("path", f.path), zap.String("ca", crl.Issuer()), zap.String("why", why))
				}
			}
		}
		all = append(all, f.crls...)
	}
	if look {
		l.looked = now
	}
	return all
}

// refresh reads the lists again if anything changed, and tells whether it did.
func (f *localCRL) refresh(files config.Files) (changed bool, err error) {
	stamp, err := stampOf(files, f.path)
	if err != nil || stamp == f.stamp {
		return false, err
	}
	crls, err := config.ReadCRLs(files, f.path)
	if err != nil {
		return false, err
	}
	f.stamp, f.crls = stamp, crls
	return true, nil
}

// stampOf changes when a file, or one in a folder, does.
func stampOf(files config.Files, path string) (string, error) {
	info, err := files.Stat(path)
	if err != nil {
		return "", err
	}
	line := func(i fs.FileInfo) string {
		return fmt.Sprintln(i.Name(), i.Size(), i.ModTime().UnixNano())
	}
	stamp := line(info)
	if !info.IsDir() {
		return stamp, nil
	}
	folder, err := files.Open(path)
	if err != nil {
		return "", err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	for _, name := range names {
		// Links are followed: what counts is what they lead to.
		info, err := files.Stat(filepath.Join(path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		stamp += line(info)
	}
	return stamp, nil
}
