package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/gatehousetest"
	"github.com/gatehouse-k8s/gatehouse/internal/pki"
	"github.com/gatehouse-k8s/gatehouse/sts"
	"github.com/gatehouse-k8s/gatehouse/webhook"
)

// What the ratios are measured with. Runs one after another are worthless on a shared machine: the same handler swings by
// half. So two sides take turns in slices of under a second, and the median of the pairs' ratios counts.
const (
	connections  = 16
	slice        = 400 * time.Millisecond
	pairs        = 21
	groupsOfUser = 20
	seenTokens   = 64
	freshTokens  = 1500 // of one slice, which ends with them
)

// side is one of two handlers that are compared.
type side struct {
	name    string
	clients []*http.Client
	url     string
	bodies  [][]byte
	renew   func() // before each slice, which then sends each body once; nil: the bodies go round

	latencies []time.Duration
}

// run sends requests for one slice and returns how many were answered in a second.
func (s *side) run(b *testing.B) float64 {
	if s.renew != nil {
		s.renew()
	}
	var (
		next  atomic.Int64
		wg    sync.WaitGroup
		mu    sync.Mutex
		start = time.Now()
	)
	for _, c := range s.clients {
		wg.Go(func() {
			var took []time.Duration
			for {
				i := int(next.Add(1) - 1)
				sent := time.Now()
				if sent.Sub(start) > slice || s.renew != nil && i >= len(s.bodies) {
					break
				}
				if err := post(c, s.url, s.bodies[i%len(s.bodies)]); err != nil {
					b.Error(err)
					break
				}
				took = append(took, time.Since(sent))
			}
			mu.Lock()
			defer mu.Unlock()
			s.latencies = append(s.latencies, took...)
		})
	}
	before := len(s.latencies)
	wg.Wait()
	return float64(len(s.latencies)-before) / time.Since(start).Seconds()
}

func post(c *http.Client, url string, body []byte) error {
	resp, err := c.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || resp.ProtoMajor != 2 || !bytes.Contains(answer, []byte(`"authenticated":true`))) {
		err = fmt.Errorf("%s %d: %.200s", resp.Proto, resp.StatusCode, answer)
	}
	return err
}

// result is what comparing two sides gave.
type result struct {
	ratio            float64 // of the first side's throughput to the second's: median of the pairs
	first, second    float64 // requests a second: medians
	p99, secondOfP99 time.Duration
}

// compare lets two sides take turns.
func compare(b *testing.B, first, second *side) result {
	for range 2 { // connections, caches, branch predictors
		first.run(b)
		second.run(b)
	}
	first.latencies, second.latencies = nil, nil
	var ratios, firsts, seconds []float64
	for i := range pairs {
		var x, y float64
		if i%2 == 0 {
			x, y = first.run(b), second.run(b)
		} else {
			y, x = second.run(b), first.run(b)
		}
		ratios, firsts, seconds = append(ratios, x/y), append(firsts, x), append(seconds, y)
	}
	return result{median(ratios), median(firsts), median(seconds), p99(first.latencies), p99(second.latencies)}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func p99(v []time.Duration) time.Duration {
	slices.Sort(v)
	return v[len(v)*99/100]
}

// estate is a house with a user in 20 groups, and listeners with mutual TLS.
type estate struct {
	*house
	b     *testing.B
	alice *directory.User
	ca    *pki.Authority
}

func newEstate(b *testing.B) *estate {
	e := &estate{house: build(b, new(gatehousetest.Clock)), b: b, ca: openCA(b, "webhooks")}
	e.alice = e.newUser("alice")
	for range groupsOfUser {
		e.newGroup(e.alice.ID)
	}
	return e
}

// follow keeps the house's view young, as a server does.
func (e *estate) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.feed.Run(ctx)
	}()
	e.b.Cleanup(func() {
		cancel()
		<-done
	})
}

// newServer is a server that has seen no token.
func (e *estate) newServer() *webhook.Server {
	return &webhook.Server{
		Feed: e.feed, Audit: e.server.Audit, Log: slog.New(slog.DiscardHandler),
		Tokens: sts.NewVerifier(e.feed, &sts.Authorities{Public: publicURL}, 20000),
	}
}

func (e *estate) questions(n int) (bodies [][]byte) {
	c := e.claims(e.alice).with("name", "Alice Ng").with("ipaddr", "192.0.2.1").with("uti", "0123456789abcdefghijkl")
	for i := range n {
		bodies = append(bodies, []byte(question(e.sign(c.with("n", i)))))
	}
	return bodies
}

func (e *estate) side(name string, h http.Handler, bodies [][]byte) *side {
	srv := listen(e.b, e.ca, h)
	s := &side{name: name, url: srv.URL + "/webhook/authenticate", bodies: bodies}
	for range connections {
		s.clients = append(s.clients, client(e.b, e.ca, e.ca, pki.Request{CommonName: e.cluster.GUID.String(), Client: true}))
	}
	return s
}

// constant reads a request and answers what the real handler would, without a thought.
func (e *estate) constant(bodies [][]byte) *side {
	answer := e.post(e.newServer().Handler(), e.cluster.GUID.String(), "/webhook/authenticate", string(bodies[0])).Body.Bytes()
	return e.side("constant", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	}), bodies)
}

func (e *estate) seen(bodies [][]byte) *side {
	return e.side("seen before", e.newServer().Handler(), bodies)
}

// fresh meets each token for the first time: every slice has a server of its own that remembers nothing.
func (e *estate) fresh(bodies [][]byte) *side {
	var handler atomic.Pointer[http.Handler]
	s := e.side("first sight", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }), bodies)
	s.renew = func() {
		h := e.newServer().Handler()
		handler.Store(&h)
	}
	return s
}

// BenchmarkTokenReview measures TokenReviews over mutual TLS and HTTP/2, on 16 connections, against a handler that answers
// a constant on an equal listener; then with a directory of 100,000 users, 10,000 groups and 1,000,000 memberships.
func BenchmarkTokenReview(b *testing.B) {
	for b.Loop() {
		var table bytes.Buffer
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		fmt.Fprint(w, "\nTokenReview\tratio\tgoal\trequests/s\tp99\tbeside\trequests/s\tp99\n")
		row := func(name, goal string, r result, beside string) {
			fmt.Fprintf(w, "%s\t%.2f\t%s\t%.0f\t%s\t%s\t%.0f\t%s\n", name, r.ratio, goal, r.first, ms(r.p99), beside, r.second, ms(r.secondOfP99))
		}
		small := newEstate(b)
		small.follow()
		known, unknown := small.questions(seenTokens), small.questions(freshTokens)
		constant := small.constant(known)
		seen := compare(b, small.seen(known), constant)
		row("seen before", ">= 0.80", seen, "constant")
		first := compare(b, small.fresh(unknown), constant)
		row("first sight", ">= 0.45", first, "constant")
		b.ReportMetric(seen.ratio, "seen/constant")
		b.ReportMetric(first.ratio, "first/constant")

		big := newEstate(b)
		load := big.fill()
		bigKnown, bigUnknown := big.questions(seenTokens), big.questions(freshTokens)
		seen = compare(b, big.seen(bigKnown), small.seen(known))
		row("seen before, 1,000,000 memberships", ">= 0.90", seen, "empty directory")
		first = compare(b, big.fresh(bigUnknown), small.fresh(unknown))
		row("first sight, 1,000,000 memberships", ">= 0.90", first, "empty directory")
		b.ReportMetric(seen.ratio, "big/small")
		b.ReportMetric(float64(load.heap)/(1<<20), "MiB")

		usual, largest := big.followUp(load.group), big.followUp(load.everybody)
		fmt.Fprintf(w, "\nload from SQLite\t%s\n", load.took.Round(time.Millisecond))
		fmt.Fprintf(w, "memory of the directory\t%d MiB\n", load.heap>>20)
		fmt.Fprintf(w, "one change, group of 90\t%s\tgoal\t< 50 ms\n", ms(usual))
		fmt.Fprintf(w, "one change, group of 100,000\t%s\tgoal\t< 50 ms\n", ms(largest))
		b.ReportMetric(float64(largest.Microseconds())/1000, "ms/change")
		w.Flush()
		os.Stdout.Write(table.Bytes()) // b.Log shows ten lines
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// loaded is what filling a directory told.
type loaded struct {
	took             time.Duration
	heap             uint64 // bytes
	group, everybody directory.ID
}

// fill adds 100,000 users, 10,000 groups and 1,000,000 memberships to the database, and loads all of it anew.
func (e *estate) fill() (l loaded) {
	const users, groups = 100_000, 10_000
	ids := make([]directory.ID, groups)
	change := feed.Change{}
	record := func(kind feed.Kind, key string, body []byte) {
		change.Records = append(change.Records, feed.Record{Kind: kind, Key: key, Tenant: e.tenant.ID.String(), Body: body})
	}
	write := func() {
		e.must(e.db.Write(e.ctx, func(tx feed.Tx) error {
			_, err := tx.Append(e.ctx, change)
			return err
		}))
		change.Records = nil
	}
	for i := range ids {
		ids[i] = e.newID()
		g := directory.Group{
			ID: ids[i], Tenant: e.tenant.ID, DisplayName: fmt.Sprintf("Team %d of the company", i), MailNickname: fmt.Sprintf("team%d", i),
			SecurityEnabled: true, Created: e.clock.Now(),
		}
		record(directory.KindGroup, ids[i].String(), encode(g))
	}
	everybody := ids[0]
	for i := range users {
		u := directory.User{
			ID: e.newID(), Tenant: e.tenant.ID, UPN: fmt.Sprintf("person.%d@example.test", i), DisplayName: fmt.Sprintf("Person %d", i),
			GivenName: "Person", Surname: fmt.Sprint(i), MailNickname: fmt.Sprintf("person.%d", i), Type: directory.Member, Enabled: true, Created: e.clock.Now(),
		}
		record(directory.KindUser, u.ID.String(), encode(u))
		record(directory.KindMembership, everybody.String()+"/"+u.ID.String(), []byte("{}"))
		for n := range 9 {
			record(directory.KindMembership, ids[1+(i*9+n)%(groups-1)].String()+"/"+u.ID.String(), []byte("{}"))
		}
		if len(change.Records) > 200_000 {
			write()
		}
	}
	write()

	f := &feed.Follower{Log: e.feed.Log, Logger: slog.New(slog.DiscardHandler)}
	before := heap()
	start := time.Now()
	e.must(f.Start(e.ctx, parts()))
	l.took = time.Since(start)
	l.heap = heap() - before
	l.group, l.everybody = ids[1], everybody
	e.feed, e.keys.Feed, e.dir.Feed = f, f, f
	e.follow()
	return l
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// followUp is how long a replica takes from the news of one changed membership to its view: the worst of 20.
func (e *estate) followUp(group directory.ID) (worst time.Duration) {
	replica := &feed.Follower{Log: e.feed.Log}
	e.must(replica.Start(e.ctx, parts()))
	runtime.GC() // what loading left behind is not the changes' to pay for
	for i := range 20 {
		r := feed.Record{Kind: directory.KindMembership, Key: group.String() + "/" + e.admin.ID.String(), Body: []byte("{}")}
		if i%2 == 1 {
			r.Body = nil
		}
		e.must(e.db.Write(e.ctx, func(tx feed.Tx) error {
			_, err := tx.Append(e.ctx, feed.Change{Records: []feed.Record{r}})
			return err
		}))
		start := time.Now()
		e.must(replica.CatchUp(e.ctx))
		worst = max(worst, time.Since(start))
		if in := directory.In(replica.View()).IsIn(e.admin.ID, group, time.Now()); in != (i%2 == 0) {
			e.b.Fatalf("after change %d the administrator is in the group: %v", i, in)
		}
	}
	return worst
}

// BenchmarkAuthenticate is the handler alone, without a network, for profiles.
func BenchmarkAuthenticate(b *testing.B) {
	e := newEstate(b)
	e.follow()
	bodies := e.questions(freshTokens)
	for _, c := range []struct {
		name   string
		bodies [][]byte
		step   int64 // of the bindings' revision, for each request
		forget bool  // after each round
	}{
		{"seen before", bodies[:1], 0, false},
		{"decided anew", bodies[:1], 1, false},
		{"first sight", bodies, 0, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			revision := int64(0)
			newHandler := func() http.Handler {
				server := e.newServer()
				server.BoundGroups = func(directory.ID) (func(directory.ID) bool, int64) {
					revision += c.step
					return nil, revision
				}
				return server.Handler()
			}
			handler, body := newHandler(), new(bytes.Reader)
			r, w := e.request("/webhook/authenticate", body), &discard{http.Header{}}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i %= len(c.bodies); i == 0 && c.forget {
					handler = newHandler()
				}
				body.Reset(c.bodies[i])
				handler.ServeHTTP(w, r)
			}
		})
	}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// request carries a client certificate of the cluster.
func (e *estate) request(path string, body io.Reader) *http.Request {
	r := httptest.NewRequest("POST", path, body)
	r.TLS = certified(e.cluster.GUID.String())
	return r
}
