package aks

import (
	"net/http"
	"slices"

	"github.com/gatehouse-k8s/gatehouse/arm"
	"github.com/gatehouse-k8s/gatehouse/fault"
	"github.com/gatehouse-k8s/gatehouse/feed"
	"github.com/gatehouse-k8s/gatehouse/internal/web"
)

func errNoPool(q *arm.Request) error {
	return arm.ErrResourceNotFound(namespace+"/managedClusters/agentPools", q.PathValue("cluster")+"/"+q.PathValue("pool"), q.PathValue("group"))
}

func listPools(w http.ResponseWriter, q *arm.Request) error {
	c, err := find(q.View, q)
	if err != nil {
		return err
	}
	out := []any{}
	for i := range c.Pools {
		out = append(out, c.poolResource(&c.Pools[i]))
	}
	return arm.WriteList(w, out)
}

func getPool(w http.ResponseWriter, q *arm.Request) error {
	c, err := find(q.View, q)
	if err != nil {
		return err
	}
	i := poolIndex(c.Pools, q.PathValue("pool"))
	if i < 0 {
		return errNoPool(q)
	}
	return web.WriteJSON(w, http.StatusOK, c.poolResource(&c.Pools[i]))
}

// putPool adds or scales a pool. Its answer has no operation to poll: clients poll the pool's provisioningState.
func (p *Provisioner) putPool(w http.ResponseWriter, q *arm.Request) error {
	body, err := readObject(q, "properties")
	if err != nil {
		return err
	}
	properties, err := body.object("properties")
	if err != nil {
		return err
	}
	if properties == nil {
		properties = &object{at: "properties"}
	}
	g, err := parsePool(q.PathValue("pool"), *properties)
	if err != nil {
		return err
	}
	status := http.StatusOK
	c, o, err := p.begin(q, Updating, func(_ *feed.View, c *Cluster) error {
		if status = http.StatusOK; poolIndex(c.Pools, g.name) < 0 {
			status = http.StatusCreated
		}
		c.Pools, err = desiredPools(c, []poolGiven{g})
		return err
	})
	if err != nil {
		return err
	}
	q.PollStatus(w, o, false)
	return web.WriteJSON(w, status, c.poolResource(&c.Pools[poolIndex(c.Pools, g.name)]))
}

func (p *Provisioner) deletePool(w http.ResponseWriter, q *arm.Request) error {
	_, o, err := p.begin(q, Updating, func(_ *feed.View, c *Cluster) error {
		i := poolIndex(c.Pools, q.PathValue("pool"))
		if i < 0 {
			return errNoPool(q)
		}
		c.Pools = slices.Delete(slices.Clone(c.Pools), i, i+1)
		return checkPools(c.Pools)
	})
	if fault.Is(err, fault.NotFound) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	q.PollStatus(w, o, true)
	w.WriteHeader(http.StatusAccepted)
	return nil
}
