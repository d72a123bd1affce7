package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/msi"
	"github.com/gatehouse-k8s/gatehouse/sts"
)

// The control socket is how the helpers talk to the server on the same data directory. It needs no password: the
// folder, and so the socket in it, is open to the server's owner alone, who could as well read the keys.
const controlSocket = "control.sock"

// facts are what clients need to know of a server.
type facts struct {
	URL          string `json:"url"`
	Proxy        string `json:"proxy"` // URL
	Tenant       string `json:"tenant"`
	Subscription string `json:"subscription"`
	Domain       string `json:"domain"`
	Admin        string `json:"admin"` // UPN
}

// status is the answer to GET /status.
type status struct {
	facts
	Ready    bool            `json:"ready"`
	Reason   string          `json:"reason,omitempty"` // why not ready
	Version  string          `json:"version"`
	Revision int64           `json:"revision"`
	Tenants  []tenantStatus  `json:"tenants"` // oldest first: the facts are of the first
	Clusters []clusterStatus `json:"clusters"`

	Identities []msi.Endpoint `json:"identityEndpoints"` // that are open
}

type clusterStatus struct {
	Group    string `json:"resourceGroup"`
	Name     string `json:"name"`
	State    string `json:"provisioningState"`
	Endpoint string `json:"endpoint"`
	Running  bool   `json:"running"` // the API server answers
}

type keyStatus struct {
	ID        string    `json:"kid"`
	SignsFrom time.Time `json:"signsFrom"`
	Retires   time.Time `json:"retires,omitzero"`
	Signing   bool      `json:"signing"`
	InForce   bool      `json:"inForce"`
	Withdrawn bool      `json:"withdrawn"`
}

// listenControl opens the socket, replacing one that a killed server left behind: the lock is ours.
func (d *dataDir) listenControl() (net.Listener, error) {
	path, done, err := socketPath(d.path)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(d.file(controlSocket)); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("replace the control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket in %s: %w", d.path, err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // its path may be gone by then; see socketPath
	return ln, os.Chmod(d.file(controlSocket), 0o600)
}

// socketPath gives the socket a name that fits into a socket address, of 107 bytes, however deep the folder is.
func socketPath(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, controlSocket)
	if len(path) <= 107 {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path %s is too long for a socket; choose a shorter --data-dir", path)
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), controlSocket), func() { f.Close() }, nil
}

// control asks the server on a data directory.
func control(ctx context.Context, dir, method, path string, out any) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path, done, err := socketPath(dir)
			if err != nil {
				return nil, err
			}
			defer done()
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://gatehouse"+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no server answers on %s; start one with: gatehouse up --data-dir %s", dir, dir)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", bytes.TrimSpace(body))
	}
	return json.Unmarshal(body, out)
}

// controlHandler answers on the control socket.
func (s *server) controlHandler() http.Handler {
	m := web.NewMux(func(w http.ResponseWriter, r *http.Request, err error) {
		e := fault.From(err)
		if e.Kind == fault.Internal {
			s.log.Error("control", "path", r.URL.Path, "err", err)
		}
		http.Error(w, e.Message, web.Status(e.Kind))
	})
	m.Handle("GET /status", func(w http.ResponseWriter, r *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, s.status())
	})
	m.Handle("GET /keys", func(w http.ResponseWriter, r *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, s.keyList())
	})
	m.Handle("GET /tenants", func(w http.ResponseWriter, r *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, s.tenantList())
	})
	m.Handle("POST /tenants", func(w http.ResponseWriter, r *http.Request) error {
		q := r.URL.Query()
		made, err := s.createTenant(r.Context(), q.Get("domain"), q.Get("displayName"))
		if err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, made)
	})
	m.Handle("POST /keys/roll", func(w http.ResponseWriter, r *http.Request) error {
		if err := s.byOwner("keys/roll", "", s.keys.Roll(r.Context())); err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, s.keyList())
	})
	m.Handle("POST /keys/{kid}/withdraw", func(w http.ResponseWriter, r *http.Request) error {
		if err := s.byOwner("keys/withdraw", r.PathValue("kid"), s.keys.Withdraw(r.Context(), r.PathValue("kid"))); err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, s.keyList())
	})
	m.Handle("GET /master-key", func(w http.ResponseWriter, r *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, s.sealed.Status())
	})
	m.Handle("POST /master-key/roll", func(w http.ResponseWriter, r *http.Request) error {
		if err := s.byOwner("master-key/roll", s.sealed.Status().Master, s.sealed.Roll(r.Context())); err != nil {
			return fault.New(fault.Unavailable, "%v", err).Wrap(err) // whoever reaches this socket may know
		}
		return web.WriteJSON(w, http.StatusOK, s.sealed.Status())
	})
	m.Handle("POST /identities", func(w http.ResponseWriter, r *http.Request) error {
		name, tenant, err := identityOf(r)
		if err != nil {
			return err
		}
		form, err := msi.ParseForm(r.URL.Query().Get("form"))
		if err != nil {
			return err
		}
		opened, err := s.msi.Open(name, tenant, form)
		if err != nil {
			return s.byOwner("identity endpoint", name, err)
		}
		return web.WriteJSON(w, http.StatusOK, opened)
	})
	m.Handle("DELETE /identities", func(w http.ResponseWriter, r *http.Request) error {
		name, tenant, err := identityOf(r)
		if err != nil {
			return err
		}
		var form msi.Form // of all forms
		if given := r.URL.Query().Get("form"); given != "" {
			if form, err = msi.ParseForm(given); err != nil {
				return err
			}
		}
		closed, err := s.msi.Close(name, tenant, form)
		if err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, closed)
	})
	return m
}

// identityOf reads which identity a request is about: its name, and the tenant if that is given.
func identityOf(r *http.Request) (name string, tenant directory.ID, err error) {
	q := r.URL.Query()
	if given := q.Get("tenant"); given != "" {
		tenant, err = directory.ParseID(given)
	}
	return q.Get("name"), tenant, err
}

// byOwner records what the owner of the data directory has asked for, and passes on how it went.
func (s *server) byOwner(action, target string, err error) error {
	e := audit.Event{Address: "control socket", Action: action, Target: target, Outcome: audit.Allowed}
	if err != nil {
		e.Outcome, e.Reason = audit.Failed, fault.From(err).Message
	}
	s.audit.Record(e)
	return err
}

func (s *server) keyList() []keyStatus {
	now := time.Now()
	state := sts.In(s.feed.View())
	signing := state.Signing(now)
	var out []keyStatus
	for _, k := range state.Keys() {
		out = append(out, keyStatus{
			ID: k.ID, SignsFrom: k.SignsFrom, Retires: k.Retires, Withdrawn: k.Withdrawn,
			Signing: signing != nil && signing.ID == k.ID, InForce: k.InForce(now),
		})
	}
	return out
}

func runStatus(ctx context.Context, args []string, stdout, _ io.Writer) error {
	var dir string
	var asJSON bool
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	dataDirFlag(fs, &dir)
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	if err := parse(fs, args, stdout, "status [--data-dir DIR] [--json]"); err != nil {
		return err
	}
	var s status
	if err := control(ctx, dir, http.MethodGet, "/status", &s); err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	state := "ready"
	if !s.Ready {
		state = "not ready: " + s.Reason
	}
	fmt.Fprintf(w, "state\t%s\nversion\t%s\nurl\t%s\nproxy\t%s\ntenant\t%s (%s)\nsubscription\t%s\nadministrator\t%s\nrevision\t%d\n",
		state, s.Version, s.URL, s.Proxy, s.Tenant, s.Domain, s.Subscription, s.Admin, s.Revision)
	for _, t := range s.Tenants[min(1, len(s.Tenants)):] {
		fmt.Fprintf(w, "tenant\t%s (%s)\nsubscription\t%s\nadministrator\t%s\n", t.ID, t.Domain, t.Subscription, t.Admin)
	}
	for _, c := range s.Clusters {
		running := "starting"
		if c.Running {
			running = "running at " + c.Endpoint
		}
		fmt.Fprintf(w, "cluster\t%s/%s: %s, %s\n", c.Group, c.Name, c.State, running)
	}
	for _, i := range s.Identities {
		fmt.Fprintf(w, "identity\t%s: %s form, at %s since %s\n", i.Resource, i.Form, i.Address, i.Since.Format(time.RFC3339))
	}
	return w.Flush()
}

func runKeys(ctx context.Context, args []string, stdout, _ io.Writer) error {
	var dir string
	fs := flag.NewFlagSet("keys", flag.ContinueOnError)
	dataDirFlag(fs, &dir)
	withdraw := fs.String("withdraw", "", "stop the key of this `KID` at once: every token it has signed is refused")
	roll := fs.Bool("roll", false, "publish a new key, which signs a day later")
	if err := parse(fs, args, stdout, "keys [--data-dir DIR] [--roll | --withdraw KID]\n\nWithout --roll and --withdraw it lists them."); err != nil {
		return err
	}
	method, path := http.MethodGet, "/keys"
	switch {
	case *roll && *withdraw != "":
		return usageError{fmt.Errorf("--roll and --withdraw exclude each other")}
	case *roll:
		method, path = http.MethodPost, "/keys/roll"
	case *withdraw != "":
		method, path = http.MethodPost, "/keys/"+url.PathEscape(*withdraw)+"/withdraw"
	}
	var keys []keyStatus
	if err := control(ctx, dir, method, path, &keys); err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KID\tSTATE\tSIGNS FROM\tRETIRES")
	for _, k := range keys {
		state := "published"
		switch {
		case k.Withdrawn:
			state = "withdrawn"
		case k.Signing:
			state = "signing"
		case !k.InForce:
			state = "retired"
		}
		retires := "-"
		if !k.Retires.IsZero() {
			retires = k.Retires.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.ID, state, k.SignsFrom.Format(time.RFC3339), retires)
	}
	return w.Flush()
}
