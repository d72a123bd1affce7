package webhook

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/aks"
	"github.com/gatehouse-k8s/gatehouse/audit"
	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
)

const (
	authorization = "authorization.k8s.io/v1"
	actionAccess  = "subjectaccessreview" // of audit events
)

// accessReview is what is read of a SubjectAccessReview: who asks. What is asked for is the cluster's own roles' matter.
type accessReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		User   string              `json:"user"`
		Groups []string            `json:"groups"`
		Extra  map[string][]string `json:"extra"`
	} `json:"spec"`
}

// verdict is the status of a SubjectAccessReview. Neither allowed nor denied is no opinion: the next authorizer decides,
// and the reason still reaches whoever is refused in the end.
type verdict struct {
	Allowed bool   `json:"allowed"`
	Denied  bool   `json:"denied,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func denied(reason string) verdict { return verdict{Denied: true, Reason: reason} }

func noOpinion(reason string) verdict { return verdict{Reason: reason} }

// authorize answers a SubjectAccessReview.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	cluster, err := caller(r)
	if err != nil {
		return err
	}
	return withBody(r, func(body []byte) error {
		q, err := parseAccessReview(body)
		if err != nil {
			return err
		}
		view := s.Feed.View()
		c, err := in(view, cluster)
		if err != nil {
			return err
		}
		now := s.now()
		v, who := verdict{}, directory.ID{}
		if s.Feed.Stale() {
			v = denied("Gatehouse has lost its database and lets nobody in until it is back")
			s.note(c, refusal{action: actionAccess, outcome: audit.Failed, reason: v.Reason}, now)
		} else if v, who = judge(view, c, q, now); v.Denied {
			s.note(c, refusal{action: actionAccess, outcome: audit.Denied, actor: who, reason: v.Reason}, now)
		}
		answer, err := json.Marshal(struct {
			APIVersion string  `json:"apiVersion"`
			Kind       string  `json:"kind"`
			Status     verdict `json:"status"`
		}{authorization, "SubjectAccessReview", v})
		if err != nil {
			return err
		}
		return write(w, answer)
	})
}

func parseAccessReview(body []byte) (*accessReview, error) {
	q := new(accessReview)
	if err := json.Unmarshal(body, q); err != nil {
		return nil, fault.New(fault.Invalid, "the request body is not a SubjectAccessReview in JSON").Wrap(err)
	}
	err := wantVersion([]byte(q.APIVersion), authorization, []byte(q.Kind), "SubjectAccessReview", "subjectAccessReviewVersion: v1 in its authorization configuration")
	return q, err
}

// judge withdraws what the API server still believes of a principal: it keeps what it was told of a token for a while, and
// its roles only ever grant. who is the principal of a verdict that denies.
func judge(view *feed.View, c *aks.Cluster, q *accessReview, now time.Time) (v verdict, who directory.ID) {
	if strings.HasPrefix(q.Spec.User, aks.LocalUserPrefix) {
		if c.NoLocalAccounts {
			return denied("local accounts of this cluster are disabled"), who
		}
		return noOpinion(""), who
	}
	if c.AAD == nil {
		return noOpinion("the cluster has no Microsoft Entra integration"), who
	}
	oid := q.Spec.Extra["oid"]
	if len(oid) != 1 {
		return noOpinion("extra.oid is not one object id"), who
	}
	who, err := directory.ParseID(oid[0])
	if err != nil {
		return noOpinion("extra.oid is not an object id"), who
	}
	dir := directory.In(view)
	p, ok := principalOf(dir, who)
	switch {
	case !ok || p.tenant != c.AAD.Tenant:
		return denied("the account " + who.String() + " is not, or no longer, in the directory of this cluster"), who
	case q.Spec.User != p.name:
		return noOpinion("extra.oid is not the object id of this user"), who
	case !p.enabled:
		return denied("the account of " + p.name + " is disabled"), who
	}
	groups, _ := dir.GroupsOf(who, now)
	for _, name := range q.Spec.Groups {
		if len(name) != 36 {
			continue // no object id: system:authenticated, say
		}
		g, err := directory.ParseID(name)
		if err != nil {
			continue
		}
		if _, member := slices.BinarySearchFunc(groups, g, directory.ID.Compare); !member {
			return denied(p.name + " is no longer in group " + name), who
		}
	}
	return noOpinion(""), who
}
