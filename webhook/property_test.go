package webhook_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/sts"
	"github.com/gatehouse-k8s/gatehouse/webhook"
)

// TestRememberedIsFresh holds that an answer from memory is what a server without memory would say, whatever happens to
// directory, sessions, keys, cluster, bindings and clock.
func TestRememberedIsFresh(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { rememberedIsFresh(t, rand.New(rand.NewPCG(seed, 7)), 250) })
	}
}

func rememberedIsFresh(t *testing.T, random *rand.Rand, steps int) {
	h := newHouse(t)
	var (
		users  []*directory.User
		groups []directory.ID
		tokens []string
		about  []claims
	)
	for i := range 4 {
		users = append(users, h.newUser(fmt.Sprintf("user%d", i)))
	}
	for range 6 {
		groups = append(groups, h.newGroup())
	}
	other, _ := h.newTenant("other.test")
	key := h.newKeyHolder()
	fresh := func() *webhook.Server {
		return &webhook.Server{Feed: h.feed, Tokens: h.tokens, Now: h.clock.Now, Log: h.server.Log, BoundGroups: h.server.BoundGroups}
	}
	decision := func(s *webhook.Server, token string) tokenReview {
		w := h.post(s.Handler(), h.cluster.GUID.String(), "/webhook/authenticate", question(token))
		var a tokenReview
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
		a.Status.Error, _, _ = strings.Cut(a.Status.Error, "; ") // the rest is the request's id
		return a
	}

	any := func(n int) int { return random.IntN(n) }
	var moments []time.Time // at which something begins or ends
	soon := func() time.Time {
		at := h.clock.Now().Add(time.Duration(random.Int64N(int64(10 * time.Minute)))).Truncate(time.Second)
		moments = append(moments, at)
		return at
	}
	window := func() (w feed.Window) {
		if any(3) == 0 {
			w.From = soon().Unix()
		}
		if any(2) == 0 {
			w.Until = soon().Unix()
		}
		return w
	}
	sign := func() {
		h.must(h.keys.Ensure(h.ctx))
		c := h.claims(users[any(len(users))])
		switch any(4) {
		case 0:
			c = c.with("exp", soon().Unix())
		case 1:
			s := *sts.In(h.feed.View()).Session(c["sid"].(directory.ID))
			s.Expires = soon().Add(time.Duration(any(1e9)))
			moments = append(moments, s.Expires)
			h.put(sts.KindSession, s.ID.String(), &s)
		}
		if any(3) == 0 { // as a proof of possession, often for this cluster, of some minutes ago
			made := h.clock.Now().Add(time.Minute - time.Duration(random.Int64N(int64(15*time.Minute)))).Truncate(time.Second)
			moments = append(moments, made.Add(15*time.Minute))
			u := h.cluster.ID()[any(4)/3:]
			tokens, about = append(tokens, key.prove(h.sign(key.bind(c)), u, made)), append(about, c)
			return
		}
		tokens, about = append(tokens, h.sign(c)), append(about, c)
	}
	for range 6 {
		sign()
	}
	let, in := 0, 0
	compare := func(step int) {
		for _, token := range tokens[max(0, len(tokens)-6):] {
			got, want := decision(h.server, token), decision(fresh(), token)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("step %d: remembered %+v; fresh %+v\n%s", step, got, want, h.log)
			}
			if in++; got.Status.Authenticated {
				let++
			}
		}
	}
	for step := range steps {
		u, g := users[any(len(users))], groups[any(len(groups))]
		switch what := any(13); what {
		case 0, 1, 2: // memberships, nested and in circles
			member := u.ID
			if any(3) == 0 {
				member = groups[any(len(groups))]
			}
			key := g.String() + "/" + member.String()
			if any(3) == 0 {
				h.put(directory.KindMembership, key, nil)
			} else {
				h.put(directory.KindMembership, key, window())
			}
		case 3: // an account
			changed := *directory.In(h.feed.View()).User(u.ID)
			changed.Enabled = any(3) > 0
			changed.Type = []string{directory.Member, directory.Member, directory.Guest}[any(3)]
			changed.UPN = fmt.Sprintf("user%d.%d@example.test", step, any(2))
			if any(6) == 0 {
				changed.SessionsValidFrom = h.clock.Now().UnixNano()
			}
			h.put(directory.KindUser, u.ID.String(), &changed)
		case 4: // the clock, also back
			h.advance(time.Duration(random.Int64N(int64(time.Minute))) - 20*time.Second)
		case 5: // the clock, to the moment when something changes, and to the last before
			if at := moments[any(len(moments))]; at.Sub(h.clock.Now()).Abs() < 5*time.Minute {
				h.advance(at.Sub(h.clock.Now()) - 1)
				compare(step)
				h.advance(1)
			}
		case 6:
			sign()
		case 7: // a session
			if id := about[any(len(about))]["sid"].(directory.ID); any(4) == 0 {
				h.put(sts.KindSession, id.String(), nil)
			}
		case 8: // the cluster
			changed := *h.cluster
			if changed.AAD = (&aks.AADProfile{Managed: true, Tenant: h.tenant.ID}); any(6) == 0 {
				changed.AAD.Tenant = other.ID
			}
			changed.AAD.AdminGroups, changed.AAD.RequireProof = groups[:any(3)], any(4) == 0
			h.putCluster(&changed)
		case 9: // bindings
			h.bound, h.boundRevision = map[directory.ID]bool{g: true}, h.boundRevision+1
		case 10: // a key's end
			if k := sts.In(h.feed.View()).Signing(h.clock.Now()); any(4) == 0 && k != nil && k.Retires.IsZero() {
				retiring := *k
				retiring.Retires = soon()
				h.put(sts.KindKey, k.ID, &retiring)
			}
		case 11: // silence, and back
			if any(4) == 0 {
				h.clock.Advance(31 * time.Second)
			} else {
				h.advance(0)
			}
		case 12: // more groups than an API server is told of, or fewer again
			h.must(h.feed.Update(h.ctx, func(*feed.View, feed.Secrets) (c feed.Change, err error) {
				for i := range 201 {
					r := feed.Record{Kind: directory.KindMembership, Key: (directory.ID{1, byte(i)}).String() + "/" + u.ID.String()}
					if step%2 == 0 {
						r.Body = []byte("{}")
					}
					c.Records = append(c.Records, r)
				}
				return c, nil
			}))
		}
		compare(step)
	}
	if let < in/10 || let > in*9/10 {
		t.Errorf("%d of %d were authenticated; such a walk shows little", let, in)
	}
}

// TestChangesAreSeenAtOnce holds that an answer to a question asked after a change knows of it, however many others are
// asked, and remembered, at the same time.
func TestChangesAreSeenAtOnce(t *testing.T) {
	h := newHouse(t)
	alice := h.newUser("alice")
	token := h.tokenOf(alice)
	authenticated := func() bool {
		w := h.post(h.web, h.cluster.GUID.String(), "/webhook/authenticate", question(token))
		return strings.Contains(w.Body.String(), `"authenticated":true`)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					authenticated()
				}
			}
		})
	}
	for i := range 50 {
		enabled := i%2 == 1
		h.must(h.dir.UpdateUser(h.ctx, directory.System, alice.ID, func(u *directory.User) { u.Enabled = enabled }))
		for range 20 {
			if got := authenticated(); got != enabled {
				t.Errorf("change %d: enabled %v, authenticated %v", i, enabled, got)
			}
		}
	}
	close(stop)
	wg.Wait()
}
