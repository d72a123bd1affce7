package msi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

const (
	// keyFolder is where clients demand that Arc's key files are (MSAL and Azure Identity libraries, on Linux).
	keyFolder = "/var/opt/azcmagent/tokens"

	keyLife       = time.Minute // a client reads the file at once
	maxChallenges = 32          // open at a time; whoever can connect can ask for one
)

// arc is the form of Azure Arc ("Authenticate against Azure resources with Azure Arc-enabled servers"): the first answer names a file, and who
// can read it may have a token.
func (p *endpoint) arc(w http.ResponseWriter, r *http.Request) error {
	q, err := p.metadata(r)
	if err != nil {
		return err
	}
	scheme, content, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok {
		path, err := p.challenges.name()
		if err != nil {
			return err
		}
		w.Header().Set("WWW-Authenticate", "Basic realm="+path)
		return fault.New(fault.Unauthenticated, "send what is in the file that WWW-Authenticate names as Authorization: Basic")
	}
	if !strings.EqualFold(scheme, "Basic") || !p.challenges.meet(content) {
		return p.refuse(r, fault.Unauthenticated, "the content of the key file in Authorization is wrong, or was used before")
	}
	return p.token(w, r, q)
}

// challenges are the key files of an Arc endpoint that have not been used. Each is good for one request, within a minute after it was
// named. When as many are open as there may be, they are named again, in turn: whoever can connect can ask for them, but only this user can
// read them, so those who can't take none away from those who can.
type challenges struct {
	folder string
	now    func() time.Time

	mu    sync.Mutex
	open  []challenge // the one that was named longest ago first
	ended bool
}

type challenge struct {
	sum   [sha256.Size]byte // of the file's content
	path  string
	until time.Time
	timer *time.Timer
}

// newChallenges makes sure that files can be put into the folder.
func newChallenges(folder string, now func() time.Time) (*challenges, error) {
	c := &challenges{folder: folder, now: now}
	unusable := func(why error) error {
		return fault.New(fault.Invalid, "the Arc form puts key files into %s, where clients demand them, and that cannot be done: %v. "+
			"Make the folder once, for this user: sudo install -d -m 0700 -o \"$USER\" %[1]s; or use --form imds", folder, why)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, unusable(err)
	}
	path, err := c.name()
	if err != nil {
		return nil, unusable(err)
	}
	c.drop(func(o challenge) bool { return o.path == path })
	return c, nil
}

// name returns the path of a key file, which it makes if it may.
func (c *challenges) name() (path string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return "", fault.New(fault.Unavailable, "the endpoint is closing")
	}
	c.dropLocked(c.expired)
	var o challenge
	if len(c.open) >= maxChallenges {
		o = c.open[0]
		c.open = slices.Delete(c.open, 0, 1)
		o.timer.Stop()
	} else if o, err = c.write(); err != nil {
		return "", err
	}
	o.until = c.now().Add(keyLife)
	o.timer = time.AfterFunc(keyLife, func() { c.drop(c.expired) })
	c.open = append(c.open, o)
	return o.path, nil
}

// write makes a key file.
func (c *challenges) write() (o challenge, err error) {
	content := rand.Text() + rand.Text()
	o = challenge{sum: sha256.Sum256([]byte(content)), path: filepath.Join(c.folder, strings.ToLower(rand.Text())+".key")}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return o, err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(o.path)
		return o, fmt.Errorf("write a key file: %w", err)
	}
	return o, nil
}

func (c *challenges) expired(o challenge) bool { return !c.now().Before(o.until) }

// meet reports whether a content is that of an open challenge, which it uses up.
func (c *challenges) meet(content string) bool {
	sum := sha256.Sum256([]byte(content))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.open {
		if subtle.ConstantTimeCompare(sum[:], o.sum[:]) == 1 {
			c.removeLocked(i)
			return !c.expired(o)
		}
	}
	return false
}

func (c *challenges) drop(which func(challenge) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(which)
}

func (c *challenges) dropLocked(which func(challenge) bool) {
	for i := len(c.open) - 1; i >= 0; i-- {
		if which(c.open[i]) {
			c.removeLocked(i)
		}
	}
}

func (c *challenges) removeLocked(i int) {
	c.open[i].timer.Stop()
	os.Remove(c.open[i].path) // if somebody else has removed it, all the better
	c.open = slices.Delete(c.open, i, i+1)
}

// end removes all files, for good.
func (c *challenges) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.drop(func(challenge) bool { return true })
}
