package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-k8s/gatehouse/seal"
)

const masterKeySynopsis = `master-key [--data-dir DIR] [--roll]

To change the master key, stop every server on the database and start them with
  gatehouse up --master-key NEW --old-master-key OLD
where NEW and OLD are file:/path, env:NAME or kms:unix:///path/of/socket. Afterwards OLD opens nothing any more but backups.`

func runMasterKey(ctx context.Context, args []string, stdout, _ io.Writer) error {
	var dir string
	fs := flag.NewFlagSet("master-key", flag.ContinueOnError)
	dataDirFlag(fs, &dir)
	roll := fs.Bool("roll", false, "encrypt every secret anew under a new data key")
	if err := parse(fs, args, stdout, masterKeySynopsis); err != nil {
		return err
	}
	method, path := http.MethodGet, "/master-key"
	if *roll {
		method, path = http.MethodPost, "/master-key/roll"
	}
	var s seal.Status
	if err := control(ctx, dir, method, path, &s); err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "master key\t%s\nid\t%s\ndata key made\t%s\nnext data key\t%s\n",
		s.Master, s.KeyID, s.Made.Format(time.RFC3339), s.Replaced.Format(time.RFC3339))
	if s.Scrub {
		fmt.Fprintf(w, "outstanding\tthe database's files are still to be rewritten; the server tries again every hour\n")
	}
	return w.Flush()
}
