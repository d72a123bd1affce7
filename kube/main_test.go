package main

import (
	"slices"
	"strings"
	"testing"
)

func TestCommandIsChosenByLinkNameOrFirstArgument(t *testing.T) {
	for line, want := range map[string]string{ // the command line as the command sees it
		"gatehouse-kube etcd --name a":         "etcd --name a",
		"/opt/bin/gatehouse-kube kubectl":      "kubectl",
		"/opt/bin/kubectl get ns":              "kubectl get ns",
		"kubectl etcd":                         "kubectl etcd",
		"gatehouse-kube kube-apiserver --help": "kube-apiserver --help",
		"gatehouse-kube":                       "",
		"gatehouse-kube scheduler":             "",
		"gatehouse-kube --name etcd":           "",
	} {
		given := strings.Fields(line)
		cmd, args := choose(given)
		if want == "" {
			if cmd != nil {
				t.Errorf("%s: is %s, want no command", line, cmd.name)
			} else if code := usage(given); code != 2 {
				t.Errorf("%s: exit code %d, want 2", line, code)
			}
			continue
		}
		if cmd == nil || !slices.Equal(args, strings.Fields(want)) || cmd.name != args[0] {
			t.Errorf("%s: is %v, want %s", line, args, want)
		}
	}
}

// The stock server keeps good tokens for 10 s. What our options make of it is
// read where the authenticators are built from, so that an upgrade that moves
// the setting fails here.
func TestAPIServerKeepsNoTokens(t *testing.T) {
	config, err := newAPIServerOptions().Authentication.ToAuthenticationConfig()
	if err != nil {
		t.Fatal(err)
	}
	if config.TokenSuccessCacheTTL != 0 || config.TokenFailureCacheTTL != 0 {
		t.Errorf("good tokens are kept for %v and bad ones for %v, want 0 and 0",
			config.TokenSuccessCacheTTL, config.TokenFailureCacheTTL)
	}
}
