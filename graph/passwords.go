package graph

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

// passwords adds the actions on client secrets, which applications and service principals share.
func (s *Server) passwords(m *web.Mux, path string, on onObject) {
	s.route(m, "POST "+path+"/addPassword", write, on((*call).addPassword))
	s.route(m, "POST "+path+"/removePassword", write, on((*call).removePassword))
}

// addPassword makes a client secret. This answer is the only one that ever shows it.
func (c *call) addPassword(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	want, err := b.passwordCredential()
	if err != nil {
		return err
	}
	made, secret, err := c.Directory.AddAppSecret(c.r.Context(), c.actor(), o.id, want)
	if err != nil {
		return err
	}
	c.detail("keyId", made.KeyID.String())
	m := members{{"@odata.context", c.context("microsoft.graph.passwordCredential")}}
	for _, e := range credential(made) {
		if e.name == "secretText" {
			e.value = secret
		}
		m = append(m, e)
	}
	return c.reply(http.StatusOK, m)
}

func (c *call) removePassword(o object) error {
	b, err := readBody(c.r)
	if err != nil {
		return err
	}
	_, ids, err := readIDs("keyId", listOf(b.take("keyId")), 1)
	if err != nil {
		return err
	}
	c.detail("keyId", ids[0].String())
	if err := c.Directory.RemoveAppSecret(c.r.Context(), c.actor(), o.id, ids[0]); err != nil {
		return err
	}
	return c.noContent()
}

// listOf makes a list of one value; nothing stays nothing.
func listOf(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return nil
	}
	return append(append(json.RawMessage("["), raw...), ']')
}

// passwordCredential reads the parameter of addPassword; all of it may be left out.
func (b body) passwordCredential() (directory.PasswordCredential, error) {
	var given body
	var want directory.PasswordCredential
	if raw := b.take("passwordCredential"); raw != nil {
		if err := decode(raw, &given, "passwordCredential", "an object"); err != nil {
			return want, err
		}
	}
	for name, raw := range given {
		var err error
		switch strings.ToLower(name) {
		case "displayname":
			err = decode(raw, &want.DisplayName, name, "a string or null")
		case "startdatetime":
			want.Start, err = readTime(name, raw)
		case "enddatetime":
			want.End, err = readTime(name, raw)
		case "@odata.type":
		default:
			if !isNull(raw) {
				err = errBadRequest("passwordCredential.%s cannot be set: the server makes the secret and its id.", clip(name, 80)).At("passwordCredential")
			}
		}
		if err != nil {
			return want, err
		}
	}
	return want, nil
}

func readTime(name string, raw json.RawMessage) (time.Time, error) {
	var t time.Time
	err := decode(raw, &t, "passwordCredential."+name, "a time such as 2026-01-31T00:00:00Z")
	return t, err
}

func credentials(list []directory.PasswordCredential) []members {
	out := []members{}
	for _, c := range list {
		out = append(out, credential(c))
	}
	return out
}

func credential(c directory.PasswordCredential) members {
	var name any
	if c.DisplayName != "" {
		name = c.DisplayName
	}
	return members{
		{"customKeyIdentifier", nil}, {"displayName", name}, {"endDateTime", c.End.UTC().Truncate(time.Second)}, {"hint", c.Hint},
		{"keyId", c.KeyID}, {"secretText", nil}, {"startDateTime", c.Start.UTC().Truncate(time.Second)},
	}
}
