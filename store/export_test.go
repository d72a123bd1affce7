package store

import "database/sql"

// Writer is the pool of the writer, by which tests bring about what disks and other processes do.
func (db *DB) Writer() *sql.DB { return db.write }

// SelectSignIns is the statement of a query for sign-ins.
var SelectSignIns = selectSignIns
