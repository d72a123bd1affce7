package aks_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// rule is a case of testdata/rules: a PUT, on a cluster that was made with the properties of before, or a new one.
type rule struct {
	Name   string
	Before map[string]any
	Put    map[string]any
	Tags   map[string]string
	Raw    *string // the whole body, in the place of Put
	Status int
	Code   string
	Says   string
	Want   map[string]any
}

func TestRules(t *testing.T) {
	files, err := filepath.Glob("testdata/rules/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no rules", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.makeGroup()
			other, _, err := w.dir.CreateTenant(w.ctx, directory.NewTenant{DisplayName: "Other", Domain: "other.test", AdminName: "admin", Password: password}, nil)
			w.must(err)
			foreign, err := w.dir.CreateGroup(w.ctx, directory.System, directory.NewGroup{
				Group: directory.Group{Tenant: other.ID, DisplayName: "foreign", MailNickname: "foreign", SecurityEnabled: true}})
			w.must(err)
			group, group2 := w.group("one"), w.group("two")
			names := strings.NewReplacer(
				`"GROUP"`, `"`+group.ID.String()+`"`, `"UPPER_GROUP"`, `"`+strings.ToUpper(group.ID.String())+`"`, `"GROUP2"`, `"`+group2.ID.String()+`"`,
				`"TENANT"`, `"`+w.tenant.ID.String()+`"`, `"FOREIGN"`, `"`+other.ID.String()+`"`, `"FOREIGN_GROUP"`, `"`+foreign.ID.String()+`"`,
				`"ADMIN"`, `"`+w.admin.ID.String()+`"`, `"NOBODY"`, `"11111111-2222-3333-4444-555555555555"`,
			)
			raw, err := os.ReadFile(file)
			w.must(err)
			var rules []rule
			w.must(json.Unmarshal([]byte(names.Replace(string(raw))), &rules))
			for i, c := range rules {
				t.Run(c.Name, func(t *testing.T) { w.obey(t, fmt.Sprintf("c%d", i), c) })
			}
		})
	}
}

func (w *world) obey(t *testing.T, name string, c rule) {
	outer := w.TB
	w.TB = t
	defer func() { w.TB = outer }()
	path := w.clusterPath(name)
	var before string
	if c.Before != nil {
		a := w.as("admin", "PUT", path, map[string]any{"location": "centralus", "properties": c.Before, "tags": c.Tags}).want(201)
		w.finish(a).want(200, `"Succeeded"`)
		before = w.as("admin", "GET", path, nil).want(200).Body.String()
	}
	var body any = map[string]any{"location": "centralus", "properties": c.Put}
	if c.Raw != nil {
		body = *c.Raw
	}
	a := w.as("admin", "PUT", path, body).want(c.Status, c.Code, c.Says)
	if strings.Contains(a.Body.String(), "TheSecret") {
		t.Errorf("the answer holds the secret: %s", a.Body)
	}
	if c.Status >= 400 {
		if before == "" {
			w.as("admin", "GET", path, nil).want(404)
		} else if now := w.as("admin", "GET", path, nil).Body.String(); now != before {
			t.Errorf("a refused request changed %s to %s", before, now)
		}
		return
	}
	w.finish(a).want(200, `"Succeeded"`)
	got := w.as("admin", "GET", path, nil).want(200)
	if strings.Contains(got.Body.String(), "TheSecret") {
		t.Errorf("the cluster holds the secret: %s", got.Body)
	}
	for at, want := range c.Want {
		if value := got.get(at); !reflect.DeepEqual(value, want) {
			t.Errorf("%s is %v, want %v", at, value, want)
		}
	}
	// Clients send back what they read. That must change nothing.
	again := w.as("admin", "PUT", path, got.Body.String()).want(200)
	w.finish(again).want(200, `"Succeeded"`)
	after := w.as("admin", "GET", path, nil).want(200)
	if without(after, "eTag") != without(got, "eTag") {
		t.Errorf("sending back what was read changed\n%s\nto\n%s", got.Body, after.Body)
	}
}

func without(a answer, name string) string {
	v := a.get("").(map[string]any)
	delete(v, name)
	raw, _ := json.Marshal(v)
	return string(raw)
}
