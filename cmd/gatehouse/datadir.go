package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// dataDir is the folder of one server, open to its owner alone.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the folder if need be and takes it for this process.
func openDataDir(path string) (*dataDir, error) {
	explain := func(err error) error { return explainDisk(path, err) }
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, explain(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, explain(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o700); err != nil {
			return nil, fmt.Errorf("the data directory %s is open to others (mode %o) and that cannot be changed (%s); run: chmod 700 %s", path, info.Mode().Perm(), reason(err), path)
		}
	}
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, explain(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("gatehouse is already running on %s%s; stop it, or choose another directory with --data-dir", path, lockHolder(f))
		}
		return nil, explain(err)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			return nil, explain(err)
		}
	}
	return &dataDir{path: path, lock: f}, nil
}

// explainDisk turns the failures that the owner of a data directory can mend into a sentence that says how.
func explainDisk(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("the disk of the data directory %s is full; free some space or choose another with --data-dir", path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the data directory %s cannot be written (%s); choose another with --data-dir", path, reason(err))
	}
	return fmt.Errorf("data directory %s: %w", path, err)
}

func lockHolder(f *os.File) string {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}

// locked reports whether some process runs on the folder.
func locked(path string) bool {
	f, err := os.Open(filepath.Join(path, "lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return true
	}
	return false
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// Close gives the folder free.
func (d *dataDir) Close() error { return d.lock.Close() }

func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// systemBundles are where the systems that Go runs on keep the roots they trust.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Alpine
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/ssl/ca-bundle.pem",                            // openSUSE
	"/etc/ssl/cert.pem",                                 // macOS, the BSDs
}

// writeBundles writes ca.crt, the CA of this server's own pages, and ca-bundle.crt: what the system (or the
// environment) trusts, and ours.
func (d *dataDir) writeBundles(serving, interception *pki.Authority) error {
	if err := pki.WriteFile(d.file("ca.crt"), serving.CertPEM(), 0o644); err != nil {
		return err
	}
	var bundle []byte
	own := d.file("ca-bundle.crt")
	for _, path := range append([]string{os.Getenv("SSL_CERT_FILE"), os.Getenv("REQUESTS_CA_BUNDLE")}, systemBundles...) {
		if path == "" || path == own {
			continue
		}
		if b, err := os.ReadFile(path); err == nil {
			bundle = append(b, '\n')
			break
		}
	}
	bundle = append(bundle, serving.CertPEM()...)
	bundle = append(bundle, interception.CertPEM()...)
	return pki.WriteFile(own, bundle, 0o644)
}
