package store

import (
	"io/fs"

	"golang.org/x/sys/windows"
)

// administers tells whether we run as an administrator who agreed to it.
func administers() bool { return windows.GetCurrentProcessToken().IsElevated() }

// trusted refuses what neither we nor administrators nor the system own. In ProgramData every user
// can make folders and files, which are then that user's, and cannot change those of others.
func trusted(path string, _ fs.FileInfo) error {
	descriptor, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return failed("who owns "+path+" cannot be told", err)
	}
	owner, _, err := descriptor.Owner()
	if err != nil {
		return failed("who owns "+path+" cannot be told", err)
	}
	if owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) {
		return nil
	}
	us, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return failed("who runs this cannot be told", err)
	}
	if !owner.Equals(us.User.Sid) {
		return belongs(path, owner.String())
	}
	return nil
}

// closeToOthers takes from a folder, and from what will be made in it, the rights that it has from
// the folder around it, and leaves it to its owner, administrators and the system.
func closeToOthers(folder string) error {
	descriptor, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;OW)(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)")
	if err != nil {
		return err
	}
	list, _, err := descriptor.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(folder, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil)
}
