// Command gatehouse is the server and its helpers. Run `gatehouse help` for the list.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is stamped by the build.
var version = "dev"

// command is one subcommand. Standard output carries only what a program may read; all else goes to standard error.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"up", "run everything on this machine, without configuration and without root", runUp},
	{"env", "print the environment for az, kubelogin, kubectl and others, ready for eval", runEnv},
	{"status", "say what a running server serves", runStatus},
	{"tenant", "create another tenant on this server, or list them", runTenant},
	{"keys", "list, roll or withdraw the keys that sign tokens", runKeys},
	{"master-key", "say which key encrypts the secrets in the database, or encrypt them anew", runMasterKey},
	{"version", "print the version", runVersion},
}

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute returns the exit code: 0, 1 for a failure, 2 for a wrong command line.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	name := args[0]
	switch {
	case (name == "help" || name == "-h" || name == "--help") && len(args) == 1:
		usage(stdout)
		return 0
	case name == "help":
		name, args = args[1], []string{args[1], "--help"}
	case name == "--version" || name == "-version":
		name = "version"
	}
	for _, c := range commands {
		if c.name != name {
			continue
		}
		err := c.run(ctx, args[1:], stdout, stderr)
		var wrong usageError
		switch {
		case err == nil || errors.Is(err, flag.ErrHelp):
			return 0
		case errors.As(err, &wrong):
			fmt.Fprintf(stderr, "gatehouse %s: %s\nrun `gatehouse %s --help` for its flags\n", name, err, name)
			return 2
		}
		fmt.Fprintf(stderr, "gatehouse %s: %s\n", name, err)
		return 1
	}
	fmt.Fprintf(stderr, "gatehouse: there is no command %q\n\n", name)
	usage(stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprint(w, "gatehouse gives Kubernetes clusters what AKS-managed Microsoft Entra integration gives an AKS cluster.\n\nusage: gatehouse COMMAND [flags]\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\n`gatehouse COMMAND --help` lists the flags of a command.\n")
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// parse reads flags and refuses anything after them. Help goes to standard output, mistakes are the caller's to print.
func parse(fs *flag.FlagSet, args []string, stdout io.Writer, synopsis string) error {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, "usage: gatehouse %s\n\n", synopsis)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return err
	}
	if err != nil {
		return usageError{err}
	}
	if fs.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	}
	return nil
}

func runVersion(_ context.Context, args []string, stdout, _ io.Writer) error {
	if err := parse(flag.NewFlagSet("version", flag.ContinueOnError), args, stdout, "version"); err != nil {
		return err
	}
	fmt.Fprintln(stdout, version)
	return nil
}
