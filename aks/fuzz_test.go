package aks

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/directory"
)

// FuzzCluster holds that whatever is accepted can be shown, and that sending back what was shown changes nothing.
func FuzzCluster(f *testing.F) {
	create, err := os.ReadFile("testdata/az-create.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(create)
	f.Add([]byte(`{"location":"Central US","tags":{"a":""},"properties":{"AADProfile":{"managed":true},"agentPoolProfiles":[{"name":"np","nodeLabels":{"a":""}}]}}`))
	f.Add([]byte(`{"location":"centralus","identity":{"type":"None"},"properties":{"servicePrincipalProfile":{"clientId":"x","Secret":"s"},"networkProfile":{"a":[null,1e400]}}}`))
	id := directory.MustParseID("11111111-2222-3333-4444-555555555555")
	at := situation{
		directory: new(directory.State), groups: new(arm.State), clusters: new(State), group: &arm.Group{Name: "rg"}, subscription: &arm.Subscription{ID: id, Tenant: id}, name: "c", guid: id,
		version: DefaultVersion, now: time.Unix(0, 0).UTC(),
		issuer: func(directory.ID, directory.ID) string { return "https://gatehouse.test/" },
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := parseCluster(raw)
		if err != nil {
			return
		}
		c, err := desired(at, nil, &g)
		if err != nil {
			return
		}
		if c.NoLocalAccounts && c.AAD == nil {
			t.Fatalf("nobody can sign in: %s", raw)
		}
		shown, err := json.Marshal(c.resource())
		if err != nil {
			t.Fatalf("%s cannot be shown: %v", raw, err)
		}
		stored := new(Cluster)
		if err := json.Unmarshal(c.record().Body, stored); err != nil {
			t.Fatalf("%s cannot be read again: %v", raw, err)
		}
		if g, err = parseCluster(shown); err != nil {
			t.Fatalf("%s was shown and is refused: %v", shown, err)
		}
		again, err := desired(at, stored, &g)
		if err != nil {
			t.Fatalf("%s was shown and is refused: %v", shown, err)
		}
		a, errA := tree(stored.record().Body)
		b, errB := tree(again.record().Body)
		if errA != nil || errB != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("sending back %s changed\n%s\nto\n%s", shown, stored.record().Body, again.record().Body)
		}
	})
}
