package proxy

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// curl fetches and returns the body and what curl says; it fails with the exit status.
func curl(t *testing.T, args ...string) (string, string, int) {
	t.Helper()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--noproxy", "", "--max-time", "60"}, args...)...)
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// TestCurl: a real client gets through, by SOCKS5 and HTTP, on one port.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	n := newInside()
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			sum := sha256.New()
			io.Copy(sum, r.Body)
			w.Write(sum.Sum(nil))
			return
		}
		io.WriteString(w, "hello from "+r.Host)
	}
	web(t, n, h)
	secure := httptest.NewTLSServer(http.HandlerFunc(h))
	defer secure.Close()
	n.put("web.test", "10.9.0.1", 443, secure.Listener.Addr())
	open, closed := &Server{Options: Options{Network: n}}, &Server{Options: Options{Network: n}, Users: []User{{"alice", "p@ss:w"}}}
	_, at := proxied(t, open, nil)
	_, guarded := proxied(t, closed, nil)

	for _, proxy := range []string{"socks5h://" + at.String(), "http://" + at.String(), "socks5h://alice:p%40ss%3Aw@" + guarded.String(), "http://alice:p%40ss%3Aw@" + guarded.String()} {
		for _, u := range []string{"http://web.test", "http://10.9.0.1", "http://[fd00::1]", "https://web.test"} {
			_, host, _ := strings.Cut(u, "//")
			if out, said, code := curl(t, "-k", "-x", proxy, u+"/"); out != "hello from "+host || code != 0 {
				t.Errorf("%s by %s: %q, %q, status %d", u, proxy, out, said, code)
			}
		}
		body := strings.Repeat("0123456789", 300_000)
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "curl", "-sS", "--noproxy", "", "-k", "-x", proxy, "--data-binary", "@-", "https://web.test/")
		cmd.Stdin, cmd.Stdout = strings.NewReader(body), &out
		if want := sha256.Sum256([]byte(body)); cmd.Run() != nil || !bytes.Equal(out.Bytes(), want[:]) {
			t.Errorf("posted by %s: %x", proxy, out.Bytes())
		}
	}
	// With --proxytunnel http goes by CONNECT too.
	if out, said, code := curl(t, "-p", "-x", "http://"+at.String(), "http://web.test/"); out != "hello from web.test" {
		t.Errorf("--proxytunnel: %q, %q, %d", out, said, code)
	}
	// What is not there, and who may not in, is told so that curl understands.
	for _, c := range []struct {
		proxy, u, say string
		code          int
	}{
		{"socks5h://" + at.String(), "http://none.test/", "(4)", 97},
		{"socks5h://" + at.String(), "http://127.0.0.1/", "(2)", 97},
		{"socks5h://alice:wrong@" + guarded.String(), "http://web.test/", "rejected", 97},
		{"http://" + at.String(), "https://none.test/", "502", 56},
		{"http://alice:wrong@" + guarded.String(), "https://web.test/", "407", 56},
	} {
		if _, said, code := curl(t, "-k", "-x", c.proxy, c.u); code != c.code || !strings.Contains(said, c.say) {
			t.Errorf("%s by %s: %q, status %d", c.u, c.proxy, said, code)
		}
	}

	var tasks sync.WaitGroup
	for i := range 8 {
		tasks.Go(func() {
			proxy := []string{"socks5h://", "http://"}[i%2] + at.String()
			if out, said, code := curl(t, "-Z", "-x", proxy, "http://web.test/[1-25]"); out != strings.Repeat("hello from web.test", 25) {
				t.Errorf("25 at the same time by %s: %q, %q, %d", proxy, out, said, code)
			}
		})
	}
	tasks.Wait()
	for _, asked := range n.requests() {
		if !slices.Contains([]string{"tcp web.test:80", "tcp web.test:443", "tcp 10.9.0.1:80", "tcp [fd00::1]:80", "tcp none.test:80", "tcp none.test:443"}, asked) {
			t.Errorf("asked for %q", asked)
		}
	}
}
