package main

import (
	"fmt"
	"runtime"

	etcd "go.etcd.io/etcd/api/v3/version"
	kubernetes "k8s.io/component-base/version"
)

func runVersion() int {
	fmt.Printf("kubernetes %s\netcd v%s\n%s %s/%s\n",
		kubernetes.Get().GitVersion, etcd.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return 0
}
