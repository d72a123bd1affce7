package sts

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
)

// A browser sends cookies to every port of a host, and takes them from every port (RFC 6265 section 8.5). "localhost" counts as trustworthy,
// so that even Secure cookies with the __Host- prefix go to http://localhost:3000, whoever listens there. So a cookie alone must not be
// the session of a browser, and it is one half of it only:
//
//	cookie     finds the browser's record; other ports of this host see it and can replace it
//	origin     256 random bits in localStorage, which belongs to scheme, host and port; the record holds their hash
//
// A script (pages/origin.js) makes the origin's half once and puts it into the forms of the pages. Server.accounts, which alone says who is
// signed in, demands it. So whoever has the cookie only is nobody, and writes nothing to the record: neither do their sign-ins take
// over its sessions, nor do their sign-outs end them. A browser into which somebody plants a cookie has the other half of another record.
//
// A GET has no form. Where it matters who is signed in it is answered with the page "resume" (askOrigin), whose form brings the half to the
// step that goes on where the GET would have; a POST never shows that page again.
//
// The forms' states remember the half too (pageState.Origin). The cookie that binds a form to the browser is seen by other ports like any
// other, but of no use there: a state is in pages of this origin only, which no other origin reads, and crossOrigin.Check keeps other
// origins from posting one of theirs. To finish somebody's form one needs its state, the form's cookie and the half.
//
// Browsers that run no scripts sign in as others do. The half of their session is one that nobody has and that only the states of the
// visit's forms stand for, so that they can finish what they began; the next visit asks for the password again.

// stepResume is the step of every surface that goes on with a GET.
const stepResume = "resume"

// originProof is what a request shows of the origin's half.
type originProof struct {
	Hash []byte `json:"h,omitempty"` // SHA-256; nil: nothing is shown
	Made bool   `json:"m,omitempty"` // by this server, for a browser that runs no scripts: no half has this hash
}

// hashOrigin returns the proof in a half as the script makes it: 43 characters of base64url. Anything else shows nothing.
func hashOrigin(half string) originProof {
	if len(half) != 43 {
		return originProof{}
	}
	sum := sha256.Sum256([]byte(half))
	return originProof{Hash: sum[:]}
}

// is reports whether both are of the same half. Nothing is the same as nothing.
func (p originProof) is(hash []byte) bool {
	return len(p.Hash) == sha256.Size && subtle.ConstantTimeCompare(p.Hash, hash) == 1
}

// takeOrigin reads the half that a form brings; errStale when the form's page was given to another one.
func takeOrigin(state pageState, f form) (originProof, error) {
	brought := hashOrigin(f["origin"])
	switch {
	case state.Origin.Hash == nil:
		return brought, nil
	case state.Origin.Made || brought.is(state.Origin.Hash):
		return state.Origin, nil
	}
	return originProof{}, errStale
}

// ensureOrigin makes up a half for a browser that brings none.
func (s *Server) ensureOrigin(v *visit) error {
	if v.origin.Hash != nil {
		return nil
	}
	v.origin = originProof{Hash: make([]byte, sha256.Size), Made: true}
	if _, err := io.ReadFull(s.random(), v.origin.Hash); err != nil {
		return fmt.Errorf("make up an origin's half: %w", err)
	}
	return nil
}

// own returns the browser's record if the visit shows its other half, else an empty one.
func (v *visit) own(b *browser) *browser {
	if !v.origin.is(b.Origin) {
		return new(browser)
	}
	return b
}

// accounts returns who is signed in in the browser, and may be used now: whoever was disabled, or whose sessions were ended,
// is not there any more. Without the origin's half nobody is.
func (s *Server) accounts(ctx context.Context, v *visit) ([]account, error) {
	b, err := s.browserAt(ctx, v)
	if err != nil {
		return nil, err
	}
	return v.own(b).accounts(s.Feed.View(), v.now), nil
}

// askOrigin answers a GET of a browser in which somebody may be signed in with the page that brings the origin's half, and reports whether it
// did. The visit's state is what the step stepResume finds. In a frame no page of ours shows, so there nobody is signed in.
func (s *Server) askOrigin(ctx context.Context, v *visit) (asked bool, err error) {
	if to := v.r.Header.Get("Sec-Fetch-Dest"); v.r.Method != http.MethodGet || to != "" && to != "document" {
		return false, nil
	}
	b, err := s.browserAt(ctx, v)
	if err != nil || len(b.accounts(s.Feed.View(), v.now)) == 0 {
		return false, err
	}
	v.state.Step = stepResume
	return true, s.showForm(v, http.StatusOK, "resume", pageView{Title: "Continuing"})
}
