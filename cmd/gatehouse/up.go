package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// runUp runs the server until ctx ends, which SIGINT and SIGTERM bring about.
func runUp(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	config, err := parseUp(args, stdout)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if config.Verbose {
		level = slog.LevelInfo
	}
	if config.passwordShown {
		fmt.Fprintln(stderr, "warning: every user of this machine can read the password in --database; put it into PGPASSFILE, or the whole URL into GATEHOUSE_DATABASE")
	}
	s := newServer(config, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
	err = s.start(ctx)
	if err == nil {
		s.greet(stderr)
		select {
		case <-ctx.Done():
			fmt.Fprintln(stderr, "stopping")
		case err = <-s.failed:
		}
	} else if ctx.Err() != nil {
		err = nil // asked to stop while starting
	} else if errors.Is(err, syscall.ENOSPC) {
		err = explainDisk(config.DataDir, err)
	}
	return errors.Join(err, s.stop())
}

// greet says what there is and what to type next.
func (s *server) greet(w io.Writer) {
	self := commandName()
	fmt.Fprintf(w, `gatehouse %s is ready at %s
  tenant         %s (%s)
  subscription   %s
  administrator  %s, password in %s
  proxy          %s answers for the cloud's host names
  data           %s
`, version, s.facts.URL, s.facts.Tenant, s.facts.Domain, s.facts.Subscription, s.facts.Admin, s.dir.file(passwordFile), s.facts.Proxy, s.dir.path)
	if s.clusters.KubeBinary == "" {
		fmt.Fprintf(w, "  clusters       gatehouse-kube was not found, so none can be created; run `make build` or give --kube-binary\n")
	}
	fmt.Fprintf(w, `
In another terminal:
  eval "$(%s env --data-dir %s)"
  az login -u "$GATEHOUSE_ADMIN" -p "$(cat "$GATEHOUSE_DATA_DIR/%s")"
`, self, quoted(s.dir.path), passwordFile)
}

// commandName is how the user called this program.
func commandName() string {
	name := os.Args[0]
	if path, err := exec.LookPath(filepath.Base(name)); err == nil && filepath.Base(name) == name && path != "" {
		return name
	}
	return quoted(name)
}

func quoted(s string) string {
	if strings.ContainsAny(s, " '\"$&;()<>|*?`\\") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

func lookPath(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}
