package netmon

import (
	"time"

	"go.uber.org/zap"
)

// lookOut has the interfaces and the default routes looked at every few seconds, until the
// monitor is closed, where the system does not tell of changes, or no more.
func (m *monitor) lookOut(out chan<- news, why error) {
	m.log.Warn("this system does not tell of changes of its network: they are looked for every few seconds", zap.Error(why))
	m.looks.Store(true)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-ticker.C:
			m.notify(out, notice{about: aLink})
		}
	}
}
