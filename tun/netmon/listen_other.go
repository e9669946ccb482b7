//go:build !linux

package netmon

import "time"

// listen has the interfaces looked at every few seconds.
func (m *monitor) listen() (<-chan news, error) {
	out := make(chan news)
	m.tasks.Go(func() {
		ticker := time.NewTicker(poll)
		defer ticker.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-ticker.C:
			}
			select {
			case <-m.stop:
				return
			case out <- news{}:
			}
		}
	})
	return out, nil
}
