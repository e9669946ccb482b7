package outside

import "golang.org/x/sys/unix"

func (w Way) option(bool, string) (option, error) {
	if w.Mark == 0 {
		return option{}, nil
	}
	return option{unix.SOL_SOCKET, unix.SO_MARK, int(w.Mark)}, nil
}
