package aks

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

// DefaultVersion is the Kubernetes that gatehouse-kube is built from.
const DefaultVersion = "1.36.3"

// Provisioner is the resource provider. Its handlers only write what is wanted, in one revision with the operation; its
// workers bring the control planes there and end the operation. They follow the records, so that a start after a crash
// takes up whatever is unfinished, and starts the API servers of all clusters:
//
//	PUT ──▶ Creating|Updating ──┐
//	POST ─▶ Rotating... ────────┼─▶ worker: ControlPlanes ─▶ Succeeded | Failed (with the reason; a later PUT repairs it)
//	DELETE ─▶ Deleting ─────────┘                         └▶ gone
//
// A cluster has one operation at a time; only a deletion may take the place of another. There must be one Provisioner
// to a database.
type Provisioner struct {
	Feed          *feed.Follower
	ControlPlanes ControlPlanes
	Issuer        func(tenant, guid directory.ID) string // the URL that a cluster's service account tokens name as their issuer
	Version       string                                 // of Kubernetes that the control planes run; empty: DefaultVersion
	Audit         *audit.Log
	Log           *slog.Logger                                       // nil: slog.Default
	Now           func() time.Time                                   // nil: time.Now
	Rand          io.Reader                                          // nil: crypto/rand
	Pause         func(ctx context.Context, attempt int) (more bool) // between attempts; nil: 1 s, doubled up to 30 s

	stop    context.CancelFunc
	stopped chan struct{}
}

// Start takes up what is unfinished and starts all control planes, in the background.
func (p *Provisioner) Start(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.stopped = cancel, make(chan struct{})
	go func() {
		defer close(p.stopped)
		p.run(ctx)
	}()
	return nil
}

// Stop ends the workers. What they have not finished stays as it is, for the next Start.
func (p *Provisioner) Stop(ctx context.Context) error {
	p.stop()
	select {
	case <-p.stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sweep deletes the operations that ended long ago.
func (p *Provisioner) Sweep(ctx context.Context) error {
	return arm.SweepOperations(ctx, p.Feed, p.now())
}

// job is a worker's task: to bring a cluster to what one record of it says.
type job struct {
	cluster *Cluster
	cancel  context.CancelFunc
}

// run gives every cluster that needs one a worker, until ctx ends. It alone touches jobs and settled.
func (p *Provisioner) run(ctx context.Context) {
	type result struct {
		guid    directory.ID
		settled bool
	}
	jobs := map[directory.ID]*job{}
	settled := map[directory.ID]bool{} // clusters that are as their records say; those without an endpoint do not run
	ended := make(chan result)
	for {
		stopping := ctx.Err() != nil // asked once a round: between two answers it may come to be
		changed := p.Feed.Changed()
		for _, c := range In(p.Feed.View()).All() {
			j := jobs[c.GUID]
			switch {
			case stopping:
			case j != nil && j.cluster.Operation != c.Operation:
				j.cancel() // something else is wanted now
			case j != nil, c.Operation.IsZero() && (settled[c.GUID] || c.Endpoint == ""):
			default:
				of, cancel := context.WithCancel(ctx)
				jobs[c.GUID] = &job{c, cancel}
				go func() {
					done := p.drive(of, c)
					cancel()
					ended <- result{c.GUID, done}
				}()
			}
		}
		if stopping && len(jobs) == 0 {
			return
		}
		done := ctx.Done()
		if stopping {
			done, changed = nil, nil // nothing but the ends of jobs matters now
		}
		select {
		case <-changed:
		case <-done:
		case r := <-ended:
			delete(jobs, r.guid)
			settled[r.guid] = r.settled
		}
	}
}

// drive does what a cluster's record wants and writes the outcome. It reports whether the cluster needs nothing more.
func (p *Provisioner) drive(ctx context.Context, c *Cluster) bool {
	log := p.log().With("cluster", c.ID(), "guid", c.GUID.String())
	for attempt := 0; ; attempt++ {
		endpoint, err := p.act(ctx, c)
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			log.Error("a control plane is not as wanted", "state", c.Provisioning, "err", err)
		}
		if err == nil || !c.Operation.IsZero() {
			return p.settle(ctx, c, endpoint, err)
		}
		// A cluster that worked before this process started has nobody waiting who could be told, so it is tried again.
		if !p.pause(ctx, attempt) {
			return false
		}
	}
}

// settle writes the outcome, as often as it takes.
func (p *Provisioner) settle(ctx context.Context, c *Cluster, endpoint Endpoint, failure error) bool {
	for attempt := 0; ; attempt++ {
		err := p.finish(ctx, c, endpoint, failure)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		p.log().Error("the outcome of an operation could not be written; trying again", "cluster", c.ID(), "err", err)
		if !p.pause(ctx, attempt) {
			return false
		}
	}
}

func (p *Provisioner) act(ctx context.Context, c *Cluster) (Endpoint, error) {
	switch c.Provisioning {
	case Deleting:
		return Endpoint{}, p.ControlPlanes.Delete(ctx, c.GUID)
	case Rotating:
		return p.ControlPlanes.Rotate(ctx, c.Settings())
	}
	return p.ControlPlanes.Apply(ctx, c.Settings())
}

// finish writes the outcome of a job, unless the cluster has got another operation meanwhile.
func (p *Provisioner) finish(ctx context.Context, c *Cluster, endpoint Endpoint, failure error) error {
	var event *audit.Event
	err := p.Feed.Update(ctx, func(v *feed.View, _ feed.Secrets) (feed.Change, error) {
		event = nil
		now := In(v).Cluster(c.GUID)
		if now == nil || now.Operation != c.Operation {
			return feed.Change{}, nil
		}
		o := arm.In(v).Operation(c.Operation)
		why := failureMessage(c, failure)
		change, err := p.outcome(v, now, endpoint, why)
		if err != nil || o == nil {
			return change, err
		}
		event = &audit.Event{Request: o.Request, Tenant: c.Tenant.String(), Actor: o.By.String(), Action: o.Action, Target: c.ID(), Outcome: audit.Allowed,
			Details: map[string]string{"operation": o.ID.String(), "state": c.Provisioning}}
		if why != nil {
			event.Outcome, event.Reason = audit.Failed, failure.Error()
		}
		if o.Namespace == "" { // the deletion of the whole group: its end is arm's
			return change, nil
		}
		status := arm.Succeeded
		if why != nil {
			status = arm.Failed
		}
		change.Records = append(change.Records, o.End(status, why, p.now()).Record())
		return change, nil
	})
	if err == nil && event != nil {
		p.Audit.Record(*event)
	}
	return err
}

// outcome returns what becomes of the cluster's record, and of what hangs on it.
func (p *Provisioner) outcome(v *feed.View, c *Cluster, endpoint Endpoint, why *arm.ErrorMessage) (feed.Change, error) {
	var change feed.Change
	if c.Provisioning == Deleting && why == nil {
		last := len(In(v).InGroup(c.Subscription, c.Group)) == 1
		change.Records = append(arm.Removed(v, c.scope(), c.Subscription, c.Group, last, p.now()),
			feed.Record{Kind: KindCluster, Key: c.GUID.String(), Tenant: c.Tenant.String()})
		change.Records = append(change.Records, c.unidentify(directory.In(v))...)
		return change, nil
	}
	next := *c
	next.Operation = directory.ID{}
	if why != nil {
		next.Provisioning, next.Failure = Failed, why
		if c.Provisioning == Deleting { // nobody knows how much of it is left
			next.Endpoint, next.CA = "", nil
			change.Records = arm.NotRemoved(v, c.Subscription, c.Group, why, p.now())
		}
	} else {
		next.Provisioning, next.Failure = Succeeded, nil
		next.Endpoint, next.CA, next.KubernetesVersion = endpoint.URL, endpoint.CA, p.version()
	}
	if !c.Operation.IsZero() || changed(c, &next) {
		etag, err := directory.NewID(p.random())
		if err != nil {
			return change, err
		}
		next.ETag = etag.String()
		change.Records = append(change.Records, next.record())
	}
	return change, nil
}

// changed reports whether a start has brought anything new: most bring nothing, and write nothing.
func changed(a, b *Cluster) bool {
	return a.Provisioning != b.Provisioning || a.Endpoint != b.Endpoint || string(a.CA) != string(b.CA) || a.KubernetesVersion != b.KubernetesVersion
}

// failureMessage is what people learn of a failure; nil: there was none.
func failureMessage(c *Cluster, failure error) *arm.ErrorMessage {
	if failure == nil {
		return nil
	}
	if fault.From(failure).Kind != fault.Internal {
		return arm.Message(failure)
	}
	doing := map[string]string{Creating: "created", Deleting: "deleted", Rotating: "given new certificates"}[c.Provisioning]
	if doing == "" {
		doing = "brought to its new settings"
	}
	return &arm.ErrorMessage{Code: "ControlPlaneFailed", Message: fmt.Sprintf("The control plane of cluster '%s' could not be %s. "+
		"Repeat the command to try again; the server's log has the reason under guid %s.", c.Name, doing, c.GUID)}
}

func (p *Provisioner) version() string {
	if p.Version != "" {
		return p.Version
	}
	return DefaultVersion
}

func (p *Provisioner) pause(ctx context.Context, attempt int) bool {
	if p.Pause != nil {
		return p.Pause(ctx, attempt)
	}
	wait := time.NewTimer(min(time.Second<<min(attempt, 5), 30*time.Second))
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Provisioner) now() time.Time {
	if p.Now != nil {
		return p.Now().UTC()
	}
	return time.Now().UTC()
}

func (p *Provisioner) random() io.Reader {
	if p.Rand != nil {
		return p.Rand
	}
	return rand.Reader
}

func (p *Provisioner) log() *slog.Logger {
	if p.Log != nil {
		return p.Log
	}
	return slog.Default()
}
