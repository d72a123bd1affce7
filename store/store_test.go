package store_test

import (
	"testing"

	"github.com/gatehouse-k8s/gatehouse/store/storetest"
)

func TestContract(t *testing.T) {
	for name, database := range storetest.Engines {
		t.Run(name, func(t *testing.T) { storetest.Run(t, database) })
	}
}
