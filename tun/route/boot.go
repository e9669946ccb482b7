package route

import "strconv"

// bootSlack is by how many seconds the time of one start may seem to change, when the clock
// is corrected.
const bootSlack = 60

// sameBootTime tells whether two times, in seconds, are those of one start of the system.
// Between two starts more time goes by; where the clock was corrected by more, what a killed
// process left is not undone, but what it noted is never taken for the state of now.
func sameBootTime(a, b string) bool {
	first, err1 := strconv.ParseInt(a, 10, 64)
	second, err2 := strconv.ParseInt(b, 10, 64)
	return err1 == nil && err2 == nil && -bootSlack < second-first && second-first < bootSlack
}
