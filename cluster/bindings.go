package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// The bindings that Gatehouse owns. Both names are its own: whatever is found under them is made to fit, whoever
// wrote it.
const (
	adminsBinding = "aks-cluster-admin-binding-aad" // as AKS calls it
	localBinding  = "gatehouse:local-accounts"
)

const (
	rbacPath   = "/apis/rbac.authorization.k8s.io/v1"
	ownedLabel = "gatehouse.dev/owned"
)

// binding is a ClusterRoleBinding or a RoleBinding.
type binding struct {
	APIVersion string    `json:"apiVersion,omitempty"`
	Kind       string    `json:"kind,omitempty"`
	Metadata   meta      `json:"metadata"`
	RoleRef    roleRef   `json:"roleRef"`
	Subjects   []subject `json:"subjects,omitempty"`
}

type roleRef struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

type subject struct {
	APIGroup string `json:"apiGroup,omitempty"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

func (b *binding) meta() *meta { return &b.Metadata }

const rbacGroup = "rbac.authorization.k8s.io"

func toClusterAdmin(name string, subjects []subject) *binding {
	return &binding{
		APIVersion: rbacGroup + "/v1", Kind: "ClusterRoleBinding",
		Metadata: meta{Name: name, Labels: map[string]string{ownedLabel: "true"}},
		RoleRef:  roleRef{rbacGroup, "ClusterRole", "cluster-admin"},
		Subjects: subjects,
	}
}

// adminsOf is the binding of the admin groups, nil if there are none.
func adminsOf(groups []directory.ID) *binding {
	if len(groups) == 0 {
		return nil
	}
	var subjects []subject
	for _, g := range groups {
		subjects = append(subjects, subject{rbacGroup, "Group", g.String()})
	}
	return toClusterAdmin(adminsBinding, subjects)
}

// localsOf is the binding of the local accounts: without subjects while nobody has asked for a credential, and nil,
// no binding at all, when local accounts are off.
func localsOf(on bool, all []account) *binding {
	if !on {
		return nil
	}
	var subjects []subject
	for _, a := range all {
		subjects = append(subjects, subject{rbacGroup, "User", localPrefix + a.ID})
	}
	return toClusterAdmin(localBinding, subjects)
}

// fits reports whether a binding grants exactly what another does.
func (b *binding) fits(want *binding) bool {
	return b.RoleRef == want.RoleRef && slices.Equal(b.Subjects, want.Subjects) && b.Metadata.Labels[ownedLabel] == "true"
}

// bindings keeps Gatehouse's bindings as they should be, and knows which groups any binding of the cluster names.
type bindings struct {
	client *client
	log    *slog.Logger
	groups *atomic.Pointer[groupSet]

	cluster, namespaced mirror[binding, *binding]
	bell                bell
	synced              chan struct{} // closed when groups has been published

	mu   sync.Mutex          // held while one is written, so that two writers do not fight
	want map[string]*binding // by name; nil: must not exist
}

func newBindings(c *client, groups *atomic.Pointer[groupSet], log *slog.Logger) *bindings {
	b := &bindings{client: c, log: log, groups: groups, bell: newBell(), synced: make(chan struct{}), want: map[string]*binding{}}
	b.cluster = mirror[binding, *binding]{client: c, path: rbacPath + "/clusterrolebindings", changed: b.bell.ring}
	b.namespaced = mirror[binding, *binding]{client: c, path: rbacPath + "/rolebindings", changed: b.bell.ring}
	return b
}

// run repairs and follows until the context ends.
func (b *bindings) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { b.cluster.run(ctx) })
	wg.Go(func() { b.namespaced.run(ctx) })
	defer wg.Wait()
	published := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.bell:
		}
		clusterWide, synced := b.cluster.all()
		inNamespaces, alsoSynced := b.namespaced.all()
		if synced && alsoSynced {
			b.publish(clusterWide, inNamespaces)
			if !published {
				published = true
				close(b.synced)
			}
		}
		if synced {
			b.repair(ctx, clusterWide)
		}
	}
}

func (b *bindings) repair(ctx context.Context, have map[string]*binding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, want := range b.want {
		found := have["/"+name]
		if found == nil && want == nil || found != nil && want != nil && found.fits(want) {
			continue
		}
		written, err := b.put(ctx, name, want)
		switch {
		case err != nil && ctx.Err() == nil:
			b.log.Error("binding not repaired", "binding", name, "error", err)
			time.AfterFunc(time.Second, b.bell.ring)
		case written:
			b.log.Warn("repaired a binding that was not as Gatehouse keeps it", "binding", name)
		}
	}
}

// set changes what one of the bindings should be, and returns when it is so and the API server acts on it.
func (b *bindings) set(ctx context.Context, name string, want *binding) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var gone []subject
	before := b.want[name]
	if before == nil { // since when is not known: there may be one from before this start
		var found binding
		err := eventually(ctx, func() error { return b.client.get(ctx, bindingPath(name), &found) })
		if err == nil {
			before = &found
		} else if !isNotFound(err) {
			return err
		}
	}
	if before != nil {
		gone = before.Subjects
	}
	b.want[name] = want
	if _, err := b.put(ctx, name, want); err != nil {
		return fmt.Errorf("binding %s: %w", name, err)
	}
	var added []subject
	if want != nil {
		added = want.Subjects
		gone = slices.DeleteFunc(slices.Clone(gone), func(s subject) bool { return slices.Contains(added, s) })
	}
	// The API server follows its bindings a few milliseconds behind. One new subject tells of all: they come together.
	if len(added) > 0 {
		if err := b.await(ctx, added[len(added)-1], true); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		// Another binding may grant the same; then waiting is in vain and not an error.
		wait, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if err := b.await(wait, gone[len(gone)-1], false); err != nil {
			if ctx.Err() != nil {
				return err
			}
			b.log.Warn("a subject taken out of a binding keeps its rights through another one in the cluster", "binding", name, "subject", gone[len(gone)-1].Name)
		}
	}
	return nil
}

func bindingPath(name string) string {
	return rbacPath + "/clusterrolebindings/" + url.PathEscape(name)
}

// put makes a binding what it should be and reports whether it had to write. The caller holds b.mu.
func (b *bindings) put(ctx context.Context, name string, want *binding) (written bool, err error) {
	err = eventually(ctx, func() error {
		var have binding
		err := b.client.get(ctx, bindingPath(name), &have)
		missing := isNotFound(err)
		switch {
		case err != nil && !missing:
			return err
		case missing && want == nil:
			return nil
		case want == nil:
			written = true
			return b.client.delete(ctx, bindingPath(name), nil)
		case missing:
			written = true
			return b.client.create(ctx, rbacPath+"/clusterrolebindings", want, nil)
		case have.fits(want):
			return nil
		case have.RoleRef != want.RoleRef: // can't be changed, by Kubernetes's rule
			written = true
			if err := b.client.delete(ctx, bindingPath(name), nil); err != nil {
				return err
			}
			return b.client.create(ctx, rbacPath+"/clusterrolebindings", want, nil)
		}
		written = true
		next := *want
		next.Metadata.ResourceVersion = have.Metadata.ResourceVersion
		return b.client.update(ctx, bindingPath(name), next, nil)
	})
	return written, err
}

// await returns when the API server's authorizers let a subject do everything, or do not.
func (b *bindings) await(ctx context.Context, who subject, allowed bool) error {
	spec := object{"user": "gatehouse:probe", "resourceAttributes": object{"verb": "*", "group": "*", "resource": "*"}}
	if who.Kind == "Group" {
		spec["groups"] = list{who.Name}
	} else {
		spec["user"] = who.Name
	}
	review := object{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
	for {
		var answer struct {
			Status struct {
				Allowed bool `json:"allowed"`
			} `json:"status"`
		}
		if err := b.client.create(ctx, "/apis/authorization.k8s.io/v1/subjectaccessreviews", review, &answer); err != nil && !passing(err) {
			return err
		} else if err == nil && answer.Status.Allowed == allowed {
			return nil
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return fmt.Errorf("the API server has not taken over the binding of %s %s: %w", who.Kind, who.Name, ctx.Err())
		}
	}
}

// groupSet is the groups that a cluster's bindings name. It is immutable.
type groupSet struct {
	ids      map[directory.ID]struct{}
	revision int64
}

func (s *groupSet) has(id directory.ID) bool {
	_, ok := s.ids[id]
	return ok
}

// next returns the set that follows. A revision is never used again, also not when the cluster has stopped and started.
func (s *groupSet) next(ids map[directory.ID]struct{}) *groupSet {
	return &groupSet{ids: ids, revision: s.revision + 1}
}

func (b *bindings) publish(all ...map[string]*binding) {
	ids := map[directory.ID]struct{}{}
	for _, some := range all {
		for _, binding := range some {
			for _, s := range binding.Subjects {
				if s.Kind != "Group" {
					continue
				}
				if id, err := directory.ParseID(s.Name); err == nil && id.String() == s.Name {
					ids[id] = struct{}{}
				}
			}
		}
	}
	if before := b.groups.Load(); !sameKeys(before.ids, ids) {
		b.groups.Store(before.next(ids))
	}
}

func sameKeys(a, b map[directory.ID]struct{}) bool {
	if len(a) != len(b) {
		return false
	}
	for id := range a {
		if _, ok := b[id]; !ok {
			return false
		}
	}
	return true
}
