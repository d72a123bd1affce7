// Command azsdk signs in with the libraries that programs for Azure are made with, and prints the token as an exec plugin does. The stories
// of e2e/ run it in the environment that `gatehouse env` prints: nothing here knows of Gatehouse.
//
// It is a module of its own, so that these libraries never enter the product's build.
//
//	azsdk LIBRARY-CREDENTIAL SCOPE
//
// Further input comes from the variables that azidentity's EnvironmentCredential reads, and from AZURE_FEDERATED_TOKEN_FILE and
// USER_ASSERTION_FILE.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// acquire signs in and returns a token for a scope, "{resource}/.default".
type acquire func(ctx context.Context, scope string) (string, error)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "azsdk:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ways := map[string]acquire{}
	for _, library := range []map[string]acquire{azidentityWays, msalWays, terraformWays} {
		for name, way := range library {
			ways[name] = way
		}
	}
	if len(args) != 2 || ways[args[0]] == nil {
		names := []string{}
		for name := range ways {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("usage: azsdk CREDENTIAL SCOPE; credentials are %s", strings.Join(names, ", "))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	token, err := ways[args[0]](ctx, args[1])
	if err != nil {
		return err
	}
	var out struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	out.Status.Token = token
	return json.NewEncoder(os.Stdout).Encode(out)
}

func tenant() string    { return os.Getenv("AZURE_TENANT_ID") }
func client() string    { return os.Getenv("AZURE_CLIENT_ID") }
func secret() string    { return os.Getenv("AZURE_CLIENT_SECRET") }
func authority() string { return "https://login.microsoftonline.com/" + tenant() }

// file reads the file that a variable names.
func file(variable string) ([]byte, error) {
	raw, err := os.ReadFile(os.Getenv(variable))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return raw, nil
}

func text(variable string) (string, error) {
	raw, err := file(variable)
	return strings.TrimSpace(string(raw)), err
}
