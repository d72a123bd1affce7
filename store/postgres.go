package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

func openPostgres(url string) (*DB, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil || misread(url) { // err itself may quote a password
		return nil, errors.New("the database URL cannot be read; it has the form postgres://user:password@host:5432/name, " +
			"with percent-encoding for special characters of the password (/ is %2F, @ is %40)")
	}
	// A replica that vanishes in the middle of a write must not keep the lock from the others.
	if config.RuntimeParams["idle_in_transaction_session_timeout"] == "" {
		config.RuntimeParams["idle_in_transaction_session_timeout"] = "60s"
	}
	host := config.Host
	if !strings.HasPrefix(host, "/") { // not the folder of a socket
		host = net.JoinHostPort(host, strconv.Itoa(int(config.Port)))
	}
	db := &DB{
		name:  fmt.Sprintf("PostgreSQL database %q at %s", config.Database, host),
		read:  stdlib.OpenDB(*config),
		write: stdlib.OpenDB(*config),
		engine: engine{
			lockSchema: `SELECT pg_advisory_xact_lock(7235410926)`,
			lockHead:   selectHead + ` FOR UPDATE`,
			notify:     `NOTIFY gatehouse`,
			param:      func(n int) string { return "$" + strconv.Itoa(n) },
			advice:     postgresAdvice,
			scrub:      postgresScrub,
			listen: func(ctx context.Context, db *DB, news chan<- struct{}) {
				listen(ctx, db, config, news)
			},
		},
	}
	db.write.SetMaxOpenConns(1)
	db.read.SetMaxOpenConns(8)
	db.read.SetMaxIdleConns(4)
	return db, nil
}

// misread reports whether some "@" that is not percent-encoded makes the driver take a piece of the password
// for the host or the database, whose names are shown.
func misread(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	credentials, host, found := strings.Cut(rest, "@")
	return strings.Contains(host, "@") || found && strings.ContainsAny(credentials, "/?")
}

// listen keeps a connection that listens. Each new one begins with a signal, because what was notified
// while there was none is lost.
func listen(ctx context.Context, db *DB, config *pgx.ConnConfig, news chan<- struct{}) {
	const shortest, longest = 100 * time.Millisecond, 5 * time.Second
	pause := shortest
	for {
		connected, err := listenOnce(ctx, config, news)
		if ctx.Err() != nil {
			return
		}
		if connected {
			pause = shortest
		}
		db.logger().Warn("not listening for changes until reconnected; polling", "pause", pause, "err", db.failed(ctx, "listen", err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

func listenOnce(ctx context.Context, config *pgx.ConnConfig, news chan<- struct{}) (connected bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, `LISTEN gatehouse`); err != nil {
		return false, err
	}
	for {
		signal(news)
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return true, err
		}
	}
}

// postgresScrub writes the table of secrets anew. What the server's own log and its backups hold is not in our hands.
func postgresScrub(ctx context.Context, writer *sql.DB, _ bool) error {
	_, err := writer.ExecContext(ctx, `VACUUM (FULL) secrets`)
	return err
}

func postgresAdvice(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		switch answer.Code { // https://www.postgresql.org/docs/current/errcodes-appendix.html
		case "28P01", "28000":
			return "the server refuses this user or password; check the database URL, and pg_hba.conf on the server"
		case "3D000":
			return "there is no such database; make it with CREATE DATABASE ... OWNER ..."
		case "42501":
			return "this user may not work here; make it the owner of the database with ALTER DATABASE ... OWNER TO ..."
		case "25006":
			return "this server only reads (a standby); name the primary, or add target_session_attrs=read-write to the database URL"
		case "53100":
			return "the server's disk is full; nothing was written; free some space"
		case "53300":
			return "the server has no connection left; raise its max_connections (a replica takes up to 10)"
		}
		return ""
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return "the server cannot be reached; check the address in the database URL, and that the server runs"
	}
	return ""
}
