package main

import "testing"

func TestMonitorIsAskedOnThisHost(t *testing.T) {
	for listen, want := range map[string]string{
		":9586":                 "127.0.0.1:9586",
		"*:9586":                "127.0.0.1:9586",
		"0.0.0.0:9586":          "127.0.0.1:9586",
		"[::ffff:0.0.0.0]:9586": "127.0.0.1:9586",
		"localhost:9586":        "127.0.0.1:9586",
		"[::]:9586":             "[::1]:9586",
		"[::1]:9586":            "[::1]:9586",
		"192.0.2.1:9586":        "192.0.2.1:9586",
		"127.0.0.1":             "",
		"127.0.0.1:":            "",
		"":                      "",
	} {
		got, err := askedAt(listen)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is asked at %q, %v, want %q", listen, got, err, want)
		}
	}
}

func TestAnswersPrintNothingButLines(t *testing.T) {
	if got := printable("not ready\n\x1b[2Joffice: \u009b\u202ex\r\n"); got != "not ready\n[2Joffice: x\n" {
		t.Errorf("got %q", got)
	}
}
