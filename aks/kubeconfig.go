package aks

import (
	"bytes"
	"encoding/base64"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-k8s/gatehouse/directory"
)

// kubeconfig is the file format of kubectl (Kubernetes, "kubeconfig (v1)"), as far as AKS uses it.
type kubeconfig struct {
	APIVersion     string        `yaml:"apiVersion"`
	Clusters       []kubeCluster `yaml:"clusters"`
	Contexts       []kubeContext `yaml:"contexts"`
	CurrentContext string        `yaml:"current-context"`
	Kind           string        `yaml:"kind"`
	Preferences    struct{}      `yaml:"preferences"`
	Users          []kubeEntry   `yaml:"users"`
}

type kubeCluster struct {
	Cluster struct {
		CA     data   `yaml:"certificate-authority-data"`
		Server string `yaml:"server"`
	} `yaml:"cluster"`
	Name string `yaml:"name"`
}

type kubeContext struct {
	Context struct {
		Cluster string `yaml:"cluster"`
		User    string `yaml:"user"`
	} `yaml:"context"`
	Name string `yaml:"name"`
}

type kubeEntry struct {
	Name string   `yaml:"name"`
	User kubeUser `yaml:"user"`
}

// kubeUser is one of three ways to be somebody.
type kubeUser struct {
	Certificate  data          `yaml:"client-certificate-data,omitempty"`
	Key          data          `yaml:"client-key-data,omitempty"`
	Exec         *execPlugin   `yaml:"exec,omitempty"`
	AuthProvider *authProvider `yaml:"auth-provider,omitempty"`
}

type execPlugin struct {
	APIVersion         string   `yaml:"apiVersion"`
	Args               []string `yaml:"args"`
	Command            string   `yaml:"command"`
	Env                any      `yaml:"env"`
	InstallHint        string   `yaml:"installHint"`
	ProvideClusterInfo bool     `yaml:"provideClusterInfo"`
}

type authProvider struct {
	Config map[string]string `yaml:"config"`
	Name   string            `yaml:"name"`
}

// data is base64 in the file.
type data []byte

// MarshalYAML implements yaml.Marshaler.
func (d data) MarshalYAML() (any, error) { return base64.StdEncoding.EncodeToString(d), nil }

// environment is the cloud whose host names the clients are told to use. They reach Gatehouse under these.
const environment = "AzurePublicCloud"

const installHint = `This cluster lets people in by Microsoft Entra ID, and kubectl needs the plugin kubelogin to sign in.
It is not in your PATH. Install it from https://github.com/Azure/kubelogin, or run: az aks install-cli
`

// signIn is the user entry of somebody who signs in. The plugin's is the default since Kubernetes 1.24; "azure" is what
// kubectl had built in before (AKS, "kubelogin"). The plugin knows no proof of possession with device codes, and leaves it out silently:
// where it is required, people sign in with a browser.
func signIn(c *Cluster, format string) kubeUser {
	p := c.AAD
	server, client := directory.AKSServer, directory.AKSClient
	if !p.Managed {
		server, client = p.ServerApp, p.ClientApp
	}
	if format == "azure" {
		config := map[string]string{
			"apiserver-id": server.String(), "client-id": client.String(), "environment": environment, "tenant-id": p.Tenant.String(),
		}
		if p.Managed {
			config["config-mode"] = "1" // no spn: before the audience
		}
		return kubeUser{AuthProvider: &authProvider{Name: "azure", Config: config}}
	}
	args := []string{
		"get-token", "--environment", environment, "--server-id", server.String(), "--client-id", client.String(),
		"--tenant-id", p.Tenant.String(), "--login",
	}
	switch {
	case p.RequireProof:
		args = append(args, "interactive", "--pop-enabled", "--pop-claims", "u="+c.ID())
	case p.Managed:
		args = append(args, "devicecode")
	default:
		args = append(args, "devicecode", "--legacy")
	}
	return kubeUser{Exec: &execPlugin{APIVersion: "client.authentication.k8s.io/v1beta1", Command: "kubelogin", Args: args, InstallHint: installHint}}
}

// marshalKubeconfig makes the file of one cluster and one user.
func marshalKubeconfig(c *Cluster, user string, as kubeUser) ([]byte, error) {
	file := kubeconfig{APIVersion: "v1", Kind: "Config", CurrentContext: c.Name, Users: []kubeEntry{{user, as}}}
	file.Clusters = []kubeCluster{{Name: c.Name}}
	file.Clusters[0].Cluster.CA, file.Clusters[0].Cluster.Server = c.CA, c.Endpoint
	file.Contexts = []kubeContext{{Name: c.Name}}
	file.Contexts[0].Context.Cluster, file.Contexts[0].Context.User = c.Name, user
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(file); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}
