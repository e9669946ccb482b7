package martlet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ocsp"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike"
)

// web is a network of HTTP servers by host, in memory, for a bubble of synctest.
type web struct {
	t     *testing.T
	hosts map[string]chan net.Conn
	asked sync.Map // URL to *atomic.Int64
	fetch *fetcher
}

// newWeb starts a server for each host; all end with the test.
func newWeb(t *testing.T, hosts map[string]http.HandlerFunc) *web {
	w := &web{t: t, hosts: map[string]chan net.Conn{}}
	life, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	var servers []*http.Server
	for name, handler := range hosts {
		l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
		w.hosts[name+":80"] = l.conns
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			n, _ := w.asked.LoadOrStore("http://"+r.Host+r.URL.Path, &atomic.Int64{})
			n.(*atomic.Int64).Add(1)
			handler(rw, r)
		})}
		tasks.Go(func() { _ = server.Serve(l) })
		servers = append(servers, server)
	}
	t.Cleanup(func() {
		cancel()
		for _, s := range servers {
			_ = s.Close()
		}
		tasks.Wait()
	})
	w.fetch = newFetcher(life, &tasks, func(ctx context.Context, _, address string) (net.Conn, error) {
		at := w.hosts[address]
		if at == nil {
			return nil, errors.New("connection refused")
		}
		ours, theirs := net.Pipe()
		select {
		case at <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-life.Done(): // a request that found another connection leaves its own behind
			return nil, life.Err()
		}
	})
	return w
}

func (w *web) times(url string) int64 {
	n, ok := w.asked.Load(url)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// bureau is a CA with a CA below it that tell what they revoked, and certificates of both.
type bureau struct {
	t         *testing.T
	root, sub *pki.Authority
	leaf      *pki.Credential
	listed    atomic.Bool // the leaf is on the list of sub
	revoked   atomic.Bool // the responder says that the leaf is revoked
}

func newBureau(t *testing.T) *bureau {
	t.Helper()
	now := time.Now()
	root, err := pki.NewAuthority("Root", now, 0, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	root.CRL = []string{"http://crl.example/root.crl"}
	sub, err := root.Intermediate("Sub", now, 0, pki.ECDSAP256, pki.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bureau{t: t, root: root, sub: sub}
	b.leaf = b.issue()
	return b
}

func (b *bureau) issue() *pki.Credential {
	b.t.Helper()
	cred, err := b.sub.Issue(pki.Request{DNSNames: []string{"vpn.example.com"}, Now: time.Now(), Key: pki.ECDSAP256})
	if err != nil {
		b.t.Fatal(err)
	}
	return cred
}

func (b *bureau) chain(c *pki.Credential) []*x509.Certificate {
	return []*x509.Certificate{c.Cert, b.sub.Cert, b.root.Cert}
}

func (b *bureau) crl(ca *pki.Authority, list ...pki.RevokedCert) []byte {
	der, err := ca.IssueCRL(list, 1, time.Now(), time.Now().Add(24*time.Hour))
	if err != nil {
		b.t.Error(err)
	}
	return der
}

func (b *bureau) entry() pki.RevokedCert {
	return pki.RevokedCert{Serial: b.leaf.Cert.SerialNumber, At: time.Now(), Reason: 1}
}

func (b *bureau) lists(rw http.ResponseWriter, r *http.Request) {
	ca, list := b.root, []pki.RevokedCert(nil)
	if r.URL.Path == "/sub.crl" {
		ca = b.sub
		if b.listed.Load() {
			list = append(list, b.entry())
		}
	}
	_, _ = rw.Write(b.crl(ca, list...))
}

func (b *bureau) responder(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	q, err := ocsp.ParseRequest(body)
	if err != nil || r.Header.Get("Content-Type") != "application/ocsp-request" {
		b.t.Errorf("no request: %v", err)
		return
	}
	answer := ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	if b.revoked.Load() {
		answer.Status, answer.RevokedAt, answer.RevocationReason = ocsp.Revoked, time.Now(), 1
	}
	der, err := ocsp.CreateResponse(b.sub.Cert, b.sub.Cert, answer, b.sub.Key)
	if err != nil {
		b.t.Error(err)
	}
	_, _ = rw.Write(der)
}

func (b *bureau) asks(w *web, crls ...string) *revocation {
	c := &config.Config{Connections: map[string]*config.Connection{"office": {
		Peer: config.Auth{CRL: crls, Verifier: pki.Verifier{Roots: []*x509.Certificate{b.root.Cert}}},
	}}}
	return newRevocation(c, w.fetch, zap.NewNop())
}

// says is the code of the error with which a chain is refused, or nothing.
func says(r *revocation, q ike.Vouch) string {
	err := r.judge(context.Background(), q).Err
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*pki.CertError](err); ok {
		return e.Code
	}
	return err.Error()
}

func TestRevocation(t *testing.T) {
	type places struct{ crl, ocsp bool }
	for _, c := range []struct {
		name            string
		names           places // what the certificate names
		serves          places // what answers
		listed, revoked bool
		relaxed, strict string
	}{
		{"nothing is named", places{}, places{}, false, false, "", pki.CodeRevocationUnknown},
		{"a list", places{crl: true}, places{crl: true}, false, false, "", ""},
		{"on the list", places{crl: true}, places{crl: true}, true, false, pki.CodeRevoked, pki.CodeRevoked},
		{"a responder", places{ocsp: true}, places{crl: true, ocsp: true}, false, false, "", ""},
		{"revoked by the responder", places{ocsp: true}, places{crl: true, ocsp: true}, false, true, pki.CodeRevoked, pki.CodeRevoked},
		{"both", places{true, true}, places{true, true}, false, false, "", ""},
		{"the responder is dead, a list is there", places{true, true}, places{crl: true}, false, false, "", ""},
		{"the responder is dead, on the list", places{true, true}, places{crl: true}, true, false, pki.CodeRevoked, pki.CodeRevoked},
		{"all are dead", places{true, true}, places{}, true, true, "", pki.CodeRevocationUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBureau(t)
				if c.names.crl {
					b.sub.CRL = []string{"http://crl.example/sub.crl"}
				}
				if c.names.ocsp {
					b.sub.OCSP = []string{"http://ocsp.example/"}
				}
				b.leaf = b.issue()
				b.listed.Store(c.listed)
				b.revoked.Store(c.revoked)
				hosts := map[string]http.HandlerFunc{}
				if c.serves.crl {
					hosts["crl.example"] = b.lists
				}
				if c.serves.ocsp {
					hosts["ocsp.example"] = b.responder
				}
				w := newWeb(t, hosts)
				r := b.asks(w)
				q := ike.Vouch{Chain: b.chain(b.leaf), Policy: pki.RevocationRelaxed}
				if got := says(r, q); got != c.relaxed {
					t.Errorf("relaxed: %q, want %q", got, c.relaxed)
				}
				q.Policy = pki.RevocationStrict
				if got := says(r, q); got != c.strict {
					t.Errorf("strict: %q, want %q", got, c.strict)
				}
				if n := w.times("http://crl.example/root.crl"); n > 1 {
					t.Errorf("a list was fetched %d times", n)
				}
			})
		})
	}
}

// TestRevocationAtHand: what the peer sends along and local lists spare the fetch, and a local
// list that has the certificate beats everything.
func TestRevocationAtHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t)
		b.sub.OCSP = []string{"http://ocsp.example/"}
		b.leaf = b.issue()
		w := newWeb(t, map[string]http.HandlerFunc{"crl.example": b.lists, "ocsp.example": b.responder})
		r := b.asks(w)
		staple := r.staple(context.Background(), &pki.Credential{Cert: b.leaf.Cert, Chain: b.leaf.Chain})
		if len(staple) == 0 || w.times("http://ocsp.example/") != 1 {
			t.Fatal("nothing to staple")
		}
		// Another gateway, which never asked.
		dir := t.TempDir()
		r = b.asks(newWeb(t, nil), dir)
		q := ike.Vouch{Chain: b.chain(b.leaf), Policy: pki.RevocationStrict, Stapled: [][]byte{[]byte("junk"), staple}}
		if got := says(r, q); got != pki.CodeRevocationUnknown {
			t.Errorf("of the CA in between nobody spoke: %q", got)
		}
		put := func(name string, b []byte) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lookAgain)
		}
		put("root.crl", b.crl(b.root))
		if got := says(r, q); got != "" {
			t.Errorf("stapled and a list: %q", got)
		}
		q.Stapled = nil
		if got := says(r, q); got != pki.CodeRevocationUnknown {
			t.Errorf("not stapled: %q", got)
		}
		put("sub.pem", pki.EncodeCRL(b.crl(b.sub)))
		if got := says(r, q); got != "" {
			t.Errorf("two lists: %q", got)
		}
		put("sub.pem", pki.EncodeCRL(b.crl(b.sub, b.entry())))
		q.Stapled = [][]byte{staple}
		if got := says(r, q); got != pki.CodeRevoked {
			t.Errorf("on the new list: %q", got)
		}
		put("sub.pem", []byte("not a list"))
		put("README.md", []byte("not looked at"))
		if got := says(r, q); got != pki.CodeRevoked {
			t.Errorf("a broken file in place of the list: %q", got)
		}
		// Nothing is stapled that says revoked, or where nobody is asked.
		b.revoked.Store(true)
		for _, cred := range []*pki.Credential{{Cert: b.leaf.Cert, Chain: b.leaf.Chain}, {Cert: b.leaf.Cert}, {Cert: b.root.Cert}} {
			if der := b.asks(newWeb(t, map[string]http.HandlerFunc{"ocsp.example": b.responder})).staple(context.Background(), cred); der != nil {
				t.Error("stapled")
			}
		}
	})
}

// TestRow49Fetch: limits in time, size and redirects, and a dripping server that keeps up
// nobody else.
func TestRow49Fetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t)
		drip := func(rw http.ResponseWriter, r *http.Request) {
			for {
				if _, err := rw.Write([]byte{0x30}); err != nil {
					return
				}
				rw.(http.Flusher).Flush()
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
					return
				}
			}
		}
		w := newWeb(t, map[string]http.HandlerFunc{
			"slow.example": drip,
			"crl.example":  b.lists,
			"odd.example": func(rw http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/big":
					_, _ = rw.Write(make([]byte, maxFetched+1))
				case "/junk":
					_, _ = rw.Write([]byte("junk"))
				case "/loop":
					http.Redirect(rw, r, "/loop", http.StatusFound)
				case "/moved":
					http.Redirect(rw, r, "http://crl.example/root.crl", http.StatusMovedPermanently)
				case "/none":
					http.NotFound(rw, r)
				default:
					http.Redirect(rw, r, strings.TrimPrefix(r.URL.Path, "/to/")+"://crl.example/root.crl", http.StatusFound)
				}
			},
		})
		get := func(path string) *fetched {
			return w.fetch.get(context.Background(), fetchKey{source: pki.Source{URL: "http://odd.example" + path}}, nil)
		}
		for path, want := range map[string]string{
			"/big": "more than", "/junk": "revocation list", "/loop": "too many redirects", "/none": "404",
			"/to/https": "redirected from http to https", "/to/ftp": "redirected", "/to/file": "redirected",
		} {
			if got := get(path); got.err == nil || !strings.Contains(got.err.Error(), want) {
				t.Errorf("%s: %v, want %s", path, got.err, want)
			}
		}
		if got := get("/moved"); got.err != nil {
			t.Error(got.err)
		}

		// A thousand peers wait for a server that drips; one more asks another.
		started := time.Now()
		var wait sync.WaitGroup
		var failed atomic.Int64
		for i := range 1000 {
			wait.Go(func() {
				key := fetchKey{source: pki.Source{URL: fmt.Sprintf("http://slow.example/%d", i%100)}}
				if w.fetch.get(context.Background(), key, nil).err != nil {
					failed.Add(1)
				}
			})
		}
		synctest.Wait()
		if got := w.fetch.get(context.Background(), fetchKey{source: pki.Source{URL: "http://crl.example/root.crl"}}, nil); got.err != nil || time.Since(started) > time.Second {
			t.Errorf("a fetch from elsewhere took %v: %v", time.Since(started), got.err)
		}
		wait.Wait()
		if took := time.Since(started); failed.Load() != 1000 || took > fetchTimeout {
			t.Errorf("%d of 1000 failed, after %v", failed.Load(), took)
		}
		// They are not asked again at once.
		for i := range 100 {
			if got := w.fetch.get(context.Background(), fetchKey{source: pki.Source{URL: fmt.Sprintf("http://slow.example/%d", i)}}, nil); got.err == nil {
				t.Error("a failure is forgotten")
			}
		}
		if time.Since(started) > fetchTimeout {
			t.Error("what failed was asked again")
		}
		if len(w.fetch.flights) != 0 || len(w.fetch.hosts) != 0 {
			t.Error("something is still under way")
		}
	})
}

// TestFetchOnce: all wait for one fetch, what is known is not fetched again while it is
// fresh, then behind the back of who asks, and what is valid outlives its server.
func TestFetchOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t)
		var dead atomic.Bool
		w := newWeb(t, map[string]http.HandlerFunc{"crl.example": func(rw http.ResponseWriter, r *http.Request) {
			if dead.Load() {
				http.Error(rw, "dead", http.StatusBadGateway)
				return
			}
			time.Sleep(time.Second)
			b.lists(rw, r)
		}})
		const url = "http://crl.example/root.crl"
		key := fetchKey{source: pki.Source{URL: url}}
		var wait sync.WaitGroup
		for range 100 {
			wait.Go(func() {
				if got := w.fetch.get(context.Background(), key, nil); got.err != nil {
					t.Error(got.err)
				}
			})
		}
		// One who has no patience goes without it.
		hasty, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if got := w.fetch.get(hasty, key, nil); got.err == nil {
			t.Error("there before it was fetched")
		}
		wait.Wait()
		ask := func(what string, want int64) {
			t.Helper()
			started := time.Now()
			if got := w.fetch.get(context.Background(), key, nil); got.err != nil || !time.Now().Equal(started) {
				t.Errorf("%s: %v after %v", what, got.err, time.Since(started))
			}
			time.Sleep(2 * time.Second)
			if n := w.times(url); n != want {
				t.Errorf("%s: fetched %d times, want %d", what, n, want)
			}
		}
		ask("fresh", 1)
		time.Sleep(freshFor)
		ask("valid", 2)
		ask("fresh again", 2)
		dead.Store(true)
		time.Sleep(freshFor)
		ask("valid, server dead", 3)
		ask("not asked again at once", 3)
		time.Sleep(48 * time.Hour)
		if got := w.fetch.get(context.Background(), key, nil); got.err == nil {
			t.Error("outlived its validity")
		}
	})
}

// TestRow51BoundedCache: a million certificates leave no more behind than a few thousand.
func TestRow51BoundedCache(t *testing.T) {
	f := newFetcher(t.Context(), nil, nil)
	put := func(i, size int) {
		f.cache.put(fetchKey{pki.Source{URL: "http://ocsp.example/", OCSP: true}, fmt.Sprint(i)}, &fetched{size: size})
	}
	for i := range 1_000_000 {
		put(i, 2000)
	}
	if n := len(f.cache.entries); n != maxCached || f.cache.order.Len() != n || f.cache.size != n*2000 {
		t.Errorf("%d entries of %d octets", n, f.cache.size)
	}
	for i := range 1000 {
		put(-i, maxFetched)
	}
	if f.cache.size > maxCachedSize {
		t.Errorf("%d octets", f.cache.size)
	}
	put(0, 2*maxCachedSize) // alone, it may stay
	if len(f.cache.entries) != 1 {
		t.Errorf("%d entries", len(f.cache.entries))
	}
	put(0, 1)
	if len(f.cache.entries) != 1 || f.cache.size != 1 {
		t.Errorf("%d entries of %d octets", len(f.cache.entries), f.cache.size)
	}
}

// What a certificate names is asked only where the file lets it, and nowhere else by a detour.
func TestRevocationHosts(t *testing.T) {
	for _, c := range []struct {
		name    string
		allowed []string
		url     string
		ok      bool
	}{
		{"no list", nil, "http://crl.example/sub.crl", true},
		{"on the list", []string{"other.example", "CRL.example."}, "http://crl.example/sub.crl", true},
		{"below", []string{"*.example"}, "http://crl.example/sub.crl", true},
		{"not on the list", []string{"ocsp.example"}, "http://crl.example/sub.crl", false},
		{"not below", []string{"*.crl.example"}, "http://crl.example/sub.crl", false},
		{"with a name that only ends so", []string{"*.l.example", "rl.example"}, "http://crl.example/sub.crl", false},
		{"an address in another form", []string{"192.0.2.7", "crl.example"}, "http://[::ffff:192.0.2.7]:80/sub.crl", true},
		{"another address", []string{"192.0.2.7", "crl.example"}, "http://192.0.2.70/sub.crl", false},
		{"a detour", []string{"detour.example"}, "http://detour.example/sub.crl", false},
		{"a detour to the list", []string{"detour.example", "crl.example"}, "http://detour.example/sub.crl", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBureau(t)
				b.sub.CRL = []string{c.url}
				b.leaf = b.issue()
				w := newWeb(t, map[string]http.HandlerFunc{
					"crl.example": b.lists, "192.0.2.7": b.lists, "[::ffff:192.0.2.7]": b.lists, "192.0.2.70": b.lists,
					"detour.example": func(rw http.ResponseWriter, r *http.Request) {
						http.Redirect(rw, r, "http://crl.example/sub.crl", http.StatusFound)
					},
				})
				r := b.asks(w)
				w.fetch.allow(c.allowed)
				q := ike.Vouch{Chain: b.chain(b.leaf), Policy: pki.RevocationStrict}
				err := r.judge(context.Background(), q).Err
				if (err == nil) != c.ok {
					t.Fatalf("%v", err)
				}
				if c.ok {
					// The list may become another one by a reload, and what is remembered of before does not count.
					w.fetch.allow([]string{"nowhere.example"})
					err = r.judge(context.Background(), q).Err
				} else if n := w.times("http://crl.example/sub.crl"); n > 0 {
					t.Errorf("it was asked %d times", n)
				}
				if e, known := errors.AsType[*pki.CertError](err); !known || e.Code != pki.CodeRevocationUnknown || !strings.Contains(fmt.Sprint(e.Error(), e), "node.revocation_hosts") {
					t.Errorf("%+v", err)
				}
			})
		})
	}
}
