package dns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func registryText(values []value) string {
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintln(&b, v)
	}
	return b.String()
}

func TestRegistryForAllNames(t *testing.T) {
	c := everything()
	c.Device = "martlet0"
	const want = `SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{7F}\NameServer = "10.1.0.53"
SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{7F}\SearchList = "corp.example"
SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters\Interfaces\{7F}\NameServer = "fd00:1::53"
SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters\Interfaces\{7F}\SearchList = "corp.example"
SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig\martlet-martlet0-0\Version = "2"
SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig\martlet-martlet0-0\Name = "[.]"
SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig\martlet-martlet0-0\GenericDNSServers = "10.1.0.53;fd00:1::53"
SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig\martlet-martlet0-0\ConfigOptions = "8"
`
	if diff := cmp.Diff(want, registryText(append(interfaceValues("{7F}", c), nrptRules(localRules, c)...))); diff != "" {
		t.Error(diff)
	}
}

func TestRegistryForSomeNames(t *testing.T) {
	c := split()
	c.Device = "martlet0"
	const want = `SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{7F}\NameServer = ""
SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{7F}\SearchList = "corp.example,eu.corp.example"
SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters\Interfaces\{7F}\NameServer = ""
SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters\Interfaces\{7F}\SearchList = "corp.example,eu.corp.example"
SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig\martlet-martlet0-0\Version = "2"
SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig\martlet-martlet0-0\Name = "[.corp.example .eu.corp.example .lab.example]"
SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig\martlet-martlet0-0\GenericDNSServers = "10.1.0.53;fd00:1::53"
SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig\martlet-martlet0-0\ConfigOptions = "8"
`
	if diff := cmp.Diff(want, registryText(append(interfaceValues("{7F}", c), nrptRules(policyRules, c)...))); diff != "" {
		t.Error(diff)
	}
}

func TestManyNamesBecomeManyRules(t *testing.T) {
	c := Config{Device: "martlet0", Servers: addrs("10.1.0.53")}
	for i := range maxRuleNames + 1 {
		c.Domains = append(c.Domains, fmt.Sprintf("d%d.example", i))
	}
	rules := nrptRules(localRules, c)
	if len(rules) != 8 || len(rules[1].Data.([]string)) != maxRuleNames || !cmp.Equal(rules[5].Data, []string{".d50.example"}) || !strings.HasSuffix(rules[5].Key, `\martlet-martlet0-1`) {
		t.Errorf("%v", rules)
	}
}

func TestRulesTellWhoseTheyAre(t *testing.T) {
	for key, want := range map[string]string{
		"martlet-martlet0-0": "martlet0", "martlet-a-b-12": "a-b", "martlet-": "", "martlet-x": "", "other-0": "",
		"{F1C0FFEE-0000-0000-0000-000000000000}": "",
	} {
		if got := ruleDevice(key); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
}
