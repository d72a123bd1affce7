package graph

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// TestAzCertificates replays what az ad app credential reset --create-cert [--append] and credential list and delete --cert send.
func TestAzCertificates(t *testing.T) {
	w := newWorld(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	now := w.clock().Truncate(time.Second)
	make1 := func(serial int64) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		must(t, err)
		return der
	}
	entry := func(der []byte, id string) string {
		return fmt.Sprintf(`{"@odata.type": "#microsoft.graph.keyCredential", "displayName": null, "endDateTime": "%s", "key": "%s", "keyId": "%s", "startDateTime": "%s", "type": "AsymmetricX509Cert", "usage": "Verify"}`,
			now.AddDate(0, 6, 0).Format(time.RFC3339), base64.StdEncoding.EncodeToString(der), id, now.Format(time.RFC3339))
	}
	const first, second = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	one, two := make1(1), make1(2)
	app := w.asAdmin("POST", "/applications", `{"displayName": "robot", "keyCredentials": [`+entry(one, first)+`]}`).want(201, "")
	id := app.text("id")
	path := "/applications/" + id
	shown := w.asAdmin("GET", path, "").want(200, "")
	if got := shown.text("keyCredentials/0/customKeyIdentifier"); got != fmt.Sprintf("%X", sha1.Sum(one)) || shown.text("keyCredentials/0/keyId") != first ||
		shown.text("keyCredentials/0/startDateTime") != now.Format(time.RFC3339) || shown.at("keyCredentials/0/key") != nil || shown.text("keyCredentials/0/usage") != "Verify" {
		t.Errorf("shown: %s", shown.body)
	}
	if strings.Contains(shown.body, base64.StdEncoding.EncodeToString(one)[:40]) {
		t.Error("the certificate is in the list")
	}
	echo := func(n string, a answer) string { // an entry as it was read
		return fmt.Sprintf(`{"customKeyIdentifier": "%s", "displayName": null, "endDateTime": "%s", "key": null, "keyId": "%s", "startDateTime": "%s", "type": "AsymmetricX509Cert", "usage": "Verify"}`,
			a.text("keyCredentials/"+n+"/customKeyIdentifier"), a.text("keyCredentials/"+n+"/endDateTime"), a.text("keyCredentials/"+n+"/keyId"), a.text("keyCredentials/"+n+"/startDateTime"))
	}
	w.asAdmin("PATCH", path, `{"keyCredentials": [`+echo("0", shown)+`,`+entry(two, second)+`]}`).want(204, "")
	object, err := directory.ParseID(id)
	must(t, err)
	if keys := directory.In(w.feed.View()).Application(object).Keys; len(keys) != 2 || !slices.Equal(keys[0].Certificate, one) || !slices.Equal(keys[1].Certificate, two) {
		t.Errorf("kept: %+v", keys)
	}
	shown = w.asAdmin("GET", path, "").want(200, "")
	w.asAdmin("PATCH", path, `{"keyCredentials": [`+echo("1", shown)+`]}`).want(204, "")
	if got := w.asAdmin("GET", path, "").want(200, ""); got.text("keyCredentials/0/keyId") != second {
		t.Errorf("after the deletion: %s", got.body)
	}
	for name, body := range map[string]string{
		"an unknown id without a key": `[{"keyId": "` + first + `", "key": null}]`,
		"a signing key":               `[` + strings.Replace(entry(one, first), `"Verify"`, `"Sign"`, 1) + `]`,
		"a symmetric key":             `[` + strings.Replace(entry(one, first), "AsymmetricX509Cert", "Symmetric", 1) + `]`,
		"no list":                     `{}`,
		"no base64":                   `[{"key": "%%%"}]`,
		"an unknown property":         `[{"key": null, "secret": "x"}]`,
		"a private key":               `[{"key": "` + base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key)) + `"}]`,
	} {
		if a := w.asAdmin("PATCH", path, `{"keyCredentials": `+body+`}`).want(400, "Request_BadRequest"); strings.Contains(a.body, "MII") {
			t.Errorf("%s: the key is repeated: %s", name, a.body)
		}
	}
	sp := w.asAdmin("POST", "/servicePrincipals", `{"appId": "`+app.text("appId")+`"}`).want(201, "")
	w.asAdmin("PATCH", "/servicePrincipals/"+sp.text("id"), `{"keyCredentials": [`+entry(one, first)+`]}`).want(204, "")
	if got := w.asAdmin("GET", "/servicePrincipals/"+sp.text("id"), "").want(200, ""); got.text("keyCredentials/0/keyId") != first || got.at("accountEnabled") != true {
		t.Errorf("the service principal: %s", got.body)
	}
	w.call(w.alice.UPN, "PATCH", path, `{"keyCredentials": []}`).want(403, "Authorization_RequestDenied")
}

// TestAzFederatedCredentials replays az ad app federated-credential create, list, show, update and delete.
func TestAzFederatedCredentials(t *testing.T) {
	w := newWorld(t)
	app := w.asAdmin("POST", "/applications", `{"displayName": "robot"}`).want(201, "")
	path := "/applications/" + app.text("id") + "/federatedIdentityCredentials"
	const body = `{"name": "main", "issuer": "https://issuer.example", "subject": "repo:a/b", "description": "x", "audiences": ["api://AzureADTokenExchange"]}`
	if got := w.asAdmin("GET", path, "").want(200, "").values("id"); len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	made := w.asAdmin("POST", path, body).want(201, "")
	id := made.text("id")
	if made.text("name") != "main" || made.text("audiences/0") != "api://AzureADTokenExchange" || id == "" {
		t.Errorf("made: %s", made.body)
	}
	w.asAdmin("POST", path, body).want(409, "Request_MultipleObjectsWithSameKeyValue")
	for _, at := range []string{path + "/" + id, path + "/main", path + "(name='main')", path + "/MAIN"} {
		if got := w.asAdmin("GET", at, "").want(200, "").text("id"); got != id {
			t.Errorf("%s: %s", at, got)
		}
	}
	if got := w.asAdmin("GET", path+filterQuery("name eq 'main'"), "").want(200, "").values("id"); !slices.Equal(got, []string{id}) {
		t.Errorf("filtered: %v", got)
	}
	w.asAdmin("PATCH", path+"/"+id, `{"name": "main", "subject": "repo:a/c"}`).want(204, "")
	w.asAdmin("PATCH", path+"/"+id, `{"name": "other"}`).want(400, "Request_BadRequest")
	w.asAdmin("PATCH", path+"/"+id, `{"issuer": "http://issuer.example"}`).want(400, "Request_BadRequest")
	if got := w.asAdmin("GET", path+"/main", "").want(200, ""); got.text("subject") != "repo:a/c" || got.text("description") != "x" {
		t.Errorf("after a change: %s", got.body)
	}
	w.asAdmin("POST", path, `{"name": "x"}`).want(400, "Request_BadRequest")
	w.call(w.alice.UPN, "POST", path, strings.Replace(body, "main", "alices", 1)).want(403, "Authorization_RequestDenied")
	w.call(w.alice.UPN, "DELETE", path+"/"+id, "").want(403, "Authorization_RequestDenied")
	w.asAdmin("DELETE", path+"/"+id, "").want(204, "")
	w.asAdmin("GET", path+"/"+id, "").want(404, "Request_ResourceNotFound")
	w.asAdmin("DELETE", path+"/main", "").want(404, "Request_ResourceNotFound")
}
