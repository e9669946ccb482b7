package privsep

import (
	"errors"
	"io/fs"
	"os"
)

// given are answers to what this process asks for first, which came with the parent's hello.
type given map[asked][]answer

type answer struct {
	told
	file *os.File
}

// give takes over the files that came with what is told of them.
func (c *Client) give(all []told, files []*os.File) error {
	c.given = given{}
	for _, t := range all {
		a := answer{told: t}
		if t.File {
			if len(files) == 0 {
				return errors.New("privsep: fewer files came than the parent tells of")
			}
			a.file, files = files[0], files[1:]
		}
		c.given[t.Asked] = append(c.given[t.Asked], a)
	}
	return nil
}

// Forget drops the files that the parent gave and nobody read: what is read from now on is read as it is then.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, all := range c.given {
		for _, a := range all {
			if a.file != nil {
				_ = a.file.Close() // nothing was written to it here
			}
		}
	}
	c.given = nil
}

// ask is what the parent answers, or has answered already.
func (c *Client) ask(how, path string) (*os.File, string, error) {
	wanted := asked{how, path}
	c.mu.Lock()
	all := c.given[wanted]
	if len(all) > 0 {
		c.given[wanted] = all[1:]
	}
	c.mu.Unlock()
	if len(all) > 0 {
		if all[0].Fault != nil {
			return nil, "", pathError(path, all[0].Fault)
		}
		return all[0].file, all[0].Path, nil
	}
	if how == toResolve {
		var out string
		_, err := c.Call(doFile, wanted, &out)
		return nil, out, pathError(path, err)
	}
	file, err := c.file(doFile, wanted)
	return file, "", pathError(path, err)
}

// Open implements config.Files, as the next do.
func (c *Client) Open(path string) (*os.File, error) {
	file, _, err := c.ask(toRead, path)
	return file, err
}

// Stat follows links.
func (c *Client) Stat(path string) (fs.FileInfo, error) { return c.info(toLook, path) }

// Lstat does not.
func (c *Client) Lstat(path string) (fs.FileInfo, error) { return c.info(toLookAt, path) }

// EvalSymlinks returns the path without links.
func (c *Client) EvalSymlinks(path string) (string, error) {
	_, out, err := c.ask(toResolve, path)
	return out, err
}

func (c *Client) info(how, path string) (fs.FileInfo, error) {
	file, _, err := c.ask(how, path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}

// pathError is as package os has it.
func pathError(path string, err error) error {
	if f, ok := errors.AsType[*fault](err); ok && f.Errno != 0 {
		err = f.Errno
	}
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}
