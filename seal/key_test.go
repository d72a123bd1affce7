package seal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/kms"
)

// FuzzOpen: a body that opens is one that was sealed, for this record, and comes back as it was.
func FuzzOpen(f *testing.F) {
	m, err := makeLocal(OwnFile("unused"))
	if err != nil {
		f.Fatal(err)
	}
	key, err := newDataKey(f.Context(), m, time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	genuine := key.seal(feed.Secret{Record: feed.Record{Kind: "k", Key: "a", Tenant: "b", Body: []byte("body")}}).Body
	f.Add("k", "a", "b", int64(0), genuine)
	f.Add("k", "ab", "", int64(1), genuine[:len(genuine)-1])
	f.Add("k", "", "", int64(-1), []byte(mark))
	f.Add("ka", "b", "", int64(1<<62), []byte("{}"))
	f.Fuzz(func(t *testing.T, kind, name, tenant string, expires int64, body []byte) {
		s := feed.Secret{Record: feed.Record{Kind: feed.Kind(kind), Key: name, Tenant: tenant, Body: body}}
		if expires != 0 {
			s.Expires = time.UnixMicro(expires)
		}
		if _, err := key.open(s); err == nil && !(bytes.Equal(body, genuine) && kind == "k" && name == "a" && tenant == "b" && expires == 0) {
			t.Errorf("%+v opens", s)
		}
		if len(body) == 0 {
			return
		}
		back, err := key.open(key.seal(s))
		if err != nil || !bytes.Equal(back.Body, body) {
			t.Errorf("%+v came back as %+v (%v)", s, back, err)
		}
	})
}

// FuzzRecord reads records of data keys as a database may hold them.
func FuzzRecord(f *testing.F) {
	m, err := makeLocal(OwnFile("unused"))
	if err != nil {
		f.Fatal(err)
	}
	key, err := newDataKey(f.Context(), m, time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.body)
	f.Add([]byte(`{"id":"AAAAAAAAAAA=","master":"local","wrapped":{"keyID":"` + m.id + `"}}`))
	f.Add([]byte(`{"id":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, _, err := readRecord(t.Context(), one{body})
		if err != nil {
			return
		}
		if got, err := r.unwrap(t.Context(), m); err == nil && !bytes.Equal(got.Check, key.Check) {
			t.Errorf("%q unwraps to another key", body)
		}
	})
}

// one holds one secret, whatever is asked for.
type one struct{ body []byte }

func (o one) Secret(_ context.Context, kind feed.Kind, key string) (feed.Secret, error) {
	return feed.Secret{Record: feed.Record{Kind: kind, Key: key, Body: o.body}}, nil
}

// TestPatience: tries that hang take no longer together than the patience; without any there is one, for which only the caller's limit holds.
func TestPatience(t *testing.T) {
	for patience, want := range map[time.Duration]time.Duration{0: defaultPatience, time.Minute: time.Minute, time.Second: time.Second, -1: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			l := &Log{options: Options{Patience: patience, Logger: slog.New(slog.DiscardHandler)}}
			began := time.Now()
			err := l.patiently(t.Context(), func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				<-ctx.Done() // as a plugin that accepts and does not answer
				return kms.ErrUnavailable
			})
			if took := time.Since(began); took != want || !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("patience %s: it took %s, want %s (%v)", patience, took, want, err)
			}
		})
	}
}
