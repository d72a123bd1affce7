package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// manyGroups puts Alice into 5,000 groups, and leaves her the administrator's rights through the last one alone.
func (s *story) manyGroups(t *testing.T) {
	const count, requests, memoryLimit = 5000, 10000, 100 << 20
	admin := s.token(s.env["GATEHOUSE_ADMIN"], s.adminPassword(), azureCLI, "https://graph.microsoft.com/.default").Access
	post := func(path string, body any) string {
		status, answer := s.call("POST", "https://graph.microsoft.com/v1.0"+path, admin, body)
		if status != 201 && status != 204 {
			t.Fatalf("POST %s: %d %s", path, status, answer)
		}
		return field(answer, "id")
	}
	start := time.Now()
	var last string
	work := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		wg.Go(func() {
			for i := range work {
				name := fmt.Sprintf("many-%04d", i)
				id := post("/groups", map[string]any{"displayName": name, "mailNickname": name, "mailEnabled": false, "securityEnabled": true,
					"members@odata.bind": []string{"https://graph.microsoft.com/v1.0/directoryObjects/" + s.alice}})
				if i == count-1 {
					mu.Lock()
					last = id
					mu.Unlock()
				}
			}
		})
	}
	for i := range count {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d groups with one member each were made in %s", count, time.Since(start).Round(time.Second))

	token := s.aksToken("alice", alicePassword)
	for _, name := range []string{"myAKSAdminGroup", "inner"} {
		s.run("az", "ad", "group", "member", "remove", "--group", name, "--member-id", s.alice)
	}
	s.becomes(token, http.StatusForbidden, "Alice in 5,000 groups, none of them the admin group")
	s.run("az", "ad", "group", "member", "add", "--group", "outer", "--member-id", last)
	s.becomes(token, http.StatusOK, "Alice is in through the last group, which is nested")

	before := s.apiServerMemory()
	c := s.kubeClient()
	var failed error
	jobs := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range jobs {
				// Distinct requests: the API server's authorizer caches each by its attributes.
				req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("%s/api/v1/namespaces/ns-%d/configmaps/map-%d", s.server, i%100, i), nil)
				if err == nil {
					req.Header.Set("Authorization", "Bearer "+token)
					var res *http.Response
					if res, err = c.Do(req); err == nil {
						if res.Body.Close(); res.StatusCode != http.StatusNotFound {
							err = fmt.Errorf("request %d: %s", i, res.Status)
						}
					}
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for i := range requests {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	after := s.apiServerMemory()
	t.Logf("the API server's memory went from %d to %d MB over %d distinct requests", before>>20, after>>20, requests)
	if after-before > memoryLimit {
		t.Errorf("the API server grew by %d MB over %d requests; the limit is %d", (after-before)>>20, requests, memoryLimit>>20)
	}
	s.run("az", "ad", "group", "member", "add", "--group", "myAKSAdminGroup", "--member-id", s.alice)
}

// apiServerMemory returns the resident memory of this deployment's API server, in bytes.
func (s *story) apiServerMemory() int64 {
	s.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !strings.Contains(string(cmdline), "\x00kube-apiserver\x00") || !strings.Contains(string(cmdline), s.dir) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return kb << 10
	}
	s.t.Fatal("the API server's process was not found")
	return 0
}

func field(json, name string) string {
	_, rest, ok := strings.Cut(json, `"`+name+`":"`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// wrongInput demands one clear message for each mistake a user is likely to make.
func (s *story) wrongInput(t *testing.T) {
	create := func(name string, more ...string) []string {
		return append([]string{"az", "aks", "create", "-g", "myResourceGroup", "-n", name, "--generate-ssh-keys", "-o", "none"}, more...)
	}
	const nobody = "11111111-2222-3333-4444-555555555555"
	s.refuses(create("c2", "--enable-aad", "--aad-admin-group-object-ids", nobody), nobody)
	s.refuses(create("c2", "--enable-aad", "--aad-admin-group-object-ids", "not-a-guid"), "not-a-guid")
	s.refuses(create("c2", "--enable-aad", "--aad-tenant-id", "nonsense"), "nonsense")
	s.refuses(create("c2", "--enable-aad", "--disable-rbac"), "RBAC")
	s.refuses(create("c2", "--kubernetes-version", "1.2.3"), "1.2.3")

	cluster := "https://management.azure.com/subscriptions/" + s.env["GATEHOUSE_SUBSCRIPTION_ID"] +
		"/resourceGroups/myResourceGroup/providers/Microsoft.ContainerService/managedClusters/"
	arm := s.token(s.env["GATEHOUSE_ADMIN"], s.adminPassword(), azureCLI, "https://management.azure.com/.default").Access
	for _, c := range []struct {
		name, url, text string
		body            any
		status          int
	}{
		{"no api-version", cluster + "x", "MissingApiVersionParameter", map[string]any{"location": "centralus"}, 400},
		{"a name that breaks the pattern", cluster + "-bad-?api-version=2022-11-01", "-bad-", map[string]any{"location": "centralus"}, 400},
		{"aadProfile is no object", cluster + "x?api-version=2022-11-01", "aadProfile",
			map[string]any{"location": "centralus", "properties": map[string]any{"aadProfile": "yes"}}, 400},
		{"adminGroupObjectIDs is no list", cluster + "x?api-version=2022-11-01", "adminGroupObjectIDs",
			map[string]any{"location": "centralus", "properties": map[string]any{"aadProfile": map[string]any{"managed": true, "adminGroupObjectIDs": 5}}}, 400},
		{"integration cannot be removed", cluster + "myManagedCluster?api-version=2022-11-01", "PropertyChangeNotAllowed",
			map[string]any{"location": "centralus", "properties": map[string]any{"aadProfile": map[string]any{"managed": false}}}, 400},
		{"no way back to legacy", cluster + "myManagedCluster?api-version=2022-11-01", "PropertyChangeNotAllowed",
			map[string]any{"location": "centralus", "properties": map[string]any{"aadProfile": map[string]any{
				"clientAppID": nobody, "serverAppID": nobody, "serverAppSecret": "s", "tenantID": s.env["GATEHOUSE_TENANT_ID"]}}}, 400},
	} {
		if status, body := s.call("PUT", c.url, arm, c.body); status != c.status || !strings.Contains(body, c.text) {
			t.Errorf("%s: %d %s, want %d with %q", c.name, status, body, c.status, c.text)
		}
	}
	if out := s.run("az", "aks", "show", "-g", "myResourceGroup", "-n", "myManagedCluster", "--query", "aadProfile.managed", "-o", "tsv"); out != "true" {
		t.Errorf("after the refusals the cluster's integration is %q", out)
	}
}
