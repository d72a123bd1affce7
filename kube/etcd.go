package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

// runEtcd returns when etcd was stopped; etcd leaves by itself on an error.
func runEtcd() int {
	etcdmain.Main(os.Args)
	return 0
}
