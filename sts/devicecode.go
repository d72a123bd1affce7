package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// Kinds of secrets of the device code grant. Their keys are hashes of the codes.
const (
	KindDeviceCode feed.Kind = "sts/devicecode" // a flow, under its device code
	KindUserCode   feed.Kind = "sts/usercode"   // the key of a flow, under its user code
)

const (
	deviceLife     = 15 * time.Minute
	deviceGrace    = 15 * time.Minute // a client hears "expired" this long, and "unknown" later
	deviceInterval = 5                // seconds that a client shall wait between polls; faster ones are not punished
)

// userCodeAlphabet has no vowels, so no words, and nothing that looks like something else. Nine of its letters are 40 bits, for
// codes that live minutes and guesses that are counted (RFC 8628 section 6.1).
const (
	userCodeAlphabet = "CDFGHJKLMNPQRTVWXY34679"
	userCodeLength   = 9
)

// States of a flow.
const (
	flowPending  = "pending"
	flowApproved = "approved"
	flowDeclined = "declined"
	flowRedeemed = "redeemed"
)

// deviceFlow is one sign-in on a device without a browser.
type deviceFlow struct {
	State    string       `json:"state"`
	Tenant   directory.ID `json:"tenant,omitzero"` // zero: whichever the user belongs to
	Client   directory.ID `json:"client"`
	Ask      ask          `json:"ask"`
	Address  string       `json:"address"` // that the code was asked for from
	Asked    time.Time    `json:"asked"`
	Expires  time.Time    `json:"expires"`
	UserCode string       `json:"userCode"`      // the key of the user code's secret
	MFA      bool         `json:"mfa,omitempty"` // a second factor is wanted

	// Of an approved flow.
	User   directory.ID `json:"user,omitzero"`    // at home
	Proved int64        `json:"proved,omitempty"` // when the user proved who they are, Unix nanoseconds
	AMR    []string     `json:"amr,omitempty"`    // and how
}

// deviceAnswerV2 is the answer of RFC 8628 section 3.2, in Entra's shape.
type deviceAnswerV2 struct {
	UserCode   string `json:"user_code"`
	DeviceCode string `json:"device_code"`
	URI        string `json:"verification_uri"`
	ExpiresIn  int    `json:"expires_in"`
	Interval   int    `json:"interval"`
	Message    string `json:"message"`
}

// deviceAnswerV1 is what version 1 clients read: another name for the URI, and numbers in strings.
type deviceAnswerV1 struct {
	UserCode   string `json:"user_code"`
	DeviceCode string `json:"device_code"`
	URL        string `json:"verification_url"`
	ExpiresIn  string `json:"expires_in"`
	Interval   string `json:"interval"`
	Message    string `json:"message"`
}

// deviceCode starts a flow.
func (s *Server) deviceCode(version int) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		flow, err := s.newFlow(w, r, version)
		if err != nil {
			return err
		}
		deviceCode, userCode, err := s.startFlow(r.Context(), flow)
		if err != nil {
			return err
		}
		uri := s.Authorities.Public + "/devicelogin"
		message := "To sign in, use a web browser to open the page " + uri + " and enter the code " + userCode + " to authenticate."
		seconds := int(deviceLife.Seconds())
		noStore(w)
		s.echoHeaders(w, r)
		if version == 2 {
			return web.WriteJSON(w, http.StatusOK, deviceAnswerV2{userCode, deviceCode, uri, seconds, deviceInterval, message})
		}
		return web.WriteJSON(w, http.StatusOK, deviceAnswerV1{userCode, deviceCode, uri, strconv.Itoa(seconds), strconv.Itoa(deviceInterval), message})
	}
}

// newFlow checks a request for a code as far as it can be before the user is known.
func (s *Server) newFlow(w http.ResponseWriter, r *http.Request, version int) (*deviceFlow, error) {
	if err := crossOrigin.Check(r); err != nil {
		return nil, fail(90013, "the request was sent by a page of another site")
	}
	from := web.ClientIP(r)
	if !s.starts.take(from) {
		return nil, fail(90055, from)
	}
	f, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	dir := directory.In(s.Feed.View())
	place, err := tenancyOf(dir, r.PathValue("tenant"))
	if err != nil {
		return nil, err
	}
	c, err := findClient(dir, place, f["client_id"])
	if err != nil {
		return nil, err
	}
	if place.word == consumers {
		return nil, fail(9002346, c.app.AppID)
	}
	a, err := askOf(f, version)
	if err != nil {
		return nil, err
	}
	mfa, err := wantsMFA(f)
	if err != nil {
		return nil, err
	}
	now := s.now().UTC()
	flow := &deviceFlow{State: flowPending, Client: c.app.AppID, Ask: a, MFA: mfa, Address: from.String(), Asked: now, Expires: now.Add(deviceLife)}
	if place.tenant != nil {
		flow.Tenant = place.tenant.ID
		if _, err := a.resolve(dir, place.tenant); err != nil {
			return nil, err
		}
	}
	return flow, nil
}

// startFlow makes the codes and keeps the flow under their hashes.
func (s *Server) startFlow(ctx context.Context, flow *deviceFlow) (deviceCode, userCode string, err error) {
	if deviceCode, err = s.randomText(48, "a device code"); err != nil {
		return "", "", err
	}
	if userCode, err = newUserCode(s.random()); err != nil {
		return "", "", err
	}
	key, err := s.vault.hash(ctx, string(KindDeviceCode), deviceCode)
	if err != nil {
		return "", "", err
	}
	if flow.UserCode, err = s.vault.hash(ctx, string(KindUserCode), userCode); err != nil {
		return "", "", err
	}
	err = s.Feed.Update(ctx, func(_ *feed.View, secrets feed.Secrets) (feed.Change, error) {
		if _, err := secrets.Secret(ctx, KindUserCode, flow.UserCode); !errors.Is(err, feed.ErrNoSecret) {
			return feed.Change{}, errors.Join(errors.New("the user code is in use; try again"), err) // one in a trillion
		}
		return feed.Change{Secrets: []feed.Secret{
			flow.secret(key),
			{Record: feed.Record{Kind: KindUserCode, Key: flow.UserCode, Body: []byte(key)}, Expires: flow.Expires},
		}}, nil
	})
	return deviceCode, userCode, err
}

func (f *deviceFlow) secret(key string) feed.Secret {
	return feed.Secret{Record: record(KindDeviceCode, key, f), Expires: f.Expires.Add(deviceGrace)}
}

// flowOf reads a flow; nil when there is none under this key.
func flowOf(ctx context.Context, secrets feed.Secrets, key string) (*deviceFlow, error) {
	kept, err := secrets.Secret(ctx, KindDeviceCode, key)
	if errors.Is(err, feed.ErrNoSecret) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a device code: %w", err)
	}
	f := new(deviceFlow)
	if err := json.Unmarshal(kept.Body, f); err != nil {
		return nil, fmt.Errorf("a device code: %w", err)
	}
	return f, nil
}

// redeemDeviceCode is the device code grant (RFC 8628 section 3.4), and what version 1 clients send in its place.
func (s *Server) redeemDeviceCode(ctx context.Context, x *exchange) error {
	if err := x.client.requireCredential(); err != nil {
		return err
	}
	code := x.form["device_code"]
	if code == "" {
		code = x.form["code"]
	}
	if code == "" {
		return fail(900144, "device_code")
	}
	key, err := s.vault.hash(ctx, string(KindDeviceCode), code)
	if err != nil {
		return err
	}
	flow, err := flowOf(ctx, s.Feed.Log, key)
	if err != nil {
		return err
	}
	if flow != nil {
		x.concern(flow.User, flow.Ask)
	}
	if err := flow.redeemable(x); err != nil {
		return err
	}
	// The view may be older than the approval, which another replica may have taken.
	home, tenant := x.dir().User(flow.User), x.place.tenant
	if home == nil {
		return fail(50173)
	}
	if tenant == nil {
		tenant = x.dir().Tenant(flow.Tenant) // nil: home
	}
	session, err := s.newSession(home, x.client, time.Unix(0, flow.Proved), flow.AMR...)
	if err != nil {
		return err
	}
	if err := x.speakFor(home, session, tenant); err != nil {
		return err
	}
	asked, err := flow.Ask.parse()
	if err != nil {
		return err
	}
	x.subject.ask = &asked
	x.subject.commit = x.begin(func(secrets feed.Secrets) (feed.Change, error) {
		flow, err := flowOf(ctx, secrets, key) // again, under the lock: a code buys one session
		if err != nil {
			return feed.Change{}, err
		}
		if err := flow.redeemable(x); err != nil {
			return feed.Change{}, err
		}
		flow.State = flowRedeemed
		return feed.Change{Secrets: []feed.Secret{flow.secret(key)}}, nil
	})
	return nil
}

// redeemable says why a flow gives no token, or not yet.
func (f *deviceFlow) redeemable(x *exchange) error {
	switch {
	case f == nil || f.Client != x.client.app.AppID:
		return fail(70018)
	case !f.Tenant.IsZero() && !x.place.holds(f.Tenant):
		return fail(70018)
	case f.State == flowRedeemed:
		return fail(54005)
	case f.State == flowDeclined:
		return fail(70028)
	case !x.now.Before(f.Expires):
		return fail(70020)
	case f.State == flowPending:
		return fail(70016)
	}
	return nil
}

// newUserCode draws a code, each letter with the same chance.
func newUserCode(random io.Reader) (string, error) {
	const fair = 256 - 256%len(userCodeAlphabet)
	code := make([]byte, 0, userCodeLength)
	var b [1]byte
	for len(code) < userCodeLength {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", fmt.Errorf("make a user code: %w", err)
		}
		if int(b[0]) < fair {
			code = append(code, userCodeAlphabet[int(b[0])%len(userCodeAlphabet)])
		}
	}
	return string(code), nil
}

// parseUserCode reads what a person typed: in any letter case, with spaces or dashes. "" is not a code.
func parseUserCode(typed string) string {
	code := strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\t':
			return -1
		}
		return r
	}, strings.ToUpper(clip(typed, 64)))
	if len(code) != userCodeLength || strings.Trim(code, userCodeAlphabet) != "" {
		return ""
	}
	return code
}
