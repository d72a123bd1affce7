package directory

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// checkUPN enforces what a cluster relies on: a user name that needs no quoting, cannot pass for a system name and
// belongs to a verified domain of the tenant. Entra allows the characters A-Z a-z 0-9 ' . - _ ! # ^ ~ before the @
// (Microsoft Entra "userPrincipalName policies"), 113 in all; '#' only in the #EXT# that ends the name of somebody who was invited, which
// nobody can choose.
func (s *State) checkUPN(t *Tenant, upn string, invited bool) error {
	invalid := func(why string) error {
		return fault.New(fault.Invalid, "Property userPrincipalName is invalid: %q %s", upn, why).At("userPrincipalName").WithCode("Request_BadRequest")
	}
	local, domain, ok := strings.Cut(upn, "@")
	switch {
	case !ok || local == "" || domain == "":
		return invalid("is not of the form name@domain")
	case len(upn) > maxUPN || len(local) > maxLocal:
		return invalid("is too long; at most 64 characters before the @ and 113 in all")
	case strings.HasPrefix(local, ".") || strings.HasSuffix(local, "."):
		return invalid("begins or ends with a dot before the @")
	}
	if invited {
		var ok bool
		if local, ok = strings.CutSuffix(local, external); !ok {
			return invalid("must end with " + external + " before the @: it is the name of somebody who was invited, and cannot be changed")
		}
	}
	for _, r := range local {
		if !isNameRune(r) {
			return invalid("holds the character " + string(r) + "; letters, digits and ' . - _ ! ^ ~ are allowed before the @")
		}
	}
	if slices.Contains(t.Domains, strings.ToLower(domain)) { // not EqualFold: it takes letters of other scripts for ours
		return nil
	}
	return fault.New(fault.Invalid, "The domain portion of the userPrincipalName property is invalid. You must use one of the verified domain names in your organization: %s (not %q).",
		strings.Join(t.Domains, ", "), domain).At("userPrincipalName").WithCode("Request_BadRequest")
}

const (
	maxUPN   = 113
	maxLocal = 64 // before the @
)

// isNameRune reports whether a character may stand before the @ of a user principal name.
func isNameRune(r rune) bool { return strings.ContainsRune("'.-_!^~", r) || isAlphanumeric(r) }

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// checkDisplayName applies Graph's limit of 256 characters.
func checkText(field, value string, required bool, limit int) error {
	switch {
	case required && strings.TrimSpace(value) == "":
		return fault.New(fault.Invalid, "A value is required for property '%s' of the resource.", field).At(field).WithCode("Request_BadRequest")
	case utf8.RuneCountInString(value) > limit:
		return fault.New(fault.Invalid, "Property %s is too long: %d characters; at most %d are allowed.", field, utf8.RuneCountInString(value), limit).
			At(field).WithCode("Request_BadRequest")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 && r != '\t' && r != '\n' && r != '\r' }):
		return fault.New(fault.Invalid, "Property %s holds control characters or invalid UTF-8; remove them.", field).At(field).WithCode("Request_BadRequest")
	}
	return nil
}

// CheckDomain accepts what a tenant may have as its domain.
func CheckDomain(name string) error { return checkDomain(name) }

// checkDomain accepts DNS names (RFC 1123 section 2.1) in lower case.
func checkDomain(name string) error {
	bad := name == "" || len(name) > 253 || strings.ToLower(name) != name || !strings.Contains(name, ".")
	for label := range strings.SplitSeq(name, ".") {
		bad = bad || label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-")
		bad = bad || strings.ContainsFunc(label, func(r rune) bool { return r != '-' && !isAlphanumeric(r) })
	}
	if bad {
		return fault.New(fault.Invalid, "%q is not a domain name in lower case, such as gatehouse.internal", name)
	}
	return nil
}
