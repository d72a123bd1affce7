package aks_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/rbac"
)

// gate lets a test hold calls of one kind: entered tells that one has come, open lets all go on.
type gate struct {
	what    string
	entered chan directory.ID
	open    chan struct{}
}

func (w *world) hold(what string) *gate {
	g := &gate{what: what, entered: make(chan directory.ID, 16), open: make(chan struct{})}
	w.planes.on(func(ctx context.Context, call string, guid directory.ID) error {
		if call != what {
			return nil
		}
		g.entered <- guid
		select {
		case <-g.open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return g
}

// fail lets calls of one kind fail.
func (w *world) fail(what string, err error) {
	w.planes.on(func(_ context.Context, call string, _ directory.ID) error {
		if call == what {
			return err
		}
		return nil
	})
}

// await returns when a cluster is in a state, or gone for "".
func (w *world) await(name, state string) {
	w.Helper()
	for {
		changed := w.feed.Changed()
		c := aks.In(w.feed.View()).ByID(w.clusterPath(name))
		if c == nil && state == "" || c != nil && c.Provisioning == state {
			return
		}
		select {
		case <-changed:
		case <-w.Context().Done():
			w.Fatalf("%s has not come to %q", name, state)
		}
	}
}

func (w *world) state(name string) any {
	w.Helper()
	return w.as("admin", "GET", w.clusterPath(name), nil).want(200).get("properties.provisioningState")
}

var inCentralUS = map[string]any{"location": "centralus"}

func TestOneOperationAtATime(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	g := w.hold("apply")
	path := w.clusterPath("c")
	a := w.as("admin", "PUT", path, inCentralUS).want(201, `"provisioningState":"Creating"`)
	<-g.entered
	poll := a.Header().Get("Azure-AsyncOperation")
	w.as("admin", "GET", poll, nil).want(200, `"status":"InProgress"`)
	id := w.as("admin", "GET", poll, nil).get("name").(string)
	w.as("admin", "PUT", path, inCentralUS).want(409, "OperationNotAllowed", id, "Creating")
	w.as("admin", "POST", path+"/rotateClusterCertificates", nil).want(409, "OperationNotAllowed", id)
	w.as("admin", "PUT", path+"/agentPools/np2", map[string]any{"properties": map[string]any{"count": 1}}).want(409, "OperationNotAllowed", id)
	w.as("admin", "POST", path+"/listClusterAdminCredential", nil).want(409, "Creating")
	w.as("admin", "PATCH", path, map[string]any{"tags": map[string]any{"a": "b"}}).want(200, `"a":"b"`)
	close(g.open)
	w.finish(a).want(200, `"Succeeded"`, "endTime")
	w.as("admin", "GET", path, nil).want(200, `"provisioningState":"Succeeded"`, `"a":"b"`)
	w.as("admin", "PUT", path, inCentralUS).want(200)
}

func TestFailureIsToldAndRepaired(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	path := w.clusterPath("c")
	w.fail("apply", errors.New("etcd: /secret/path: disk full"))
	status := w.finish(w.as("admin", "PUT", path, inCentralUS).want(201)).want(200, `"Failed"`, "ControlPlaneFailed", "'c'", "could not be created")
	if strings.Contains(status.Body.String(), "secret") {
		t.Errorf("the status tells of the inside: %s", status.Body)
	}
	w.as("admin", "GET", path, nil).want(200, `"provisioningState":"Failed"`, "provisioningError")
	w.as("admin", "POST", path+"/listClusterUserCredential", nil).want(409, "Failed")

	w.fail("apply", fault.New(fault.Unavailable, "there is no free port below 65536"))
	w.finish(w.as("admin", "PUT", path, inCentralUS).want(200)).want(200, `"Failed"`, "no free port")

	w.planes.on(nil)
	w.finish(w.as("admin", "PUT", path, inCentralUS).want(200)).want(200, `"Succeeded"`)
	if body := w.as("admin", "GET", path, nil).want(200, `"provisioningState":"Succeeded"`).Body.String(); strings.Contains(body, "provisioningError") {
		t.Errorf("the failure is still shown: %s", body)
	}
}

// TestKilledInTheMiddle restarts the provisioner while it creates, updates, rotates and deletes.
func TestKilledInTheMiddle(t *testing.T) {
	for _, c := range []struct{ name, holds, method, path, end string }{
		{"create", "apply", "PUT", "", aks.Succeeded},
		{"update", "apply", "PUT", "", aks.Succeeded},
		{"rotate", "rotate", "POST", "/rotateClusterCertificates", aks.Succeeded},
		{"delete", "delete", "DELETE", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.makeGroup()
			if c.name != "create" {
				w.create("c", nil)
			}
			g := w.hold(c.holds)
			a := w.as("admin", c.method, w.clusterPath("c")+c.path, inCentralUS)
			guid := <-g.entered
			w.halt() // as after kill -9, nothing of it is written
			w.as("admin", "GET", a.Header().Get("Azure-AsyncOperation"), nil).want(200, `"InProgress"`)
			w.boot()
			if again := <-g.entered; again != guid {
				t.Errorf("the new process works on %s, not on %s", again, guid)
			}
			close(g.open)
			w.finish(a).want(200, `"Succeeded"`)
			w.await("c", c.end)
		})
	}
}

func TestStartBringsControlPlanesUp(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	g := w.group("admins")
	w.create("good", managed(g.ID))
	w.fail("apply", errors.New("broken"))
	w.finish(w.as("admin", "PUT", w.clusterPath("bad"), inCentralUS).want(201)).want(200, `"Failed"`)
	w.halt()

	failed := make(chan directory.ID, 16)
	w.planes.on(func(_ context.Context, _ string, guid directory.ID) error {
		failed <- guid
		return errors.New("not yet")
	})
	w.boot()
	good := aks.In(w.feed.View()).ByID(w.clusterPath("good"))
	if guid := <-failed; guid != good.GUID {
		t.Errorf("%s was started; it has never run", guid)
	}
	// Nobody waits for this start, so it is not a failed operation: it is tried again.
	if state := w.state("good"); state != aks.Succeeded {
		t.Errorf("the cluster is %v", state)
	}
	g2 := w.hold("apply")
	w.planes.turns <- struct{}{}
	<-g2.entered
	revision := w.feed.View().Revision
	// A PUT may come in between: it takes over.
	a := w.as("admin", "PUT", w.clusterPath("good"), map[string]any{"location": "centralus", "properties": managed()}).want(200)
	<-g2.entered
	close(g2.open)
	w.finish(a).want(200, `"Succeeded"`)
	if w.feed.View().Revision == revision || len(w.planes.settings(t).AdminGroups) != 0 {
		t.Errorf("the control plane has %+v", w.planes.settings(t))
	}
}

// TestDeletionTakesTheOperationsPlace: it is the way out of a creation that hangs.
func TestDeletionTakesTheOperationsPlace(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	g := w.hold("apply")
	create := w.as("admin", "PUT", w.clusterPath("c"), inCentralUS).want(201)
	<-g.entered
	remove := w.as("admin", "DELETE", w.clusterPath("c"), nil).want(202)
	w.finish(create).want(200, `"Canceled"`, "OperationPreempted")
	w.finish(remove).want(200, `"Succeeded"`)
	w.as("admin", "GET", remove.Header().Get("Location"), nil).want(204)
	w.as("admin", "GET", w.clusterPath("c"), nil).want(404, "ResourceNotFound")
	w.as("admin", "DELETE", w.clusterPath("c"), nil).want(204)
}

func TestDeletingTwiceIsOneDeletion(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	w.create("c", nil)
	g := w.hold("delete")
	one := w.as("admin", "DELETE", w.clusterPath("c"), nil).want(202)
	<-g.entered
	two := w.as("admin", "DELETE", w.clusterPath("c"), nil).want(202)
	if one.Header().Get("Location") != two.Header().Get("Location") {
		t.Error("there are two operations")
	}
	w.as("admin", "GET", one.Header().Get("Location"), nil).want(202)
	w.as("admin", "POST", w.clusterPath("c")+"/listClusterAdminCredential", nil).want(409, "being deleted")
	w.as("admin", "PUT", w.clusterPath("c"), inCentralUS).want(409, "OperationNotAllowed", "Deleting")
	close(g.open)
	w.finish(one).want(200, `"Succeeded"`)
}

// TestSameNameInheritsNothing covers roles, identities, settings and the control plane's id.
func TestSameNameInheritsNothing(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	bob := w.user("bob")
	w.create("c", map[string]any{"aadProfile": managed()["aadProfile"], "disableLocalAccounts": true})
	first := aks.In(w.feed.View()).ByID(w.clusterPath("c"))
	w.grant(bob.ID, rbac.Contributor, strings.ToLower(w.clusterPath("c")))
	w.grant(first.Identities.Kubelet, rbac.Reader, w.clusterPath("c"))
	w.as("bob", "GET", w.clusterPath("c"), nil).want(200)
	w.finish(w.as("admin", "DELETE", w.clusterPath("C"), nil).want(202)).want(200, `"Succeeded"`)
	if dir := directory.In(w.feed.View()); dir.ServicePrincipal(first.Identities.Kubelet) != nil || dir.ServicePrincipal(first.Identities.ControlPlane) != nil {
		t.Error("its identities are left")
	}
	w.create("c", nil)
	w.as("bob", "GET", w.clusterPath("c"), nil).want(403)
	second := aks.In(w.feed.View()).ByID(w.clusterPath("c"))
	if second.GUID == first.GUID || second.AAD != nil || second.NoLocalAccounts || second.Identities.Kubelet == first.Identities.Kubelet {
		t.Errorf("the new cluster is %+v", second)
	}
	if all := rbac.In(w.feed.View()).AtOrBelow(rbac.Root); len(all) != 1 {
		t.Errorf("%d role assignments are left, want the owner's alone", len(all))
	}
}

func TestGroupGoesWithItsClusters(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	rg := w.sub() + "/resourceGroups/RG"
	w.create("one", nil)
	g := w.hold("apply")
	creating := w.as("admin", "PUT", w.clusterPath("two"), inCentralUS).want(201)
	<-g.entered
	held := w.hold("delete")
	a := w.as("admin", "DELETE", rg, nil).want(202)
	<-held.entered
	<-held.entered
	w.finish(creating).want(200, `"Canceled"`)
	w.as("admin", "GET", a.Header().Get("Location"), nil).want(202)
	w.as("admin", "GET", rg, nil).want(200, `"Deleting"`)
	w.as("admin", "PUT", w.clusterPath("three"), inCentralUS).want(409, "ResourceGroupBeingDeleted")
	w.as("admin", "PUT", rg, inCentralUS).want(409, "ResourceGroupBeingDeleted")
	again := w.as("admin", "DELETE", rg, nil).want(202)
	if again.Header().Get("Location") != a.Header().Get("Location") {
		t.Error("there are two operations")
	}
	w.halt()
	w.boot()
	<-held.entered
	<-held.entered
	close(held.open)
	w.await("one", "")
	w.await("two", "")
	w.as("admin", "GET", a.Header().Get("Location"), nil).want(204)
	w.as("admin", "GET", rg, nil).want(404)
}

func TestGroupStaysWhenAClusterDoes(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	rg := w.sub() + "/resourceGroups/rg"
	w.create("c", nil)
	w.fail("delete", errors.New("busy"))
	a := w.as("admin", "DELETE", rg, nil).want(202)
	w.await("c", aks.Failed)
	w.as("admin", "GET", a.Header().Get("Location"), nil).want(409, "ControlPlaneFailed", "could not be deleted")
	w.as("admin", "GET", rg, nil).want(200, `"Succeeded"`)
	w.planes.on(nil)
	a = w.as("admin", "DELETE", rg, nil).want(202)
	w.await("c", "")
	w.as("admin", "GET", a.Header().Get("Location"), nil).want(204)
}

func TestConditions(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	path := w.clusterPath("c")
	w.as("admin", "PUT", path, inCentralUS, "If-Match", "*").want(412, "PreconditionFailed")
	w.finish(w.as("admin", "PUT", path, inCentralUS, "If-None-Match", "*").want(201))
	w.as("admin", "PUT", path, inCentralUS, "If-None-Match", "*").want(412)
	etag := w.as("admin", "GET", path, nil).get("eTag").(string)
	w.as("admin", "PUT", path, inCentralUS, "If-Match", `"old"`).want(412, etag)
	w.finish(w.as("admin", "PUT", path, inCentralUS, "If-Match", `"`+etag+`"`).want(200))
	w.as("admin", "DELETE", path, nil, "If-Match", etag).want(412)
	if now := w.as("admin", "GET", path, nil).get("eTag"); now == etag {
		t.Error("the eTag did not change")
	}
}

func TestOperationsAreForTheirReaders(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	bob, eve := w.user("bob"), w.user("eve")
	w.grant(bob.ID, rbac.Contributor, w.sub()+"/resourceGroups/rg")
	w.grant(eve.ID, rbac.Reader, w.sub()+"/resourceGroups/rg")
	a := w.as("bob", "PUT", w.clusterPath("c"), inCentralUS).want(201)
	w.finish(a)
	poll := a.Header().Get("Azure-AsyncOperation")
	w.as("bob", "GET", poll, nil).want(200, `"Succeeded"`)
	refused := w.as("eve", "GET", poll, nil).want(403, "AuthorizationFailed").Body.String()
	id := w.as("bob", "GET", poll, nil).get("name").(string)
	other := w.newID().String()
	if got := w.as("eve", "GET", strings.ReplaceAll(poll, id, other), nil).want(403).Body.String(); strings.ReplaceAll(got, other, id) != refused {
		t.Error("the refusals tell which operations exist")
	}
	w.as("admin", "GET", strings.ReplaceAll(poll, id, other), nil).want(404, "OperationNotFound")
}

func TestSweepKeepsWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	g := w.hold("apply")
	a := w.as("admin", "PUT", w.clusterPath("c"), inCentralUS).want(201)
	<-g.entered
	w.must(w.provisioner.Sweep(w.ctx))
	w.as("admin", "GET", a.Header().Get("Azure-AsyncOperation"), nil).want(200)
	close(g.open)
	w.finish(a)
	w.must(w.provisioner.Sweep(w.ctx))
	w.as("admin", "GET", a.Header().Get("Azure-AsyncOperation"), nil).want(200)
}

// TestStopAtAnyMoment: a stop that comes while the provisioner looks at the clusters ends it too.
func TestStopAtAnyMoment(t *testing.T) {
	w := newWorld(t)
	for range 1000 {
		w.halt()
		w.boot()
	}
}
