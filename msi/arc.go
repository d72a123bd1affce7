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
		path, err := p.challenges.make()
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

// challenges are the key files of an Arc endpoint that have not been used. Each is good for one request, for a minute.
type challenges struct {
	folder string
	now    func() time.Time

	mu    sync.Mutex
	open  []challenge // oldest first
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
	path, err := c.make()
	if err != nil {
		return nil, unusable(err)
	}
	c.drop(func(o challenge) bool { return o.path == path })
	return c, nil
}

// make writes a new key file and returns its path.
func (c *challenges) make() (string, error) {
	content := rand.Text() + rand.Text()
	path := filepath.Join(c.folder, strings.ToLower(rand.Text())+".key")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
		return "", fmt.Errorf("write a key file: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		os.Remove(path)
		return "", fault.New(fault.Unavailable, "the endpoint is closing")
	}
	o := challenge{sum: sha256.Sum256([]byte(content)), path: path, until: c.now().Add(keyLife)}
	o.timer = time.AfterFunc(keyLife, func() { c.drop(func(other challenge) bool { return other.path == path }) })
	c.open = append(c.open, o)
	for len(c.open) > maxChallenges {
		c.removeLocked(0)
	}
	return path, nil
}

// meet reports whether a content is that of an open challenge, which it uses up.
func (c *challenges) meet(content string) bool {
	sum := sha256.Sum256([]byte(content))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.open {
		if subtle.ConstantTimeCompare(sum[:], o.sum[:]) == 1 {
			c.removeLocked(i)
			return c.now().Before(o.until)
		}
	}
	return false
}

func (c *challenges) drop(which func(challenge) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.open) - 1; i >= 0; i-- {
		if which(c.open[i]) {
			c.removeLocked(i)
		}
	}
}

func (c *challenges) removeLocked(i int) {
	c.open[i].timer.Stop()
	os.Remove(c.open[i].path) // if somebody else has removed it, all the better
	c.open = append(c.open[:i:i], c.open[i+1:]...)
}

// end removes all files, for good.
func (c *challenges) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.drop(func(challenge) bool { return true })
}
