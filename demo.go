package martlet

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/ike"
)

// DemoOptions says what the demo does beyond connecting.
type DemoOptions struct {
	Size     int64                   // octets to move through the tunnel
	Pcap     string                  // file for the outer packets; the keys go beside it
	Progress func(done, total int64) // called now and then while they move; may be nil
	Logger   *zap.Logger
}

// DemoReport is what the demo found.
type DemoReport struct {
	OK         bool          `json:"ok"`
	Error      string        `json:"error,omitempty"`
	Stages     []StageStatus `json:"stages"`
	Page       string        `json:"page"`
	Bytes      int64         `json:"bytes"`
	Expected   int64         `json:"bytes_expected"`
	Took       time.Duration `json:"took_ns"`
	BitsPerSec float64       `json:"bits_per_second"`
	Client     SAStatus      `json:"client"`
	Gateway    SAStatus      `json:"gateway"`
	Pcap       string        `json:"pcap,omitempty"`
	KeyLog     string        `json:"key_log,omitempty"`
}

// The demo's inner network: a pool of virtual addresses, and a server behind the gateway.
const (
	demoPool    = "10.77.0.0/24"
	demoGateway = "10.77.0.1"
	demoBehind  = "10.88.0.0/24"
	demoServer  = "10.88.0.10"
	demoName    = "gateway.demo"
	demoClient  = "alice@demo"
)

// Demo runs a gateway and a client in this process: certificates made in memory, real
// UDP sockets on loopback, IKEv2 and ESP between them, and HTTP through the tunnel from a
// server behind the gateway. It needs no privilege. The report is never nil and is
// filled as far as the demo came.
func Demo(ctx context.Context, o DemoOptions) (*DemoReport, error) {
	report := &DemoReport{Expected: o.Size}
	err := demo(ctx, o, report)
	report.OK = err == nil
	if err != nil {
		report.Error = err.Error()
	}
	return report, err
}

func demo(ctx context.Context, o DemoOptions, report *DemoReport) (err error) {
	log := o.Logger
	if log == nil {
		log = zap.NewNop()
	}
	gatewayAuth, clientAuth, err := demoCredentials(time.Now())
	if err != nil {
		return err
	}
	gateway := &Node{Config: demoGatewayConfig(gatewayAuth, clientAuth), Serve: true, Logger: log.Named("gateway")}
	if err := gateway.Config.Complete(); err != nil {
		return err
	}
	if err := gateway.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gateway.Close()) }()
	if err := gateway.stack.AddAddress(netip.MustParseAddr(demoServer)); err != nil {
		return err
	}
	stopServer, err := demoServe(gateway)
	if err != nil {
		return err
	}
	defer stopServer()

	client := &Node{Config: demoClientConfig(clientAuth, gatewayAuth, gateway.Addresses()[0]), Logger: log.Named("client")}
	if o.Pcap != "" {
		done, err := demoCapture(client, o.Pcap, report)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
	}
	if err := client.Config.Complete(); err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()

	events := client.Watch(ctx)
	if err := client.Connect(ctx, ""); err != nil {
		return err
	}
	for ev := range events {
		if ev.Kind == EventStage {
			report.Stages = append(report.Stages, StageStatus{Stage: ev.Stage, Took: ev.Took})
		}
		if ev.Kind == EventChildUp {
			break
		}
	}
	start := time.Now()
	probe, err := client.DialContext(ctx, "tcp", net.JoinHostPort(demoServer, "80"))
	if err != nil {
		return fmt.Errorf("the first packet through the tunnel: %w", err)
	}
	report.Stages = append(report.Stages, StageStatus{Stage: "first packet", Took: time.Since(start)})
	if err := probe.Close(); err != nil {
		return err
	}
	err = demoFetch(ctx, client, o, report)
	report.Client = first(client.Status().SAs)
	report.Gateway = first(gateway.Status().SAs)
	return err
}

func first(sas []SAStatus) SAStatus {
	if len(sas) == 0 {
		return SAStatus{}
	}
	return sas[0]
}

// demoCredentials makes a CA and one certificate for each side.
func demoCredentials(now time.Time) (gateway, client config.Auth, err error) {
	ca, err := pki.NewAuthority("Martlet demo CA", now, 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		return gateway, client, err
	}
	auth := func(req pki.Request) (config.Auth, error) {
		req.Now, req.Validity, req.Key = now, 24*time.Hour, pki.ECDSAP256
		cred, err := ca.Issue(req)
		if err != nil {
			return config.Auth{}, err
		}
		return config.Auth{
			Auth:        "cert",
			ID:          req.CommonName,
			Credentials: []*pki.Credential{cred},
			Verifier:    pki.Verifier{Roots: []*x509.Certificate{ca.Cert}},
		}, nil
	}
	if gateway, err = auth(pki.Request{CommonName: demoName, DNSNames: []string{demoName}, Purpose: pki.ServerAuth}); err != nil {
		return gateway, client, err
	}
	if client, err = auth(pki.Request{CommonName: demoClient, Emails: []string{demoClient}, Purpose: pki.ClientAuth}); err != nil {
		return gateway, client, err
	}
	return gateway, client, nil
}

func demoGatewayConfig(own, peer config.Auth) *config.Config {
	return &config.Config{
		Node:  config.Node{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Pools: map[string]*config.Pool{"clients": {Addresses: []string{demoPool}}},
		Connections: map[string]*config.Connection{"clients": {
			Local:    own,
			Peer:     config.Auth{Auth: "cert", Verifier: peer.Verifier},
			Pool:     []string{"clients"},
			Children: map[string]*config.Child{"net": {Local: []string{demoBehind}}},
		}},
	}
}

func demoClientConfig(own, peer config.Auth, at netip.AddrPort) *config.Config {
	return &config.Config{
		Connections: map[string]*config.Connection{"demo": {
			Remote:   []string{at.Addr().String()},
			Port:     at.Port(),
			Local:    own,
			Peer:     config.Auth{Auth: "cert", ID: demoName, Verifier: peer.Verifier},
			Request:  []string{"ipv4"},
			Children: map[string]*config.Child{"net": {Remote: []string{demoBehind}}},
		}},
	}
}

// demoCapture makes the client write its outer packets and keys, and returns what ends
// that after the client is closed.
func demoCapture(client *Node, path string, report *DemoReport) (done func() error, err error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, &Error{
			Code: ike.CodeHost,
			What: "the capture cannot be written",
			Why:  err.Error(),
			Hint: "name a file in a folder that exists and that you may write",
		}
	}
	if client.Capture, err = NewCapture(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// The tables grow from run to run: they may be the user's own.
	dir := filepath.Dir(path)
	client.Config.Node.KeyLog = dir
	report.Pcap, report.KeyLog = path, dir
	return func() error { return errors.Join(client.Capture.Err(), file.Close()) }, nil
}

const demoPage = "<h1>It flies</h1><p>This page came through IKEv2 and ESP, and no kernel was asked.</p>\n"

// demoServe runs the web server behind the gateway: the page at /, and as many random
// octets as asked for at /data, with their checksum in a trailer.
func demoServe(gateway *Node) (stop func(), err error) {
	listener, err := gateway.Listen("tcp", net.JoinHostPort(demoServer, "80"))
	if err != nil {
		return nil, err
	}
	block := make([]byte, 1<<16)
	if _, err := rand.Read(block); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, demoPage) })
	mux.HandleFunc("GET /data", func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.ParseInt(r.FormValue("size"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Trailer", crcTrailer)
		check := newChecksum()
		for size > 0 {
			n := min(size, int64(len(block)))
			if _, err := w.Write(block[:n]); err != nil {
				return
			}
			check.Write(block[:n])
			size -= n
		}
		w.Header().Set(crcTrailer, strconv.FormatUint(uint64(check.Sum32()), 16))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	gateway.tasks.Go(func() { _ = server.Serve(listener) })
	return func() { _ = server.Close() }, nil
}

const crcTrailer = "Martlet-Crc32c"

// newChecksum sums up what is fetched.
func newChecksum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// demoFetch gets the page and the data through the tunnel and checks that all of it came.
func demoFetch(ctx context.Context, client *Node, o DemoOptions, report *DemoReport) error {
	web := client.HTTPClient()
	defer web.CloseIdleConnections()
	page, err := get(ctx, web, "/")
	if err != nil {
		return err
	}
	text, err := io.ReadAll(page.Body)
	if err = errors.Join(err, page.Body.Close()); err != nil {
		return err
	}
	if report.Page = string(text); report.Page != demoPage {
		return fmt.Errorf("the page came through changed: %q", report.Page)
	}

	start := time.Now()
	data, err := get(ctx, web, "/data?size="+strconv.FormatInt(o.Size, 10))
	if err != nil {
		return err
	}
	defer data.Body.Close()
	check := newChecksum()
	buf := make([]byte, 1<<18)
	for {
		n, err := data.Body.Read(buf)
		check.Write(buf[:n])
		report.Bytes += int64(n)
		if o.Progress != nil && n > 0 {
			o.Progress(report.Bytes, o.Size)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d octets: %w", report.Bytes, err)
		}
	}
	report.Took = time.Since(start)
	report.BitsPerSec = float64(report.Bytes) * 8 / report.Took.Seconds()
	if sent := data.Trailer.Get(crcTrailer); report.Bytes != o.Size || sent != strconv.FormatUint(uint64(check.Sum32()), 16) {
		return fmt.Errorf("%d of %d octets arrived, checksum %08x, sent %s", report.Bytes, o.Size, check.Sum32(), sent)
	}
	return nil
}

func get(ctx context.Context, web *http.Client, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+demoServer+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := web.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("the server says %s", resp.Status), resp.Body.Close())
	}
	return resp, err
}
