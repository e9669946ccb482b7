package dns

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScutilIsTold(t *testing.T) {
	c := everything()
	c.Device = "utun7"
	const all = `open
d.init
d.add ServerAddresses * 10.1.0.53 fd00:1::53
d.add SupplementalMatchDomains * ""
d.add SupplementalMatchDomainsNoSearch # 1
set State:/Network/Service/martlet-utun7/DNS
d.init
d.add ServerAddresses * 10.1.0.53 fd00:1::53
d.add SupplementalMatchDomains * corp.example
d.add SupplementalMatchDomainsNoSearch # 0
set State:/Network/Service/martlet-utun7-search/DNS
quit
`
	if diff := cmp.Diff(all, scutilSet(c)); diff != "" {
		t.Error(diff)
	}
	c = split()
	c.Device, c.Search = "utun7", nil
	const some = `open
remove State:/Network/Service/martlet-utun7/DNS
remove State:/Network/Service/martlet-utun7-search/DNS
quit
`
	if diff := cmp.Diff(some, scutilSet(c)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(some, scutilRemove("utun7")); diff != "" {
		t.Error(diff)
	}
}

func TestKeysInTheStoreAreFound(t *testing.T) {
	const list = `  subKey [0] = State:/Network/Service/martlet-utun7-search/DNS
  subKey [1] = State:/Network/Service/martlet-utun9/DNS
  subKey [2] = State:/Network/Service/martlet-utun9/IPv4
  subKey [3] = State:/Network/Service/other/DNS
  no key
`
	if diff := cmp.Diff([]string{"utun7", "utun9"}, scutilDevices(list)); diff != "" {
		t.Error(diff)
	}
	if got := scutilDevices("  no key\n"); got != nil {
		t.Errorf("%v", got)
	}
}
