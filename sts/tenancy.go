package sts

import (
	"strings"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// Words that stand for a tenant in a path.
const (
	common        = "common"
	organizations = "organizations"
	consumers     = "consumers"
)

// consumerTenant is the tenant of personal Microsoft accounts, which the documents of "consumers" name.
const consumerTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"

// tenancy is what {tenant} of a path means: a tenant, or a word that leaves it open.
type tenancy struct {
	tenant *directory.Tenant // nil with a word
	word   string
}

// tenancyOf resolves {tenant}. It is the one place that does: a GUID, a verified domain, or a word.
func tenancyOf(dir *directory.State, segment string) (tenancy, error) {
	switch word := strings.ToLower(segment); word {
	case common, organizations, consumers:
		return tenancy{word: word}, nil
	}
	if id, err := directory.ParseID(segment); err == nil {
		if t := dir.Tenant(id); t != nil {
			return tenancy{tenant: t}, nil
		}
		return tenancy{}, fail(90002, segment)
	}
	if !looksLikeDomain(segment) {
		return tenancy{}, fail(900023, segment)
	}
	if t := dir.TenantByDomain(segment); t != nil {
		return tenancy{tenant: t}, nil
	}
	return tenancy{}, fail(90002, segment)
}

// segment is how URLs and issuers of documents name the tenancy: the GUID, also when it was asked for by domain.
func (t tenancy) segment() string {
	if t.tenant != nil {
		return t.tenant.ID.String()
	}
	return t.word
}

// issuerTenant is the tenant's place in the issuer of documents.
func (t tenancy) issuerTenant() string {
	switch {
	case t.tenant != nil:
		return t.tenant.ID.String()
	case t.word == consumers:
		return consumerTenant
	}
	return "{tenantid}"
}

// holds reports whether principals of a tenant may sign in here.
func (t tenancy) holds(tenant directory.ID) bool {
	return t.tenant == nil || t.tenant.ID == tenant
}

func looksLikeDomain(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
