//go:build unix && !linux && !darwin

package dns

import (
	"sync"
	"time"
)

// watchEvery is how long another program's resolvers may stand.
const watchEvery = 5 * time.Second

// watch calls changed every few seconds: it looks itself whether something did. The func that is
// returned ends it, and returns when changed does not run any more.
func watch(_ string, changed func()) (stop func(), err error) {
	clock, done := time.NewTicker(watchEvery), make(chan struct{})
	var task sync.WaitGroup
	task.Go(func() {
		defer clock.Stop()
		for {
			select {
			case <-clock.C:
				changed()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		task.Wait()
	}, nil
}
