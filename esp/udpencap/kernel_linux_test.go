package udpencap

import "testing"

func TestKernel(t *testing.T) {
	for release, want := range map[string]struct {
		kernel
		gro, bug bool
	}{
		"":                {kernel{}, false, false},
		"linux":           {kernel{}, false, false},
		"4.4":             {kernel{4, 4}, false, false},
		"5.11.22-generic": {kernel{5, 11, 22}, false, false},
		"5.12.0":          {kernel{5, 12, 0}, true, false},
		"6.1.0-44-amd64":  {kernel{6, 1, 0}, true, false},
		"6.18.44-fc-v657": {kernel{6, 18, 44}, true, false},
		"7.0.0-rc3":       {kernel{7, 0, 0}, true, true},
		"7.0.14-pve":      {kernel{7, 0, 14}, true, true},
		"7.1-custom":      {kernel{7, 1}, true, true},
		"7.1.4":           {kernel{7, 1, 4}, true, true},
		"7.1.5+":          {kernel{7, 1, 5}, true, false},
		"7.2.0":           {kernel{7, 2, 0}, true, false},
		"next-20260101":   {kernel{}, false, false},
	} {
		k := parseKernel(release)
		if k != want.kernel || k.hasGRO() != want.gro || k.equalBug() != want.bug {
			t.Errorf("%q: %v, GRO %t, bug %t", release, k, k.hasGRO(), k.equalBug())
		}
	}
	if runningKernel() == (kernel{}) {
		t.Error("the version of this kernel is not known")
	}
}
