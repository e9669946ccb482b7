package enclave

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

func TestReasonsAreToldApart(t *testing.T) {
	for _, tt := range []struct {
		err       error
		files     map[string]string
		why, hint string
	}{
		{syscall.ENOSPC, map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, "user.max_user_namespaces is 0", "sysctl user.max_user_namespaces="},
		{syscall.ENOSPC, map[string]string{"proc/sys/user/max_net_namespaces": "0\n"}, "user.max_net_namespaces is 0", "sysctl user.max_net_namespaces="},
		{syscall.ENOSPC, nil, "as many namespaces", "end some"},
		{syscall.EINVAL, nil, "has no user namespaces", "CONFIG_USER_NS"},
		{syscall.EPERM, map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, "unprivileged_userns_clone", "set it to 1"},
		{syscall.EACCES, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "AppArmor", "profile martlet /bin/martlet flags=(unconfined) { userns, }"},
		{syscall.EPERM, map[string]string{
			"proc/sys/kernel/unprivileged_userns_clone": "1\n", "proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0\n",
			"proc/self/status": "Name:\tx\nSeccomp:\t2\n",
		}, "seccomp", "outside of the container"},
		{syscall.EPERM, map[string]string{"proc/self/status": "Seccomp:\t0\n"}, "operation not permitted", "SELinux"},
		{errors.New("odd"), nil, "odd", "report"},
	} {
		system := fstest.MapFS{}
		for name, text := range tt.files {
			system[name] = &fstest.MapFile{Data: []byte(text)}
		}
		why, hint := reason(&fs.PathError{Op: "x", Err: tt.err}, system, "/bin/martlet")
		if !strings.Contains(why, tt.why) || !strings.Contains(hint, tt.hint) {
			t.Errorf("%v, %v: %q, %q; want %q, %q", tt.err, tt.files, why, hint, tt.why, tt.hint)
		}
	}
}
