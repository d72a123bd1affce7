package graph

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
	"github.com/gatehouse-k8s/gatehouse/signin"
)

const (
	maxSignIns  = 1000  // of a page (Microsoft Graph "List signIns")
	signInsRead = 10000 // that a page looks at: what fits a filter may be rare, then the page ends early, with a link to go on
)

// signInKind is Graph's signIn, with some members of its beta version.
var signInKind = &kind{
	name: "signIn", set: "auditLogs/signIns", ordered: true,
	properties: []property{
		identifier("id", func(e *signin.Entry) directory.ID { return directory.ID(e.ID) }),
		computed("createdDateTime", timeValue, func(_ *directory.State, e *signin.Entry) any { return e.Time() }),
		signInText("userDisplayName", func(e *signin.Entry) string { return e.UserName }),
		signInText("userPrincipalName", func(e *signin.Entry) string { return e.UPN }),
		signInText("userId", func(e *signin.Entry) string { return e.User }),
		signInText("servicePrincipalName", func(e *signin.Entry) string { return e.PrincipalName }),
		signInText("servicePrincipalId", func(e *signin.Entry) string { return e.Principal }),
		signInText("appDisplayName", func(e *signin.Entry) string { return e.AppName }),
		signInText("appId", func(e *signin.Entry) string { return e.App }),
		signInText("resourceDisplayName", func(e *signin.Entry) string { return e.ResourceName }),
		signInText("resourceId", func(e *signin.Entry) string { return e.Resource }),
		signInText("ipAddress", func(e *signin.Entry) string { return e.Address }),
		signInText("clientAppUsed", func(e *signin.Entry) string { return e.ClientApp }),
		signInText("userAgent", func(e *signin.Entry) string { return e.UserAgent }),
		signInText("correlationId", func(e *signin.Entry) string { return e.Correlation }),
		signInText("originalRequestId", func(e *signin.Entry) string { return e.Request }),
		signInText("conditionalAccessStatus", func(*signin.Entry) string { return "notApplied" }),
		computed("appliedConditionalAccessPolicies", complexValue, func(*directory.State, *signin.Entry) any { return []string{} }),
		computed("isInteractive", boolValue, func(_ *directory.State, e *signin.Entry) any { return e.Kind == signin.InteractiveUser }),
		computed("signInEventTypes", textsValue, func(_ *directory.State, e *signin.Entry) any { return []string{string(e.Kind)} }),
		signInText("authenticationProtocol", func(e *signin.Entry) string { return e.Protocol }),
		signInText("incomingTokenType", func(e *signin.Entry) string { return e.Incoming }),
		signInText("clientCredentialType", func(e *signin.Entry) string { return e.Credential }),
		signInText("servicePrincipalCredentialKeyId", func(e *signin.Entry) string { return e.KeyID }),
		signInText("sessionId", func(e *signin.Entry) string { return e.Session }),
		constant("riskDetail", nil), constant("riskLevelAggregated", nil), constant("riskLevelDuringSignIn", nil), constant("riskState", nil),
		constant("riskEventTypes_v2", []string{}), constant("location", nil),
		computed("status", complexValue, func(_ *directory.State, e *signin.Entry) any {
			return members{{"errorCode", e.Code}, {"failureReason", orNull(e.Reason)}, {"additionalDetails", orNull(e.Note)}}
		}),
		computed("authenticationDetails", complexValue, func(_ *directory.State, e *signin.Entry) any {
			return []members{{
				{"authenticationStepDateTime", e.Time()}, {"authenticationMethod", orNull(e.Method)}, {"succeeded", e.Code == 0},
				{"authenticationStepResultDetail", orNull(e.Reason)},
			}}
		}),
		computed("deviceDetail", complexValue, func(_ *directory.State, e *signin.Entry) any {
			return members{
				{"deviceId", nil}, {"displayName", nil}, {"operatingSystem", orNull(e.System)}, {"browser", orNull(e.Browser)},
				{"isCompliant", nil}, {"isManaged", nil}, {"trustType", nil},
			}
		}),
	},
	paths: []property{
		computed("status/errorCode", numberValue, func(_ *directory.State, e *signin.Entry) any { return e.Code }),
		signInText("deviceDetail/operatingSystem", func(e *signin.Entry) string { return e.System }),
		signInText("deviceDetail/browser", func(e *signin.Entry) string { return e.Browser }),
	},
}

func signInObject(e *signin.Entry) object { return object{signInKind, directory.ID(e.ID), e} }

// signInText makes a property that is null when the entry has none.
func signInText(name string, get func(*signin.Entry) string) property {
	return computed(name, textValue, func(_ *directory.State, e *signin.Entry) any { return orNull(get(e)) })
}

func (s *Server) mountSignIns(m *web.Mux) {
	s.route(m, "GET /auditLogs/signIns", logs, (*call).signIns)
	s.route(m, "GET /auditLogs/signIns/{id}", logs, (*call).signIn)
}

// mayReadLogs demands the right to read the sign-in log: of an application the permission, of a person a directory role, too (Microsoft Graph
// permissions reference, AuditLog.Read.All).
func (c *call) mayReadLogs(in area) error {
	switch {
	case !c.permits(in.read):
		return errInsufficient("reading the sign-in log needs the permission AuditLog.Read.All")
	case !c.token.AppOnly() && !c.dir.HasRole(c.token.Object, directory.GlobalAdministrator):
		return errInsufficient("reading the sign-in log needs the role Global Administrator")
	case c.SignIns == nil:
		return fault.New(fault.NotFound, "This server keeps no sign-in log.")
	}
	return nil
}

// signIn answers with one entry.
func (c *call) signIn() error {
	id, err := directory.ParseID(c.r.PathValue("id"))
	if err != nil {
		return directory.ErrNoObject(clip(c.r.PathValue("id"), 200))
	}
	q := &query{schema: schemaOf(signInKind)}
	given, err := options(c.r, []option{optSelect})
	if err != nil {
		return err
	}
	if text, ok := given[optSelect]; ok {
		if q.fields, err = parseSelect(text, q.schema); err != nil {
			return err
		}
	}
	e, err := c.SignIns.Entry(c.r.Context(), c.tenant.String(), signin.ID(id))
	if errors.Is(err, signin.ErrNotFound) {
		return directory.ErrNoObject(id.String())
	}
	if err != nil {
		return err
	}
	return c.entity(http.StatusOK, signInObject(e), q)
}

// signIns answers with a page of the log, the newest entry first unless asked otherwise. Its token is the place after its last entry, which
// holds whatever is added.
func (c *call) signIns() error {
	q, oldestFirst, err := c.signInQuery()
	if err != nil {
		return err
	}
	list, next, err := c.findSignIns(q, oldestFirst)
	if err != nil {
		return err
	}
	m := members{{"@odata.context", c.context(fragment(signInKind.set, q))}}
	if next != nil {
		m.add("@odata.nextLink", c.nextLink(next))
	}
	values := []members{}
	for i := range list {
		values = append(values, c.project(signInObject(&list[i]), q.fields, false))
	}
	m.add("value", values)
	return c.reply(http.StatusOK, m)
}

// signInQuery reads the options. Those of Graph's directory objects about ConsistencyLevel do not hold here.
func (c *call) signInQuery() (q *query, oldestFirst bool, err error) {
	given, err := options(c.r, []option{optSelect, optFilter, optTop, optOrderBy, optToken})
	if err != nil {
		return nil, false, err
	}
	q = &query{schema: schemaOf(signInKind), top: defaultTop}
	if text, ok := given[optSelect]; ok {
		if q.fields, err = parseSelect(text, q.schema); err != nil {
			return nil, false, err
		}
	}
	if text, ok := given[optFilter]; ok {
		if q.filter, err = parseFilter(text, q.schema); err != nil {
			return nil, false, err
		}
	}
	if text, ok := given[optTop]; ok {
		if q.top, err = strconv.Atoi(text); err != nil || q.top < 1 || q.top > maxSignIns {
			return nil, false, errBadRequest("Invalid page size specified: '%s'. Must be between 1 and %d inclusive.", clip(text, 40), maxSignIns).At("$top")
		}
	}
	if text, ok := given[optOrderBy]; ok {
		words := strings.Fields(strings.ToLower(text))
		if len(words) == 0 || len(words) > 2 || words[0] != "createddatetime" || len(words) == 2 && words[1] != "asc" && words[1] != "desc" {
			return nil, false, errUnsupported("Sorting not supported for current query: $orderby=%s. It may be createdDateTime, with asc or desc.", clip(text, 80)).At("$orderby")
		}
		oldestFirst = len(words) == 1 || words[1] == "asc"
	}
	if text, ok := given[optToken]; ok {
		if q.after, err = parseCursor(text); err != nil {
			return nil, false, err
		}
	}
	return q, oldestFirst, nil
}

// findSignIns reads entries by an index until a page is full, or enough were looked at.
func (c *call) findSignIns(q *query, oldestFirst bool) (page []signin.Entry, next *cursor, err error) {
	ask := lookup(q.filter)
	ask.Tenant, ask.OldestFirst = c.tenant.String(), oldestFirst
	if q.after != nil {
		ask.goOn(signin.ID(q.after.ID))
	}
	for read := 0; ; {
		ask.Limit = min(max(q.top+1, read), c.reads-read)
		found, err := c.SignIns.Find(c.r.Context(), ask.Query)
		if err != nil {
			return nil, nil, err
		}
		for i := range found {
			e := &found[i]
			if !q.filter.matches(c.dir, signInObject(e)) {
				continue
			}
			if len(page) == q.top {
				return page, &cursor{ID: directory.ID(page[q.top-1].ID)}, nil
			}
			page = append(page, *e)
		}
		read += len(found)
		if len(found) < ask.Limit {
			return page, nil, nil
		}
		last := found[len(found)-1].ID
		if read >= c.reads {
			return page, &cursor{ID: directory.ID(last)}, nil
		}
		ask.goOn(last)
	}
}

// signInAsk is a query of the store that finds everything that fits a filter, and as little else as can be.
type signInAsk struct{ signin.Query }

// goOn continues after an entry.
func (a *signInAsk) goOn(after signin.ID) {
	if !a.OldestFirst {
		a.To = after
		return
	}
	for i := len(after) - 1; i >= 0; i-- { // the next id there can be
		if after[i]++; after[i] != 0 {
			break
		}
	}
	a.From = after
}

// signInFields are the properties that entries are found by.
var signInFields = map[string]signin.Field{
	"correlationId": signin.ByCorrelation, "userId": signin.ByUser, "userPrincipalName": signin.ByUPN, "ipAddress": signin.ByAddress,
	"appId": signin.ByApp, "status/errorCode": signin.ByCode, "signInEventTypes": signin.ByKind,
}

// lookup chooses the index, and the piece of it, for a filter. The filter itself still decides about each entry.
func lookup(f *filter) (a signInAsk) {
	if f == nil {
		return a
	}
	best := len(signin.Fields)
	for _, c := range f.must {
		if c.name == "createdDateTime" && c.value.kind == literalTime {
			a.narrow(c.operator, c.value.time)
			continue
		}
		field, value := signInFields[c.name], c.value.text
		switch {
		case c.value.kind == literalNumber:
			value = strconv.Itoa(c.value.number)
		case c.name == "isInteractive" && c.value.kind == literalBool && c.value.yes:
			field, value = signin.ByKind, string(signin.InteractiveUser)
		}
		rank := slices.Index(signin.Fields, field)
		if rank < 0 || rank >= best || c.operator != "eq" || value == "" {
			continue
		}
		best, a.Field, a.Key = rank, field, signin.KeyOf(field, value)
		if a.Key == nil { // such as userId eq 'x', which nothing fits
			a.To = signin.FirstID(time.UnixMilli(0))
		}
	}
	return a
}

// narrow applies a bound of time, in milliseconds.
func (a *signInAsk) narrow(operator string, t time.Time) {
	if operator != "le" && operator != "lt" {
		if from := signin.FirstID(t); from.Compare(a.From) > 0 {
			a.From = from
		}
	}
	if operator != "ge" && operator != "gt" {
		if to := signin.FirstID(t.Add(time.Millisecond)); a.To.IsZero() || to.Compare(a.To) < 0 {
			a.To = to
		}
	}
}
