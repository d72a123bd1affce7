package pki

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// WriteFile replaces a file in one step: a reader, also one after a crash or a power cut, finds the old
// content or the new one, whole. The file never has a wider mode than the one given, not even for a
// moment. A crash can leave a file ".NAME.*.tmp" behind, which nothing reads.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename in a directory last.
func syncDir(dir string) error {
	if !unix {
		return nil // a directory cannot be opened for this
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// unix is false where a file's mode says nothing about who may read it.
const unix = runtime.GOOS != "windows"

// ownDir makes a directory with mode 0700, or makes sure that nobody else can replace what is in it.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); unix && mode&0o022 != 0 {
		return fmt.Errorf("others may write to %s (mode %#o); run: chmod 0700 %s", dir, mode, dir)
	}
	return nil
}

// ReadSecret reads a file that nobody else may read. A file that others may read is an error that says how to mend it.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, which a renamed file cannot exchange
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file", path)
	}
	if mode := info.Mode().Perm(); unix && mode&0o077 != 0 {
		return nil, fmt.Errorf("others may read %s (mode %#o), so its key is not a secret any more; replace it, or, if you know that nobody did, run: chmod 0600 %s", path, mode, path)
	}
	return io.ReadAll(f)
}
