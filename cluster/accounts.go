package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/gatehouse-k8s/gatehouse/internal/pki"
)

// maxAccounts bounds how many local credentials of a cluster work at a time: a program that fetches one at each run
// would otherwise make the binding outgrow what etcd stores. The oldest goes first.
const maxAccounts = 1000

// account is a local credential that was handed out.
type account struct {
	ID     string    `json:"id"` // its user is gatehouse:local:ID
	Issued time.Time `json:"issued"`
}

// accounts is the file that says which local credentials may work. The binding in the cluster is made after it, so
// that whatever somebody does to the binding can be put right.
type accounts struct{ path string }

func (a accounts) read() ([]account, error) {
	text, err := os.ReadFile(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []account
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file, which ends all local accounts of the cluster", a.path, err)
	}
	return all, nil
}

func (a accounts) write(all []account) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return pki.WriteFile(a.path, text, 0o600)
}

// clear ends all accounts.
func (a accounts) clear() error {
	err := os.Remove(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// add makes an account, and forgets those whose certificates have expired.
func (a accounts) add(now time.Time) (id string, all []account, err error) {
	if all, err = a.read(); err != nil {
		return "", nil, err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", nil, err
	}
	id = hex.EncodeToString(random)
	all = slices.DeleteFunc(all, func(x account) bool { return now.Sub(x.Issued) > localLife })
	if over := len(all) + 1 - maxAccounts; over > 0 {
		all = all[over:]
	}
	all = append(all, account{ID: id, Issued: now.UTC().Truncate(time.Second)})
	return id, all, a.write(all)
}
