package level2

import (
	"testing"
	"time"

	"martlet/config"
)

// TestConnectWithoutChild: a connection whose children all wait is up when its IKE SA is;
// they are opened after.
func TestConnectWithoutChild(t *testing.T) {
	inBubble(t, 55, func(w *world) {
		gateway := w.gateway(gatewayConfig())
		cfg := clientConfig()
		conn := cfg.Connections["office"]
		conn.Childless = "force"
		conn.Children["net"].Keep = config.KeepManual
		client := w.client(cfg)
		for range 2 {
			if err := client.Connect(w.Context(), "office"); err != nil {
				w.Fatal(err)
			}
		}
		if s := client.Status(); len(s.SAs) != 1 || len(s.SAs[0].Children) != 0 || len(s.SAs[0].Addresses) != 1 {
			w.Errorf("status %+v", s.SAs)
		}
		if err := client.OpenChild(w.Context(), "office", "net"); err != nil {
			w.Fatal(err)
		}
		pass(time.Second)
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}
