// Gatehouse-kube is the Kubernetes that Gatehouse runs: one program that holds
// kube-apiserver, kube-controller-manager, etcd and kubectl, built from the
// published modules and chosen by its first argument, or by the name it is
// called by, so that a link named kubectl is kubectl.
//
//	gatehouse-kube kube-apiserver FLAGS
//	gatehouse-kube kube-controller-manager FLAGS
//	gatehouse-kube etcd FLAGS
//	gatehouse-kube kubectl ARGUMENTS
//	gatehouse-kube version
//
// It is a module and a program of its own so that Kubernetes stays out of the
// build of gatehouse. All of them are the stock programs with their stock
// flags, but for two things. kube-apiserver does not remember good tokens
// (apiserver.go says why). And a server whose parent sets
// GATEHOUSE_PARENT_FD ends with that parent (package lifeline).
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gatehouse-k8s/gatehouse/kube/lifeline"
)

// A command is one of the programs inside. Its run finds its own name and its
// arguments in os.Args, as if it were alone, and returns the exit code.
type command struct {
	name    string
	summary string
	server  bool // runs until stopped, so it must follow its parent
	run     func() int
}

var commands = []command{
	{"kube-apiserver", "the Kubernetes API server, without its token cache", true, runAPIServer},
	{"kube-controller-manager", "the Kubernetes controllers", true, runControllerManager},
	{"etcd", "the database of the API server", true, runEtcd},
	{"kubectl", "the Kubernetes command line", false, runKubectl},
	{"version", "print the versions of all of these", false, runVersion},
}

func main() {
	cmd, args := choose(os.Args)
	if cmd == nil {
		os.Exit(usage(args))
	}
	os.Args = args
	if cmd.server {
		if err := lifeline.Hold(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.name, err)
			os.Exit(2)
		}
	}
	os.Exit(cmd.run())
}

// choose finds the command that a command line means, and the command line as
// that command should see it. Without one the command is nil and the arguments
// are returned as they came.
func choose(args []string) (*command, []string) {
	if len(args) == 0 {
		return nil, args
	}
	if cmd := named(filepath.Base(args[0])); cmd != nil {
		return cmd, append([]string{cmd.name}, args[1:]...)
	}
	if len(args) > 1 {
		if cmd := named(args[1]); cmd != nil {
			return cmd, args[1:]
		}
	}
	return nil, args
}

func named(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

// usage answers a command line that names no command: it is help when asked
// for, and an error otherwise.
func usage(args []string) int {
	out, code := io.Writer(os.Stderr), 2
	if len(args) > 1 {
		switch args[1] {
		case "help", "-h", "-help", "--help":
			out, code = os.Stdout, 0
		default:
			fmt.Fprintf(out, "gatehouse-kube: no command %q\n", args[1])
		}
	}
	var b strings.Builder
	b.WriteString("usage: gatehouse-kube COMMAND [ARGUMENTS], where COMMAND is one of\n")
	for _, cmd := range commands {
		fmt.Fprintf(&b, "  %-25s %s\n", cmd.name, cmd.summary)
	}
	b.WriteString("COMMAND --help tells more. A link named like a command is that command.\n")
	io.WriteString(out, b.String())
	return code
}
