package interop

import (
	"fmt"
	"slices"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// filterCalls leaves the thread, and what it becomes, the system calls that Docker's own profile leaves to
// a container without capabilities (RuntimeDefault of Kubernetes is that, or like it), and takes it the
// way to get rights by a program file.
func filterCalls() error {
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		return err
	}
	policy, err := policyOf(profile)
	if err != nil {
		return err
	}
	return bpf.LoadFilter(bpf.Filter{NoNewPrivs: true, Policy: policy})
}

// policyOf translates a profile. The first group with a call decides: what is allowed comes first.
func policyOf(profile *specs.LinuxSeccomp) (bpf.Policy, error) {
	here, err := arch.GetInfo("")
	if err != nil {
		return bpf.Policy{}, err
	}
	const refused = bpf.ActionErrno
	if profile.DefaultAction != specs.ActErrno || profile.DefaultErrnoRet == nil || *profile.DefaultErrnoRet != uint(unix.EPERM) {
		return bpf.Policy{}, fmt.Errorf("the profile's default is %s", profile.DefaultAction)
	}
	groups := map[bpf.Action]*bpf.SyscallGroup{}
	var order []bpf.Action
	for _, rule := range profile.Syscalls {
		action := bpf.ActionAllow
		if rule.Action == specs.ActErrno && rule.ErrnoRet != nil {
			action = refused | bpf.Action(*rule.ErrnoRet)
		} else if rule.Action != specs.ActAllow {
			return bpf.Policy{}, fmt.Errorf("%v: action %s", rule.Names, rule.Action)
		}
		if groups[action] == nil {
			groups[action] = &bpf.SyscallGroup{Action: action}
			order = append(order, action)
		}
		group := groups[action]
		conditions, err := conditionsOf(rule.Args)
		if err != nil {
			return bpf.Policy{}, fmt.Errorf("%v: %w", rule.Names, err)
		}
		for _, name := range rule.Names {
			if _, known := here.SyscallNames[name]; !known {
				continue // of another processor
			}
			if len(conditions) > 0 {
				group.NamesWithCondtions = append(group.NamesWithCondtions, bpf.NameWithConditions{Name: name, Conditions: conditions})
			} else if !slices.Contains(group.Names, name) {
				group.Names = append(group.Names, name)
			}
		}
	}
	policy := bpf.Policy{DefaultAction: refused}
	for _, action := range order {
		policy.Syscalls = append(policy.Syscalls, *groups[action])
	}
	return policy, nil
}

var operations = map[specs.LinuxSeccompOperator]bpf.Operation{
	specs.OpEqualTo: bpf.Equal, specs.OpNotEqual: bpf.NotEqual,
	specs.OpLessThan: bpf.LessThan, specs.OpLessEqual: bpf.LessOrEqual,
	specs.OpGreaterThan: bpf.GreaterThan, specs.OpGreaterEqual: bpf.GreaterOrEqual,
	specs.OpMaskedEqual: bpf.BitsNotSet, // where the masked value has to be 0
}

func conditionsOf(args []specs.LinuxSeccompArg) (bpf.ArgumentConditions, error) {
	var all bpf.ArgumentConditions
	for _, a := range args {
		operation, known := operations[a.Op]
		if !known || a.Op == specs.OpMaskedEqual && a.ValueTwo != 0 {
			return nil, fmt.Errorf("operation %s", a.Op)
		}
		all = append(all, bpf.Condition{Argument: uint32(a.Index), Operation: operation, Value: a.Value})
	}
	return all, nil
}
