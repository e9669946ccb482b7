package martlet

import "golang.org/x/sys/windows"

// mayConfigureHost reports whether this process was started as administrator.
func mayConfigureHost() bool { return windows.GetCurrentProcessToken().IsElevated() }
