package aks_test

import (
	"testing"
)

// azCreate is the body of az aks create --enable-aad, version 2.45, without what flags add.
const azCreate = `{"location":"centralus","identity":{"type":"SystemAssigned"},"properties":{"kubernetesVersion":"","dnsPrefix":"myManaged-rg-123456",
"agentPoolProfiles":[{"count":3,"vmSize":"Standard_DS2_v2","osDiskSizeGB":0,"osType":"Linux","enableNodePublicIP":false,"mode":"System","enableEncryptionAtHost":false,
"enableUltraSSD":false,"enableFIPS":false,"name":"nodepool1","orchestratorVersion":"","nodeTaints":[],"type":"VirtualMachineScaleSets"}],
"linuxProfile":{"adminUsername":"azureuser","ssh":{"publicKeys":[{"keyData":"ssh-rsa AAAA test"}]}},"addonProfiles":{},"enableRBAC":true,
"networkProfile":{"networkPlugin":"kubenet","outboundType":"loadBalancer","loadBalancerSku":"standard"},"disableLocalAccounts":false,"storageProfile":{},
"aadProfile":{"managed":true,"enableAzureRBAC":false,"adminGroupObjectIDs":["GROUP"],"tenantID":"TENANT"}}}`

func TestVertical(t *testing.T) {
	w := newWorld(t)
	w.makeGroup()
	g := w.group("admins")
	w.create("c1", managed(g.ID))
	a := w.as("admin", "GET", w.clusterPath("c1"), nil).want(200)
	t.Log(a.Body)
	a = w.as("admin", "POST", w.clusterPath("c1")+"/listClusterUserCredential", nil).want(200)
	t.Log(a.Body)
}
